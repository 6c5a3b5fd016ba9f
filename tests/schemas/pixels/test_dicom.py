import io
import logging
import zlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from schemas.pixels.decode import decode
from schemas.pixels.rejection import NO_FILE_META, NO_USABLE_WINDOW, ImageRejected, Reason
from schemas.pixels.settings import ImageSettings
from tests.schemas import image_files
from tests.schemas.image_files import NAMES, dicom_bytes, dicom_file, dicom_object, encapsulated, scene, twelve_bits

SETTINGS = ImageSettings()


def pixels(data: bytes) -> NDArray[np.int_]:
    return decode(data, SETTINGS).pixels[:, :, 0].astype(int)


def small(levels: NDArray[Any]) -> NDArray[np.float64]:
    """Levels 0 to 255, resized from 120x160 (the scene's size) to 64x64 as means over blocks of an enlarged image."""
    means: NDArray[np.float64] = levels.repeat(8, 0).repeat(2, 1).reshape(64, 15, 64, 5).mean((1, 3))
    return means


def far(actual: NDArray[Any], expected: NDArray[Any]) -> float:
    return float(np.abs(actual - expected).max())


def rejected(data: bytes, settings: ImageSettings = SETTINGS) -> ImageRejected:
    with pytest.raises(ImageRejected) as caught:
        decode(data, settings)
    return caught.value


def lut(first: int, entries: NDArray[Any], bits: int) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(entries), first, bits])
    item.add_new("LUTData", "US", [int(entry) for entry in entries])
    return item


def test_twelve_bits_span_the_full_range() -> None:
    assert far(pixels(dicom_file(twelve_bits(), BitsStored=12, HighBit=11)), small(twelve_bits() / 4095 * 255)) <= 2


def test_eight_bits_keep_their_levels() -> None:
    assert far(pixels(dicom_file()), small(scene().astype(float))) <= 2


def test_signed_values_equal_unsigned_ones() -> None:
    signed = twelve_bits().astype(np.int16) - 2000
    np.testing.assert_array_equal(pixels(dicom_file(signed)), pixels(dicom_file(twelve_bits())))


def test_monochrome1_is_inverted() -> None:
    one = pixels(dicom_file(twelve_bits(), PhotometricInterpretation="MONOCHROME1"))
    assert far(one, 255 - pixels(dicom_file(twelve_bits()))) <= 1


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("window", [{}, {"WindowCenter": 900, "WindowWidth": 700}], ids=["range", "window"])
def test_padding_is_black_and_does_not_change_other_levels(photometric: str, window: dict[str, int]) -> None:
    elements = {"PhotometricInterpretation": photometric, **window}
    plain, padded = twelve_bits(), twelve_bits()
    plain[:60], padded[:60] = plain[60:].min(), np.resize([60000, 60007], 160)
    image = pixels(dicom_file(padded, PixelPaddingValue=60007, PixelPaddingRangeLimit=60000, **elements))
    assert (image[:31] == 0).all()
    np.testing.assert_array_equal(image[33:], pixels(dicom_file(plain, **elements))[33:])


def test_padding_with_the_wrong_sign_is_recognised() -> None:
    plain, padded = twelve_bits().astype(np.int16), twelve_bits().astype(np.int16)
    plain[:60], padded[:60] = plain[60:].min(), -2000
    dataset = dicom_object(padded)
    dataset.add_new("PixelPaddingValue", "US", 65536 - 2000)
    np.testing.assert_array_equal(pixels(dicom_bytes(dataset))[33:], pixels(dicom_file(plain))[33:])


def test_padding_that_covers_the_whole_image_is_ignored() -> None:
    declared = dicom_file(twelve_bits(), PixelPaddingValue=0, PixelPaddingRangeLimit=65535)
    np.testing.assert_array_equal(pixels(declared), pixels(dicom_file(twelve_bits())))


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_a_window_equals_pydicoms(function: str) -> None:
    elements = {
        "WindowCenter": 1000,
        "WindowWidth": 1400,
        "VOILUTFunction": function,
        "RescaleSlope": "0.5",
        "RescaleIntercept": "-50",
        "BitsStored": 12,
        "HighBit": 11,
    }
    dataset = dicom_object(twelve_bits(), **elements)
    shown = apply_voi_lut(apply_modality_lut(twelve_bits(), dataset), dataset)
    # pydicom's output has the range of the rescaled stored values.
    expected = (shown + 50) / (4095 * 0.5) * 255
    assert far(pixels(dicom_bytes(dataset)), small(expected)) <= 2


def test_the_first_of_several_windows_is_used() -> None:
    several = dicom_file(twelve_bits(), WindowCenter=[900, 3000], WindowWidth=[700, 100])
    np.testing.assert_array_equal(pixels(several), pixels(dicom_file(twelve_bits(), WindowCenter=900, WindowWidth=700)))


@pytest.mark.parametrize("width", [0, -5, 0.25])
def test_a_forbidden_window_is_noted_and_not_used(width: float) -> None:
    decoded = decode(dicom_file(twelve_bits(), WindowCenter=900, WindowWidth=width), SETTINGS)
    assert decoded.notes == (NO_USABLE_WINDOW,)
    np.testing.assert_array_equal(decoded.pixels[:, :, 0], pixels(dicom_file(twelve_bits())))


def test_a_window_of_width_one_is_a_threshold() -> None:
    result = pixels(dicom_file(twelve_bits(), WindowCenter=2000, WindowWidth=1))
    np.testing.assert_array_equal(result, pixels(dicom_file(np.where(twelve_bits() >= 2000, 255, 0).astype(np.uint8))))


