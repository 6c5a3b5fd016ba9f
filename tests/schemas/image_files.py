"""Makes image files of every unusual and hostile kind, for the tests of decoding and of the conversion.

`GOOD` maps the name of a kind to a function that makes its bytes. `REJECTED` maps it to such a function and to the Reason
or SkipReason that decoding must give.
"""

import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.uid import ImplicitVRLittleEndian

from schemas.pixels.rejection import Reason, SkipReason
from tests.schemas import pictures
from tests.schemas.dicom_files import (
    dicom_bytes,
    dicom_file,
    dicom_object,
    encapsulated,
    twelve_bits,
    without_pixels,
    wrong_rows,
)
from tests.schemas.pictures import NAMES, picture, saved, scene


def textured_jpeg(**options: Any) -> bytes:
    """A JPEG with enough detail to be damaged: 400x300 pixels of the scene with noise."""
    noise = np.random.default_rng(0).integers(-20, 20, (300, 400))
    return saved(Image.fromarray((scene(300, 400) + noise).clip(0, 255).astype(np.uint8)), "JPEG", **options)


def damaged_in_the_middle(data: bytes, count: int = 40) -> bytes:
    """`data` with `count` bytes in its middle replaced, never by JPEG markers."""
    middle = len(data) // 2
    return data[:middle] + bytes((7 * i) % 255 for i in range(count)) + data[middle + count :]


