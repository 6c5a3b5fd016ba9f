"""tensorflow-io's DICOM op compared with pydicom. Most of these tests run in `make test-tfio`, where the op loads."""

import importlib.util
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit

from beam_jobs.decoding import tfio_dicom
from beam_jobs.decoding.tfio_dicom import pixels_alone
from schemas.pixels.decode import decode
from schemas.pixels.rejection import Decoded, ImageRejected, Reason
from schemas.pixels.settings import ImageSettings
from tests.conftest import Result, files_of, write_images
from tests.schemas.dicom_files import dicom_bytes, dicom_file, dicom_object, encapsulated, twelve_bits
from tests.schemas.image_files import GOOD
from tests.schemas.pictures import NAMES, picture, saved

SETTINGS = ImageSettings(image_size=256)
Decode = Callable[[bytes], Decoded]


def chest(height: int, width: int, greatest: int) -> NDArray[np.float64]:
    """A frontal chest as a detector records it: bright middle, two dark lungs, noise. Float [height, width]."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    body = np.exp(-((x / 0.8) ** 4) - (y / 1.2) ** 4)
    lungs = sum(np.exp(-(((x - side) / 0.28) ** 2) - ((y + 0.1) / 0.55) ** 2) for side in (-0.42, 0.42))
    ribs = 0.05 * np.cos(18 * y + 6 * x**2)
    noise = np.random.default_rng(0).normal(0, 0.01, (height, width))
    grays: NDArray[np.float64] = np.clip(0.15 + 0.7 * body - 0.45 * lungs + ribs + noise, 0, 1) * greatest
    return grays


def cr_monochrome1() -> bytes:
    """Computed radiography, 10 bits, low values white, a window, without file meta information."""
    pixels = chest(440, 440, 1023).astype(np.uint16)
    elements = {"BitsStored": 10, "HighBit": 9, "WindowCenter": 500, "WindowWidth": 900}
    dataset = dicom_object(pixels, PhotometricInterpretation="MONOCHROME1", Modality="CR", **elements)
    return dicom_bytes(dataset, ImplicitVRLittleEndian, bare=True)


def dx_eight_bits() -> bytes:
    """Digital radiography, 8 bits, 1024x1024."""
    return dicom_file(chest(1024, 1024, 255).astype(np.uint8))


def cr_jpeg() -> bytes:
    """Computed radiography, 1024x1024, JPEG baseline."""
    frame = saved(Image.fromarray(chest(1024, 1024, 255).astype(np.uint8)), "JPEG", quality=90)
    return encapsulated(frame, JPEGBaseline8Bit, Rows=1024, Columns=1024, Modality="CR")


@pytest.mark.skipif(importlib.util.find_spec("tensorflow_io") is not None, reason="tensorflow-io is installed")
def test_the_error_names_the_working_versions_if_tensorflow_io_does_not_load(
    tmp_path: Path, convert: Callable[..., Result]
) -> None:
    raw = write_images(tmp_path / "raw", ["NORMAL/1.png", "PNEUMONIA/2.png"])
    result = convert(raw, tmp_path / "out", "--dicom_decoder", "tfio")
    assert result.code == 2
    for part in ("--dicom_decoder tfio", "tensorflow-cpu 2.16.2 with tensorflow-io 0.37.1", "extra tfio"):
        assert part in result.error
    assert not (tmp_path / "out").exists()
    wrong = convert(raw, tmp_path / "out", "--dicom_decoder", "dcmtk")
    assert (wrong.code, "must be one of pydicom, tfio" in wrong.error) == (2, True)


def test_the_op_gets_the_pixels_but_no_names() -> None:
    dataset = dicom_object(twelve_bits(), WindowCenter=5, RescaleSlope=2, PhotometricInterpretation="MONOCHROME1")
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    data = pixels_alone(dataset)
    assert dataset.PixelData in data
    assert not [name for name in NAMES if name.encode() in data]


@pytest.fixture(scope="module")
def decoders() -> tuple[Decode, Decode]:
    return partial(tfio_dicom.decode, settings=SETTINGS), partial(decode, settings=SETTINGS)


def far(decoders: tuple[Decode, Decode], data: bytes) -> int:
    one, other = (decoder(data).pixels.astype(int) for decoder in decoders)
    assert one.std() > 10
    return int(np.abs(one - other).max())


@pytest.mark.tfio
@pytest.mark.parametrize("make", [cr_monochrome1, dx_eight_bits, cr_jpeg])
def test_chest_images_agree_to_within_one_level(decoders: tuple[Decode, Decode], make: Callable[[], bytes]) -> None:
    assert far(decoders, make()) <= 1


@pytest.mark.tfio
@pytest.mark.parametrize("kind", [kind for kind in GOOD if kind.endswith(".dcm")])
def test_unusual_files_agree(decoders: tuple[Decode, Decode], kind: str) -> None:
    assert far(decoders, GOOD[kind]()) <= 1


@pytest.mark.tfio
@pytest.mark.parametrize(
    "elements",
    [
        {"WindowCenter": 900, "WindowWidth": 700, "RescaleSlope": "0.5", "RescaleIntercept": "-50"},
        {"PhotometricInterpretation": "MONOCHROME1"},
        {"PixelPaddingValue": 0},
    ],
)
@pytest.mark.parametrize("signed", [False, True])
def test_value_transforms_agree(decoders: tuple[Decode, Decode], elements: dict[str, Any], signed: bool) -> None:
    pixels = twelve_bits().astype(np.int16) - 2048 if signed else twelve_bits()
    assert far(decoders, dicom_file(pixels, BitsStored=12, HighBit=11, **elements)) <= 1


@pytest.mark.tfio
@pytest.mark.parametrize("syntax", [DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_other_native_transfer_syntaxes_agree(decoders: tuple[Decode, Decode], syntax: str) -> None:
    assert far(decoders, dicom_bytes(dicom_object(twelve_bits()), syntax)) <= 1


@pytest.mark.tfio
def test_an_image_that_the_op_cannot_decode_is_rejected(decoders: tuple[Decode, Decode]) -> None:
    with pytest.raises(ImageRejected) as caught:
        decoders[0](encapsulated(picture("JPEG")[:200] + bytes(2)))
    assert caught.value.reason in (Reason.UNSUPPORTED, Reason.TRUNCATED, Reason.DAMAGED)


@pytest.mark.tfio
def test_a_conversion_gives_the_same_shards_with_either_decoder(tmp_path: Path, convert: Callable[..., Result]) -> None:
    raw = write_images(tmp_path / "raw", [f"{label}/{n}.png" for label in ("NORMAL", "PNEUMONIA") for n in range(5)])
    (raw / "NORMAL/dx.dcm").write_bytes(dx_eight_bits())
    for decoder in ("tfio", "pydicom"):
        result = convert(raw, tmp_path / decoder, "--dicom_decoder", decoder)
        assert result.code == 0, result.err
    shards = [{n: c for n, c in files_of(tmp_path / d).items() if ".tfrecord-" in n} for d in ("tfio", "pydicom")]
    assert shards[0] == shards[1]


@pytest.mark.tfio
@pytest.mark.skipif(not os.environ.get("RADRECORDS_DICOM_FOLDER"), reason="RADRECORDS_DICOM_FOLDER names no folder")
def test_the_files_in_a_folder_agree(decoders: tuple[Decode, Decode]) -> None:
    files = sorted(Path(os.environ["RADRECORDS_DICOM_FOLDER"]).rglob("*.dcm"))
    assert files
    for file in files:
        assert far(decoders, file.read_bytes()) <= 1, file.name
