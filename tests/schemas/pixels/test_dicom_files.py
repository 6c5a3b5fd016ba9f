"""DICOM files as containers: transfer syntaxes, damage, contradictions, and names that must reach nobody."""

import io
import logging
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from schemas.pixels.decode import decode
from schemas.pixels.rejection import NO_FILE_META, ImageRejected, Reason
from schemas.pixels.settings import ImageSettings
from tests.schemas import image_files
from tests.schemas.dicom_files import (
    dicom_bytes,
    dicom_file,
    dicom_object,
    encapsulated,
    twelve_bits,
    without_pixels,
    wrong_rows,
)
from tests.schemas.pictures import NAMES, saved, scene
from tests.schemas.pixels.test_dicom import SETTINGS, far, pixels, rejected, small


def test_missing_file_meta_information_is_noted() -> None:
    for kind in ("no file meta.dcm", "explicit no file meta.dcm"):
        assert decode(image_files.GOOD[kind](), SETTINGS).notes == (NO_FILE_META,)
    assert decode(dicom_file(), SETTINGS).notes == ()


@pytest.mark.parametrize("syntax", [DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_other_native_transfer_syntaxes_are_read(syntax: str) -> None:
    np.testing.assert_array_equal(pixels(dicom_bytes(dicom_object(scene()), syntax)), pixels(dicom_file()))


def test_run_length_encoding_is_read() -> None:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    whole = FileDataset("", dicom_object(twelve_bits()), preamble=bytes(128), file_meta=meta)
    whole.compress(RLELossless)
    stream = io.BytesIO()
    whole.save_as(stream, enforce_file_format=True)
    np.testing.assert_array_equal(pixels(stream.getvalue()), pixels(dicom_file(twelve_bits())))


def test_jpeg_2000_is_read_and_its_size_is_checked() -> None:
    frame = saved(Image.fromarray(scene()), "JPEG2000", no_jp2=True)
    np.testing.assert_array_equal(pixels(encapsulated(frame, JPEG2000Lossless)), pixels(dicom_file()))
    large = saved(Image.new("L", (3000, 3000)), "JPEG2000", no_jp2=True)
    assert rejected(encapsulated(large, JPEG2000Lossless)).reason is Reason.SIZE_MISMATCH


def test_damage_in_an_encapsulated_jpeg_is_noticed() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (120, 160)).astype(np.uint8)
    frame = image_files.damaged_in_the_middle(saved(Image.fromarray(noise), "JPEG"))
    assert rejected(encapsulated(frame)).reason is Reason.DAMAGED


@pytest.mark.parametrize("photometric", ["YBR_FULL_422", "RGB"])
def test_damage_and_cuts_in_an_encapsulated_colour_jpeg_are_noticed(photometric: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (120, 160, 3)).astype(np.uint8)
    frame = saved(Image.fromarray(noise), "JPEG")
    elements: dict[str, Any] = {"SamplesPerPixel": 3, "PlanarConfiguration": 0}
    elements["PhotometricInterpretation"] = photometric
    assert pixels(encapsulated(frame, **elements)).std() > 5
    colour = np.stack([scene(), 255 - scene(), scene() // 2], 2)
    calm = saved(Image.fromarray(colour), "JPEG", quality=95)
    assert far(pixels(encapsulated(calm, **elements)), small(colour @ [0.299, 0.587, 0.114])) <= 4
    assert rejected(encapsulated(frame[:-3000], **elements)).reason is Reason.TRUNCATED
    damaged = image_files.damaged_in_the_middle(frame, 300)
    assert rejected(encapsulated(damaged, **elements)).reason is Reason.DAMAGED


def test_files_cut_in_the_header_are_rejected_mostly_as_truncated() -> None:
    data = dicom_file()
    pixels_at = data.index(b"\xe0\x7f\x10\0")
    reasons = [rejected(data[:end]).reason for end in range(140, pixels_at + 100)]
    # If a cut falls between two elements, nothing shows that there were more.
    assert set(reasons) == {Reason.TRUNCATED, Reason.NO_PIXEL_DATA, Reason.NOT_AN_IMAGE}
    assert reasons.count(Reason.TRUNCATED) > len(reasons) - 35


def test_burned_in_annotation_can_be_allowed() -> None:
    data = dicom_file(BurnedInAnnotation="YES")
    for said in ("YES", "yes", ["NO", "YES"]):
        assert rejected(dicom_file(BurnedInAnnotation=said)).reason is Reason.BURNED_IN_ANNOTATION
    np.testing.assert_array_equal(
        decode(data, ImageSettings(allow_burned_in=True)).pixels[:, :, 0], pixels(dicom_file())
    )
    assert decode(dicom_file(BurnedInAnnotation="NO"), SETTINGS).format == "dicom"


def test_a_transfer_syntax_is_named_only_if_it_is_public() -> None:
    assert "MPEG2 Main Profile" in rejected(image_files.REJECTED["video.dcm"][0]()).detail
    private = rejected(encapsulated(b"\1\2\3\4", "1.2.840.99999.77"))
    assert private.reason is Reason.UNSUPPORTED_TRANSFER_SYNTAX
    assert "77" not in private.detail


def test_a_deflated_bomb_is_rejected() -> None:
    plain = dicom_bytes(dicom_object(scene()), DeflatedExplicitVRLittleEndian)
    meta_end = 144 + int.from_bytes(plain[140:144], "little")
    compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = compressor.compress(bytes(60_000_000)) + compressor.flush()
    error = rejected(plain[:meta_end] + bomb, ImageSettings(max_pixels=1_000_000))
    assert error.reason is Reason.TOO_MANY_PIXELS


def test_endless_nesting_is_rejected() -> None:
    item = b"\x40\0\x75\x02SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    head = dicom_bytes(dicom_object())
    assert rejected(head + item * 20_000).reason in (Reason.DAMAGED, Reason.TRUNCATED)


@pytest.mark.parametrize(
    ("keyword", "value", "reason"),
    [
        ("BitsAllocated", 32, Reason.UNSUPPORTED),
        ("SamplesPerPixel", 4, Reason.UNSUPPORTED),
        ("PhotometricInterpretation", "ARGB", Reason.UNSUPPORTED),
        ("Columns", 161, Reason.SIZE_MISMATCH),
        ("Rows", 0, Reason.TOO_SMALL),
        ("Columns", 5, Reason.BAD_ASPECT),
    ],
)
def test_contradictory_elements_are_rejected(keyword: str, value: object, reason: Reason) -> None:
    dataset = dicom_object(scene())
    setattr(dataset, keyword, value)
    assert rejected(dicom_bytes(dataset)).reason is reason


@pytest.mark.parametrize("keyword", ["Rows", "BitsAllocated", "PhotometricInterpretation"])
def test_missing_elements_are_rejected(keyword: str) -> None:
    dataset = dicom_object(scene())
    delattr(dataset, keyword)
    assert rejected(dicom_bytes(dataset)).reason is Reason.DAMAGED


def test_names_reach_no_message_and_no_log(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    """The names are also where they do not belong: in numbers, codes and UIDs, which decoders like to quote."""
    broken = [dicom_file()[:-100], wrong_rows(), without_pixels()]
    for keyword, value in {
        "PhotometricInterpretation": "AAAAAAAAAAAAA",
        "BurnedInAnnotation": "AAAAAAAAAAAAA",
        "VOILUTFunction": "AAAAAAAAAAAAA",
        "WindowCenter": "0000000000001",
        "WindowWidth": "0000000000001",
        "RescaleSlope": "0000000000001",
        "NumberOfFrames": "000000000001",
        "SOPClassUID": "1.2.3.4.5.6.7",
    }.items():
        elements = {"WindowCenter": 100, "WindowWidth": 50, "RescaleSlope": 1, "RescaleIntercept": 0, keyword: value}
        data = dicom_file(scene(), **elements)
        assert value.encode() in data
        broken.append(data.replace(value.encode(), NAMES[0][: len(value)].encode()))
    said = ""
    with caplog.at_level(logging.DEBUG):
        for data in broken:
            try:
                decode(data, SETTINGS)
            except ImageRejected as error:
                said += f"{error!r} {error.args} {error.__cause__}"
    said += "".join(record.getMessage() for record in caplog.records) + "".join(capfd.readouterr())
    assert "truncated" in said.lower()
    assert not [name for name in NAMES if name[:7] in said]
