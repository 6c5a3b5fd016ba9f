"""Environments without some decoder: what they cannot read is unsupported, and never damaged."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from pydicom.pixels.decoders.base import _PIXEL_DATA_DECODERS
from pydicom.uid import UID, JPEG2000Lossless, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLosslessSV1, RLELossless

from schemas.pixels.decode import decode
from schemas.pixels.settings import ImageSettings
from tests.conftest import ROOT
from tests.schemas import image_files
from tests.schemas.dicom_files import encapsulated, twelve_bits
from tests.schemas.pictures import saved, scene

# Hides modules, then prints the outcome of each file.
DECODE = """
import sys
from pathlib import Path
hidden, folder = sys.argv[1].split(","), Path(sys.argv[2])
if hidden == ["libtiff"]:
    from PIL import Image
    del Image.core.libtiff_decoder, Image.core.libtiff_encoder
else:
    sys.modules.update(dict.fromkeys(hidden))
from schemas.pixels.decode import decode
from schemas.pixels.rejection import ImageRejected
from schemas.pixels.settings import ImageSettings
for path in sorted(folder.iterdir()):
    try:
        decode(path.read_bytes(), ImageSettings())
        print(path.name, "decoded")
    except ImageRejected as rejected:
        print(path.name, rejected.reason.value)
"""
PLUGINS = "pylibjpeg,libjpeg,openjpeg,rle,gdcm"


def outcomes(files: dict[str, bytes], hidden: str, folder: Path) -> dict[str, str]:
    """The outcome of decoding each file in a process without the modules `hidden`."""
    for name, content in files.items():
        (folder / name).write_bytes(content)
    command = [sys.executable, "-c", DECODE, hidden, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return dict(line.split(" ") for line in done.stdout.splitlines())


def marked(frame: bytes, marker: int, bits: int) -> bytes:
    """A baseline JPEG whose frame header says something else."""
    at = frame.index(b"\xff\xc0")
    return frame[: at + 1] + bytes([marker]) + frame[at + 2 : at + 4] + bytes([bits]) + frame[at + 5 :]


def dicom_of_every_syntax() -> dict[str, bytes]:
    """A file in each compressed transfer syntax that pydicom knows, and the deep ones."""
    frame = saved(Image.fromarray(scene()), "JPEG")
    deep = {"BitsAllocated": 16, "BitsStored": 12, "HighBit": 11}
    plain = saved(Image.fromarray(scene()), "JPEG2000", no_jp2=True)
    sixteen = saved(Image.fromarray(twelve_bits()), "JPEG2000", no_jp2=True)
    # One more bit than a decoder of 16-bit integers can take.
    beyond = sixteen[:42] + bytes([16]) + sixteen[43:]
    syntaxes = [UID(syntax) for syntax in _PIXEL_DATA_DECODERS if UID(syntax).is_encapsulated]
    return {str(syntax): encapsulated(frame, syntax) for syntax in syntaxes if syntax != RLELossless} | {
        "12-bit": encapsulated(marked(frame, 0xC1, 12), JPEGExtended12Bit, **deep),
        "8-bit-of-12": encapsulated(frame, JPEGExtended12Bit, **deep),
        "lossless-as-extended": encapsulated(marked(frame, 0xC3, 8), JPEGExtended12Bit),
        "cut-extended": encapsulated(frame[: len(frame) // 2], JPEGExtended12Bit),
        "jpeg-2000": encapsulated(plain, JPEG2000Lossless),
        "jpeg-2000-of-16": encapsulated(sixteen, JPEG2000Lossless, BitsAllocated=16, BitsStored=16, HighBit=15),
        "jpeg-2000-of-17": encapsulated(beyond, JPEG2000Lossless, BitsAllocated=16, BitsStored=16, HighBit=15),
        "cut-jpeg-2000": encapsulated(plain[:60], JPEG2000Lossless),
    }


def test_what_needs_a_plugin_of_pydicom_is_unsupported_without_it(tmp_path: Path) -> None:
    found = outcomes(dicom_of_every_syntax(), PLUGINS, tmp_path)
    readable = {JPEGBaseline8Bit, JPEGExtended12Bit, "jpeg-2000", "jpeg-2000-of-16"}
    readable |= {syntax for syntax in found if "1.2.840.10008.1.2.4.9" in syntax}  # JPEG 2000, which Pillow reads
    assert {name for name, outcome in found.items() if outcome == "decoded"} == readable
    assert {name for name, outcome in found.items() if outcome in ("damaged", "truncated")} == {
        "cut-extended",
        "cut-jpeg-2000",
    }
    others = {outcome for outcome in found.values() if outcome not in ("decoded", "damaged", "truncated")}
    assert others == {"unsupported_transfer_syntax"}


@pytest.mark.parametrize("name", ["12-bit", JPEGLosslessSV1])
def test_the_same_file_is_read_with_the_plugin(name: str) -> None:
    assert decode(dicom_of_every_syntax()[name], ImageSettings()).format == "dicom"


@pytest.mark.parametrize(
    ("hidden", "kinds"),
    [
        ("PIL._webp", {"lossless.webp": "unsupported", "gray.png": "decoded"}),
        ("libtiff", {"deflate.tif": "unsupported", "gray.png": "decoded"}),
        ("pydicom", {"digital.dcm": "unsupported", "gray.png": "decoded"}),
    ],
)
def test_formats_that_the_environment_lacks_are_unsupported(hidden: str, kinds: dict[str, str], tmp_path: Path) -> None:
    made: dict[str, bytes] = {
        "lossless.webp": image_files.GOOD["lossless.webp"](),
        "gray.png": saved(Image.fromarray(scene()), "PNG"),
        "deflate.tif": saved(Image.fromarray(scene()), "TIFF", compression="tiff_adobe_deflate"),
        "digital.dcm": encapsulated(saved(Image.fromarray(scene()), "JPEG")),
    }
    assert outcomes({name: made[name] for name in kinds}, hidden, tmp_path) == kinds
