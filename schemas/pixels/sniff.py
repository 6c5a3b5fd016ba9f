"""Which format a file is, by its content alone."""

import re

from schemas.pixels.rejection import ImageRejected, Reason

_SIGNATURES = {
    "jpeg": re.compile(rb"\xff\xd8\xff"),
    "png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "gif": re.compile(rb"GIF8[79]a"),
    "webp": re.compile(rb"RIFF....WEBP", re.DOTALL),
    "tiff": re.compile(rb"II[*+]\0|MM\0[*+]"),
    # Width, height and more follow the size of the information header: 12, 40, 52, 56, 64, 108 or 124 bytes.
    "bmp": re.compile(rb"BM.{8}....[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", re.DOTALL),
}
FORMATS = (*_SIGNATURES, "dicom")
# A data set without preamble begins with an element of group 0002 or 0008: explicit VR, or implicit with a length that
# fits in two bytes, or big endian.
_BARE_DICOM = re.compile(rb"[\x02\x08]\0.[\0-\x30](?:[A-Z]{2}|..\0\0)|\0[\x02\x08][\0-\x30].[A-Z]{2}", re.DOTALL)


def sniff(data: bytes) -> str:
    """The format that the content begins like, whatever the file's name; raises ImageRejected for any other content."""
    if not data:
        raise ImageRejected(Reason.EMPTY, "0 bytes")
    if data[128:132] == b"DICM":
        return "dicom"
    for format, pattern in _SIGNATURES.items():
        if pattern.match(data):
            return format
    if _BARE_DICOM.match(data):
        return "dicom"
    raise ImageRejected(Reason.NOT_AN_IMAGE, f"the first of {len(data)} bytes are those of no known image format")