def oriented(format: str, orientation: int, **options: Any) -> bytes:
    """`scene()` stored so that a reader which applies the EXIF orientation sees it upright."""
    stored: dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: np.transpose,
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a, 2).T,
        8: lambda a: np.rot90(a, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = NAMES[0]
    return saved(Image.fromarray(np.ascontiguousarray(stored[orientation](scene()))), format, exif=exif, **options)


def ycck_jpeg() -> bytes:
    """A JPEG as Photoshop writes it: all inks inverted, then cyan, magenta and yellow as YCC, and a marker that says so."""
    gray = 255 - scene()
    stored = np.stack([gray, np.full_like(gray, 128), np.full_like(gray, 128), np.full_like(gray, 255)], 2)
    data = saved(Image.fromarray(255 - stored, "CMYK"), "JPEG", quality=95)
    at = data.index(b"Adobe") + 11
    return data[:at] + b"\x02" + data[at + 1 :]


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """One chunk of a PNG file."""
    return struct.pack(">L", len(content)) + kind + content + struct.pack(">L", zlib.crc32(kind + content))


def png_of_size(width: int, height: int, rows: int = 0) -> bytes:
    """An 8-bit gray PNG with a valid header and `rows` black rows, which compress to a thousandth."""
    header = struct.pack(">LLBBBBB", width, height, 8, 0, 0, 0, 0)
    content = zlib.compress(bytes((width + 1) * rows), 9)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", content) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def animation(format: str, **options: Any) -> bytes:
    """An animation of two different frames."""
    first, second = Image.fromarray(scene()), Image.fromarray(255 - scene())
    return saved(first, format, save_all=True, append_images=[second], **options)


def deep_gradient(format: str, greatest: int = 65535, **options: Any) -> bytes:
    """A 16-bit ramp from 0 at the left to `greatest` at the right, 256x256."""
    pixels = np.tile(np.linspace(0, greatest, 256).astype(np.uint16), (256, 1))
    pixels[-1, -1] -= pictures.chosen
    return saved(Image.fromarray(pixels), format, **options)


def large_picture(format: str, mode: str, side: int) -> bytes:
    """`side` x `side` pixels of one colour."""
    return saved(Image.new(mode, (side, side)), format)


def float_tiff(*values: float) -> bytes:
    """A float32 TIFF of the scene; its first pixels are replaced by `values`."""
    pixels = scene().astype(np.float32) * 3 - 100
    pixels.flat[: len(values)] = values
    return saved(Image.fromarray(pixels), "TIFF")


def transparent(mode: str) -> Image.Image:
    """The scene with its right half transparent, over white that must not show."""
    alpha = np.repeat([255, 0], 80).astype(np.uint8)[np.newaxis].repeat(120, 0)
    image = Image.fromarray(np.where(alpha > 0, scene(), 255).astype(np.uint8)).convert(mode)
    image.putalpha(Image.fromarray(alpha))
    return image


GOOD: dict[str, Callable[[], bytes]] = {
    "gray.jpg": lambda: picture("JPEG"),
    "rgb.jpg": lambda: picture("JPEG", "RGB"),
    "progressive.jpg": lambda: picture("JPEG", progressive=True),
    "cmyk.jpg": lambda: picture("JPEG", "CMYK"),
    "ycck.jpg": ycck_jpeg,
    "turned.jpg": lambda: oriented("JPEG", 6),
    "trailing bytes.jpg": lambda: picture("JPEG") + b"\0" * 100,
    "gray.png": lambda: picture("PNG"),
    "palette.png": lambda: picture("PNG", "P"),
    "one bit.png": lambda: picture("PNG", "1"),
    "alpha.png": lambda: saved(transparent("RGB"), "PNG"),
    "deep.png": lambda: deep_gradient("PNG"),
    "png named.jpg": lambda: picture("PNG"),
    "gray.tiff": lambda: picture("TIFF"),
    "lzw.tiff": lambda: picture("TIFF", compression="tiff_lzw"),
    "deep.tiff": lambda: deep_gradient("TIFF"),
    "float.tiff": float_tiff,
    "cmyk.tiff": lambda: picture("TIFF", "CMYK"),
    "gray.bmp": lambda: picture("BMP"),
    "still.gif": lambda: picture("GIF"),
    "lossy.webp": lambda: picture("WEBP", "RGB", quality=90),
    "lossless.webp": lambda: picture("WEBP", "RGB", lossless=True),
    "gray.dcm": dicom_file,
    "twelve bits.dcm": lambda: dicom_file(twelve_bits(), BitsStored=12, HighBit=11),
    "no file meta.dcm": lambda: dicom_bytes(dicom_object(scene()), ImplicitVRLittleEndian, bare=True),
    "explicit no file meta.dcm": lambda: dicom_bytes(dicom_object(scene()), bare=True),
    "rgb.dcm": lambda: dicom_file(np.stack([scene()] * 3, 2)),
    "jpeg.dcm": lambda: encapsulated(picture("JPEG")),
}

REJECTED: dict[str, tuple[Callable[[], bytes], Reason | SkipReason]] = {
    "zero bytes.jpg": (lambda: b"", Reason.EMPTY),
    "page.jpg": (
        lambda: b"<!DOCTYPE html><html><body>404 not found: %d</body></html>" % pictures.chosen,
        Reason.NOT_AN_IMAGE,
    ),
    "cut.jpg": (lambda: textured_jpeg()[:-5000], Reason.TRUNCATED),
    "cut progressive.jpg": (lambda: textured_jpeg(progressive=True)[:-5000], Reason.TRUNCATED),
    "no end.jpg": (lambda: picture("JPEG")[:-2], Reason.TRUNCATED),
    "cut header.jpg": (lambda: picture("JPEG", comment=b"%d" % pictures.chosen)[:100], Reason.TRUNCATED),
    "damaged.jpg": (lambda: damaged_in_the_middle(textured_jpeg(), 2000), Reason.DAMAGED),
    "cut.png": (lambda: picture("PNG")[:-500], Reason.TRUNCATED),
    "no end.png": (lambda: picture("PNG")[:-12], Reason.TRUNCATED),
    "damaged.png": (lambda: damaged_in_the_middle(picture("PNG"), 2), Reason.DAMAGED),
    "cut.tiff": (lambda: picture("TIFF")[:-5000], Reason.TRUNCATED),
    "cut.gif": (lambda: picture("GIF")[:-3000], Reason.TRUNCATED),
    "cut.bmp": (lambda: picture("BMP")[:-3000], Reason.TRUNCATED),
    "cut.webp": (lambda: picture("WEBP", "RGB")[:-50], Reason.TRUNCATED),
    "bomb.png": (lambda: png_of_size(30_000, 30_000 + pictures.chosen), Reason.TOO_MANY_PIXELS),
    "one pixel.png": (lambda: saved(Image.new("L", (1, 1), pictures.chosen % 256), "PNG"), Reason.TOO_SMALL),
    "stripe.jpg": (lambda: saved(Image.new("L", (840 + pictures.chosen, 40)), "JPEG"), Reason.BAD_ASPECT),
    "animated.gif": (lambda: animation("GIF"), Reason.ANIMATED),
    "animated.png": (lambda: animation("PNG"), Reason.ANIMATED),
    "animated.webp": (lambda: animation("WEBP", lossless=True), Reason.ANIMATED),
    "pages.tiff": (lambda: animation("TIFF"), Reason.MULTI_FRAME),
    "not numbers.tiff": (lambda: float_tiff(float("nan"), float("inf"), pictures.chosen), Reason.UNSUPPORTED),
    "cut.dcm": (lambda: dicom_file()[:-2000], Reason.TRUNCATED),
    "cut jpeg.dcm": (lambda: encapsulated(picture("JPEG"))[:-1000], Reason.TRUNCATED),
    "frames.dcm": (lambda: dicom_file(NumberOfFrames=4), Reason.MULTI_FRAME),
    "no pixels.dcm": (without_pixels, Reason.NO_PIXEL_DATA),
    "wrong rows.dcm": (wrong_rows, Reason.SIZE_MISMATCH),
    "wrong frame.dcm": (lambda: encapsulated(textured_jpeg()), Reason.SIZE_MISMATCH),
    "huge.dcm": (lambda: dicom_file(Rows=65535, Columns=65535), Reason.TOO_MANY_PIXELS),
    "video.dcm": (
        lambda: encapsulated(b"\0\0\1\xb3" * 9, "1.2.840.10008.1.2.4.100"),
        Reason.UNSUPPORTED_TRANSFER_SYNTAX,
    ),
    "named.dcm": (lambda: dicom_file(BurnedInAnnotation="YES"), Reason.BURNED_IN_ANNOTATION),
    "DICOMDIR": (lambda: without_pixels("1.2.840.10008.1.3.10"), SkipReason.DICOMDIR),
    "report.dcm": (lambda: without_pixels("1.2.840.10008.5.1.4.1.1.88.22"), SkipReason.STRUCTURED_REPORT),
    "state.dcm": (lambda: without_pixels("1.2.840.10008.5.1.4.1.1.11.1"), SkipReason.PRESENTATION_STATE),
}