def test_a_voi_lut_takes_precedence_over_the_window() -> None:
    entries = np.rint(4095 * (np.arange(3000) / 2999) ** 2)
    dataset = dicom_object(twelve_bits(), VOILUTSequence=[lut(500, entries, 12)], WindowCenter=1, WindowWidth=2)
    expected = apply_voi_lut(twelve_bits(), dataset) / 4095 * 255
    assert far(pixels(dicom_bytes(dataset)), small(expected)) <= 2


def test_a_modality_lut_is_applied() -> None:
    entries = 4095 - np.arange(4096)
    dataset = dicom_object(twelve_bits(), ModalityLUTSequence=[lut(0, entries, 16)])
    assert far(pixels(dicom_bytes(dataset)), 255 - pixels(dicom_file(twelve_bits()))) <= 1


def test_colour_becomes_luma() -> None:
    colour = np.stack([scene(), scene()[::-1], scene()[:, ::-1]], 2)
    expected = colour @ [0.299, 0.587, 0.114]
    assert far(pixels(dicom_file(colour)), small(expected)) <= 3
    luma = np.stack([scene(), np.full_like(scene(), 128), np.full_like(scene(), 128)], 2)
    assert far(pixels(dicom_file(luma, PhotometricInterpretation="YBR_FULL")), small(scene().astype(float))) <= 3


@pytest.mark.parametrize("bits", [8, 16])
def test_palette_colours_become_luma(bits: int) -> None:
    ramps = [np.arange(256)[::-1], np.arange(256), np.full(256, 80)]
    elements: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour, ramp in zip(("Red", "Green", "Blue"), ramps, strict=True):
        words = ramp.astype(np.uint8) if bits == 8 else (ramp * 257).astype(np.uint16)
        elements[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, bits]
        elements[f"{colour}PaletteColorLookupTableData"] = words.tobytes()
    expected = 0.299 * (255.0 - scene()) + 0.587 * scene() + 0.114 * 80
    assert far(pixels(dicom_file(scene(), **elements)), small(expected)) <= 2


def test_a_palette_image_without_a_palette_is_rejected() -> None:
    assert rejected(dicom_file(PhotometricInterpretation="PALETTE COLOR")).reason is Reason.UNSUPPORTED


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
    frame = image_files.saved(Image.fromarray(scene()), "JPEG2000", no_jp2=True)
    np.testing.assert_array_equal(pixels(encapsulated(frame, JPEG2000Lossless)), pixels(dicom_file()))
    large = image_files.saved(Image.new("L", (3000, 3000)), "JPEG2000", no_jp2=True)
    assert rejected(encapsulated(large, JPEG2000Lossless)).reason is Reason.SIZE_MISMATCH


def test_damage_in_an_encapsulated_jpeg_is_noticed() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (120, 160)).astype(np.uint8)
    frame = image_files.damaged_in_the_middle(image_files.saved(Image.fromarray(noise), "JPEG"))
    assert rejected(encapsulated(frame)).reason is Reason.DAMAGED


@pytest.mark.parametrize("photometric", ["YBR_FULL_422", "RGB"])
def test_damage_and_cuts_in_an_encapsulated_colour_jpeg_are_noticed(photometric: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (120, 160, 3)).astype(np.uint8)
    frame = image_files.saved(Image.fromarray(noise), "JPEG")
    elements: dict[str, Any] = {"SamplesPerPixel": 3, "PlanarConfiguration": 0}
    elements["PhotometricInterpretation"] = photometric
    assert pixels(encapsulated(frame, **elements)).std() > 5
    colour = np.stack([scene(), 255 - scene(), scene() // 2], 2)
    calm = image_files.saved(Image.fromarray(colour), "JPEG", quality=95)
    assert far(pixels(encapsulated(calm, **elements)), small(colour @ [0.299, 0.587, 0.114])) <= 4
    assert rejected(encapsulated(frame[:-3000], **elements)).reason is Reason.TRUNCATED
    damaged = image_files.damaged_in_the_middle(frame, 300)
    assert rejected(encapsulated(damaged, **elements)).reason is Reason.DAMAGED


def test_stored_bits_are_located_by_the_high_bit() -> None:
    plain = pixels(dicom_file(twelve_bits(), BitsStored=12, HighBit=11))
    overlay = twelve_bits() | (np.arange(160, dtype=np.uint16) % 16 << 12)
    np.testing.assert_array_equal(pixels(dicom_file(overlay, BitsStored=12, HighBit=11)), plain)
    upper = twelve_bits() << 4 | np.arange(160, dtype=np.uint16) % 16
    np.testing.assert_array_equal(pixels(dicom_file(upper, BitsStored=12, HighBit=15)), plain)
    signed = (twelve_bits().astype(np.int16) - 2048) << 4
    np.testing.assert_array_equal(pixels(dicom_file(signed, BitsStored=12, HighBit=15)), plain)


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
    broken = [dicom_file()[:-100], image_files.wrong_rows(), image_files.without_pixels()]
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


@pytest.mark.parametrize("keyword", ["RescaleSlope", "RescaleIntercept"])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e400"])
def test_a_rescale_value_that_is_not_finite_is_damage(keyword: str, value: str) -> None:
    elements = {"RescaleSlope": "1000000", "RescaleIntercept": "1000000", keyword: "7777777"}
    data = image_files.dicom_file(image_files.twelve_bits(), **elements).replace(b"7777777", value.ljust(7).encode())
    with pytest.raises(ImageRejected) as caught:
        decode(data, SETTINGS)
    assert caught.value.reason is Reason.DAMAGED
