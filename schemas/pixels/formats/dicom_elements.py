"""Reads only those elements of a DICOM file that make the image: names, dates and identifiers are never parsed."""

import io
import logging
import zlib
from collections.abc import Callable
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from schemas.pixels.formats.dicom_levels import COLOURS
from schemas.pixels.rejection import NO_FILE_META, ImageRejected, ImageSkipped, Reason, SkipReason

# pydicom and its plugins log odd values, which can be names.
for _name in ("pydicom", "pylibjpeg", "libjpeg", "openjpeg"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)

_SKIPPED = {
    "1.2.840.10008.1.3.10": SkipReason.DICOMDIR,
    "1.2.840.10008.5.1.4.1.1.88.": SkipReason.STRUCTURED_REPORT,
    "1.2.840.10008.5.1.4.1.1.11.": SkipReason.PRESENTATION_STATE,
}
_PIXEL_DATA = int(Tag("PixelData"))
_UNDEFINED_LENGTH = 0xFFFFFFFF
_KEYWORDS = """
    SOPClassUID NumberOfFrames Rows Columns SamplesPerPixel PhotometricInterpretation PlanarConfiguration BitsAllocated
    BitsStored HighBit PixelRepresentation BurnedInAnnotation RescaleSlope RescaleIntercept ModalityLUTSequence
    VOILUTSequence VOILUTFunction WindowCenter WindowWidth PixelPaddingValue PixelPaddingRangeLimit PixelData
"""
_READ: list[BaseTag | int] = [
    *map(Tag, _KEYWORDS.split()),
    *(Tag(f"{colour}PaletteColorLookupTable{part}") for colour in COLOURS for part in ("Descriptor", "Data")),
]


def read_elements(data: bytes, max_pixels: int) -> tuple[Dataset, io.BytesIO, tuple[str, ...]]:
    """The elements before the pixels, the stream positioned at the pixels, and notes. Raises ImageSkipped for objects
    that are not images, and ImageRejected if there are no pixels or the file is truncated."""
    stream = io.BytesIO(data)
    stream.seek(132 if data[128:132] == b"DICM" else 0)
    meta = FileMetaDataset()
    if data[stream.tell() : stream.tell() + 2] == b"\x02\0":
        meta = FileMetaDataset(_elements(stream, data, False, True, lambda tag: tag >> 16 != 2)[0])
    _skip_non_images(meta.get("MediaStorageSOPClassUID"))

    notes: tuple[str, ...] = ()
    if "TransferSyntaxUID" not in meta:
        notes = (NO_FILE_META,)
        start = data[stream.tell() : stream.tell() + 6]
        explicit = start[4:6].isalpha() and start[4:6].isupper()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian if explicit else ImplicitVRLittleEndian
        if explicit and start[:1] == b"\0":
            meta.TransferSyntaxUID = ExplicitVRBigEndian
    syntax = meta.TransferSyntaxUID
    if syntax == DeflatedExplicitVRLittleEndian:
        data = _inflate(data[stream.tell() :], 2 * max_pixels + (1 << 24))
        stream = io.BytesIO(data)
        meta.TransferSyntaxUID = ExplicitVRLittleEndian

    dataset, stopped_at = _elements(
        stream, data, *_encoding(syntax), lambda tag: tag >= _PIXEL_DATA, specific_tags=_READ
    )
    dataset.file_meta = meta
    _skip_non_images(dataset.get("SOPClassUID"))
    if stopped_at != _PIXEL_DATA:
        if "SOPClassUID" not in dataset and not meta.get("MediaStorageSOPClassUID"):
            raise ImageRejected(Reason.NOT_AN_IMAGE, "begins like DICOM, but holds no DICOM object")
        raise ImageRejected(Reason.NO_PIXEL_DATA, "a DICOM object without PixelData")
    return dataset, stream, notes


def _elements(
    stream: io.BytesIO, data: bytes, implicit: bool, little_endian: bool, until: Callable[[int], bool], **options: Any
) -> tuple[Dataset, int | None]:
    """The elements before the first tag for which `until` is true, and that tag, or None at the end of the file. Raises
    ImageRejected if the file ends within an element, which pydicom would ignore."""
    end, stopped_at = stream.tell(), None

    def stop(tag: BaseTag, _vr: str | None, length: int) -> bool:
        nonlocal end, stopped_at
        stopped_at = int(tag) if until(tag) else None
        end = len(data) if length == _UNDEFINED_LENGTH else stream.tell() + length
        if end > len(data) and stopped_at in (None, _PIXEL_DATA):
            raise ImageRejected(Reason.TRUNCATED, f"an element needs {end - len(data)} bytes more")
        return stopped_at is not None

    dataset = read_dataset(stream, implicit, little_endian, stop_when=stop, **options)
    if stopped_at is None and end < len(data):
        raise ImageRejected(Reason.TRUNCATED, f"the last element ends after {len(data) - end} bytes")
    return dataset, stopped_at


def read_pixels(stream: io.BytesIO, dataset: Dataset) -> None:
    """Adds PixelData to the dataset; it is held in memory as a whole. Raises ImageRejected if it is empty or has no
    end."""
    past = read_dataset(
        stream,
        *_encoding(dataset.file_meta.TransferSyntaxUID),
        stop_when=lambda tag, _vr, _length: int(tag) > _PIXEL_DATA,
        specific_tags=[_PIXEL_DATA],
    )
    if "PixelData" not in past:
        raise ImageRejected(Reason.TRUNCATED, "the encapsulated pixels have no end")
    dataset.update(past)
    if not dataset.PixelData:
        raise ImageRejected(Reason.NO_PIXEL_DATA, "PixelData is empty")


def _encoding(syntax: str) -> tuple[bool, bool]:
    """Whether value representations are implicit, and whether the byte order is little endian."""
    return syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian


def _skip_non_images(sop_class: str | None) -> None:
    for prefix, reason in _SKIPPED.items():
        if str(sop_class).startswith(prefix):
            raise ImageSkipped(reason)


def _inflate(data: bytes, limit: int) -> bytes:
    inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, limit)
    if len(inflated) == limit:
        raise ImageRejected(Reason.TOO_MANY_PIXELS, f"the deflated file holds {limit} bytes or more")
    return inflated
