"""The formats that can be read, and which of them a file has, judged by its content alone."""

import importlib
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from schemas.pixels.rejection import ImageRejected, Reason


class Format(NamedTuple):
    """A format: the pattern that its files begin with, the suffixes of their names, and its reader as `module:function`
    in schemas.pixels.formats: (bytes, ImageSettings, Admit) -> Gray. `mute_bytes`: for a decoder that does not report
    that it ran out of memory, the bytes of memory that it takes per pixel, as measured. `parts`: what it needs of Pillow
    that a build of Pillow may lack."""

    begins: re.Pattern[bytes]
    suffixes: tuple[str, ...]
    reader: str
    mute_bytes: int = 0
    parts: tuple[str, ...] = ()


FORMATS = {
    "jpeg": Format(re.compile(rb"\xff\xd8\xff"), (".jpg", ".jpeg", ".jpe", ".jfif"), "jpeg:read"),
    "png": Format(re.compile(rb"\x89PNG\r\n\x1a\n"), (".png",), "png:read"),
    "gif": Format(re.compile(rb"GIF8[79]a"), (".gif",), "raster:read_gif"),
    "webp": Format(re.compile(rb"RIFF....WEBP", re.DOTALL), (".webp",), "raster:read_webp", 15, ("webp",)),
    "tiff": Format(re.compile(rb"II[*+]\0|MM\0[*+]"), (".tif", ".tiff"), "tiff:read", 0, ("libtiff",)),
    # Width, height and more follow the size of the information header: 12, 40, 52, 56, 64, 108 or 124 bytes.
    "bmp": Format(
        re.compile(rb"BM.{8}....[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", re.DOTALL), (".bmp", ".dib"), "raster:read_bmp"
    ),
    # A DICOM data set without a preamble begins with an element of group 0002 or 0008: explicit VR, implicit VR with a
    # length that fits in two bytes, or big endian.
    "dicom": Format(
        re.compile(rb"[\x02\x08]\0.[\0-\x30](?:[A-Z]{2}|..\0\0)|\0[\x02\x08][\0-\x30].[A-Z]{2}", re.DOTALL),
        (".dcm", ".dicom"),
        "dicom:read",
        mute_bytes=15,
    ),
}


def sniff(data: bytes) -> str:
    """The format that the first bytes show, whatever the file is called. Raises ImageRejected for unknown content."""
    if not data:
        raise ImageRejected(Reason.EMPTY, "0 bytes")
    if data[128:132] == b"DICM":  # whatever the preamble holds: it may be the header of a TIFF
        return "dicom"
    for name, format in FORMATS.items():
        if format.begins.match(data):
            return name
    raise ImageRejected(Reason.NOT_AN_IMAGE, f"the first of {len(data)} bytes are those of no known image format")


def reader_of(format: str) -> Callable[..., Any]:
    """The reader of a format; loads its decoder."""
    module, _, function = FORMATS[format].reader.partition(":")
    reader: Callable[..., Any] = getattr(importlib.import_module(f"schemas.pixels.formats.{module}"), function)
    return reader
