"""DICOM files to gray images: which parts of the standard are followed, and what is refused.

Only the elements of `_READ` are ever parsed, so no name, date or identifier of a patient is in memory as such. The
gray levels (schemas/dicom_levels.py) are one table over stored values, so an image of 100 megapixels costs no more than
its 16-bit pixels twice.
"""

import io
import logging
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import get_frame
from pydicom.filereader import read_dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
)

from schemas.dicom_levels import COLOURS, display_levels, first_number
from schemas.raster import Gray, is_jpeg_frame, jpeg_segments, read_jpeg
from schemas.rejection import ImageRejected, ImageSkipped, Reason, SkipReason
from schemas.structure import Admit

# pydicom and its plugins log what is odd about a value together with the value, which can be a name.
for _name in ("pydicom", "pylibjpeg", "libjpeg", "openjpeg"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)

NO_FILE_META = "dicom_without_file_meta"
NO_USABLE_WINDOW = "dicom_window_unusable"

_SKIPPED = {
    "1.2.840.10008.1.3.10": SkipReason.DICOMDIR,
    "1.2.840.10008.5.1.4.1.1.88.": SkipReason.STRUCTURED_REPORT,
    "1.2.840.10008.5.1.4.1.1.11.": SkipReason.PRESENTATION_STATE,
}
_PIXEL_DATA = int(Tag("PixelData"))
_UNDEFINED_LENGTH = 0xFFFFFFFF
# Memory that a pixel takes beside the file, as measured: for its level, for native pixels and their copies, and for each
# sample of a compressed one (JPEG 2000 works on 32 bits a sample) beside the sample itself.
_LEVELS_BYTES, _GRAY_BYTES, _COLOUR_BYTES, _ENCAPSULATED_BYTES = 3, 4, 6, 5
_KEYWORDS = """
    SOPClassUID NumberOfFrames Rows Columns SamplesPerPixel PhotometricInterpretation PlanarConfiguration BitsAllocated
    BitsStored HighBit PixelRepresentation BurnedInAnnotation RescaleSlope RescaleIntercept ModalityLUTSequence
    VOILUTSequence VOILUTFunction WindowCenter WindowWidth PixelPaddingValue PixelPaddingRangeLimit PixelData
"""
_READ: list[BaseTag | int] = [
    *map(Tag, _KEYWORDS.split()),
    *(Tag(f"{colour}PaletteColorLookupTable{part}") for colour in COLOURS for part in ("Descriptor", "Data")),
]


# A second decoder: from elements with one sample a pixel, checked, to integers [rows, columns] as stored.
StoredValues = Callable[[Dataset], NDArray[Any]]


def read_dicom(
    data: bytes, admit: Admit, max_pixels: int, allow_burned_in: bool, stored_values: StoredValues | None = None
) -> Gray:
    """The one frame of a DICOM file as 16-bit gray, black 0 and white 65535 (colour: 8 bits).

    `admit` is called before any pixel is read. `stored_values` is used instead of pydicom where there is one sample a
    pixel. Raises ImageRejected, ImageSkipped for objects that are not images, and whatever pydicom and its plugins raise
    about damaged files.
    """
    dataset, stream, notes = _read_elements(data, max_pixels)
    if "YES" in str(dataset.get("BurnedInAnnotation", "")).upper() and not allow_burned_in:
        raise ImageRejected(Reason.BURNED_IN_ANNOTATION, "text in the pixels; --allow_burned_in takes such images")
    if int(dataset.get("NumberOfFrames") or 1) > 1:
        raise ImageRejected(Reason.MULTI_FRAME, "the file holds more than one frame")
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    admit(columns, rows)
    pixels, photometric = _stored_values(stream, dataset, rows, columns, admit, stored_values)
    del dataset.PixelData
    if dataset.SamplesPerPixel == 3:
        return Gray(Image.fromarray(_luma(pixels, photometric)), notes=notes)
    blocks = _blocks(rows, columns)
    # Stored values have 65,536 levels at most, so their transforms are computed once a level, not once a pixel.
    # Without a window black and white are the ends of this range: as 8-bit files of other formats keep their levels,
    # so do 8 bits here; deeper ones span their own values, because many writers say 16 bits where 10 or 12 are used.
    padding, limits = _padding(pixels, dataset), np.iinfo(pixels.dtype)
    real = True if padding is None else ~padding
    least = int(pixels.min(where=real, initial=limits.max))
    greatest = int(pixels.max(where=real, initial=limits.min))
    if dataset.BitsAllocated == 8:
        least, greatest = limits.min, limits.max
    levels, usable = display_levels(np.arange(least, greatest + 1), dataset)
    table = np.rint(levels * 65535).astype(np.uint16)
    gray = np.empty((rows, columns), np.uint16)
    for block in blocks:
        gray[block] = table[pixels[block].clip(least, greatest).astype(np.intp) - least]
    if padding is not None:
        gray[padding] = 0
    return Gray(Image.fromarray(gray), 0, 65535, notes=notes if usable else (*notes, NO_USABLE_WINDOW))


def is_deflated(data: bytes) -> bool:
    """Whether the file says that all of it is compressed, pixels and sizes included (PS3.5 A.5)."""
    return DeflatedExplicitVRLittleEndian.encode() in data[:4096]


def _blocks(rows: int, columns: int) -> list[slice]:
    """Rows in parts of a hundred thousand pixels: no whole image is needed in a larger type, and what a part takes is small
    enough for glibc to use it again, whichever thread comes next."""
    step = (1 << 17) // columns + 1
    return [slice(row, row + step) for row in range(0, rows, step)]


def _read_elements(data: bytes, max_pixels: int) -> tuple[Dataset, io.BytesIO, tuple[str, ...]]:
    """The elements before the pixels, the stream at these, and notes."""
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
    """The elements until one whose tag is not wanted, and this tag; None at the end of the file. Raises ImageRejected where
    the file breaks off within an element, which pydicom passes over."""
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


def _read_pixels(stream: io.BytesIO, dataset: Dataset) -> None:
    """Adds PixelData, which takes memory as large as it is."""
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
    """Whether value representations are implicit, and the byte order little endian."""
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


def _stored_values(
    stream: io.BytesIO, dataset: Dataset, rows: int, columns: int, admit: Admit, other: StoredValues | None
) -> tuple[NDArray[Any], str]:
    """Integers [rows, columns] as stored, or uint8 [rows, columns, 3] or the luma of these; and the photometric
    interpretation that the decoder gives."""
    syntax = UID(dataset.file_meta.TransferSyntaxUID)
    # A UID that is not in the standard's list could be any text.
    name = syntax.name if syntax.name != str(syntax) else "not one of the standard's"
    bits, samples = int(dataset.BitsAllocated), int(dataset.SamplesPerPixel)
    if (samples, bits) not in ((1, 1), (1, 8), (1, 16), (3, 8)):
        raise ImageRejected(Reason.UNSUPPORTED, f"{samples} samples of {bits} bits a pixel")
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise ImageRejected(Reason.UNSUPPORTED_TRANSFER_SYNTAX, f"transfer syntax {name}") from None
    second = other if samples == 1 and bits > 1 else None

    def with_levels(width: int, height: int, bytes_a_pixel: int = 0) -> None:
        admit(width, height, bytes_a_pixel + _LEVELS_BYTES)

    if second is None and not decoder.is_available:
        detail = f"transfer syntax {name} needs pip install 'radrecords[dicom]'"
        raise ImageRejected(Reason.UNSUPPORTED_TRANSFER_SYNTAX, detail)

    if not syntax.is_encapsulated:
        admit(columns, rows, _COLOUR_BYTES if samples == 3 else _GRAY_BYTES + 2 * ("PixelPaddingValue" in dataset))
        _read_pixels(stream, dataset)
        bits_a_pixel = 16 if dataset.PhotometricInterpretation == "YBR_FULL_422" else samples * bits
        expected = (rows * columns * bits_a_pixel + 7) // 8
        if len(dataset.PixelData) not in (expected, expected + expected % 2):
            detail = f"{columns}x{rows} needs {expected} bytes, PixelData holds {len(dataset.PixelData)}"
            raise ImageRejected(Reason.SIZE_MISMATCH, detail)
    else:
        _read_pixels(stream, dataset)
        frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
        # Before the decoder, which would take memory for whatever size the frame claims.
        inside = _frame_size(frame)
        if inside not in (None, (columns, rows)):
            raise ImageRejected(Reason.SIZE_MISMATCH, f"{columns}x{rows} holds a frame of {inside[0]}x{inside[1]}")
        if syntax == JPEGBaseline8Bit and second is None:
            # Strict, where pydicom's decoder fills damaged parts with gray.
            strict = read_jpeg(frame, with_levels, max(rows, columns), longer_only=False)
            if samples == 1 or dataset.PhotometricInterpretation != "RGB":
                return np.asarray(strict.image), ""
        admit(columns, rows, samples * (_ENCAPSULATED_BYTES + bits // 8))
    if second is not None:
        return second(dataset), ""
    shift = _low_bits_to_drop(dataset)
    pixels, found = decoder.as_array(dataset, index=0, raw=samples == 3)
    return (pixels >> shift if shift else pixels), str(found["photometric_interpretation"])


def _low_bits_to_drop(dataset: Dataset) -> int:
    """How many bits lie below the stored ones, in files older than PS3.5-2014, whose high bit could be any. pydicom clears
    what is above the stored bits as if there were none, so it is told that these are stored, too."""
    stored, high = int(dataset.BitsStored), int(dataset.get("HighBit", dataset.BitsStored - 1))
    if dataset.SamplesPerPixel != 1 or not stored <= high < dataset.BitsAllocated:
        return 0
    dataset.BitsStored = high + 1
    return high + 1 - stored


def _luma(pixels: NDArray[np.uint8], photometric: str) -> NDArray[np.uint8]:
    if pixels.ndim == 2:
        return pixels
    if photometric.startswith("YBR"):  # Y is the luma (PS3.3 C.7.6.3.1.2); also of YBR_ICT and YBR_RCT, nearly
        return np.ascontiguousarray(pixels[:, :, 0])
    rows, columns, _ = pixels.shape
    luma = np.empty((rows, columns), np.uint8)
    for block in _blocks(rows, columns):
        luma[block] = np.asarray(Image.fromarray(pixels[block]).convert("L"))
    return luma


def _padding(pixels: NDArray[Any], dataset: Dataset) -> NDArray[np.bool_] | None:
    """Which pixels are around the image and not of it (PS3.3 C.7.5.1.1.2); None without such, or if it were all."""
    value, limit = (first_number(dataset.get(f"PixelPadding{part}")) for part in ("Value", "RangeLimit"))
    if value is None:
        return None
    # Some files have unsigned padding values beside signed pixels, or the reverse.
    shift = 1 << 15 if pixels.dtype.kind == "i" else 0
    ends = [(int(end) + shift) % (1 << 16) - shift for end in (value, value if limit is None else limit)]
    padding: NDArray[np.bool_] = (pixels >= min(ends)) & (pixels <= max(ends))
    return None if padding.all() else padding


def _frame_size(frame: bytes) -> tuple[int, int] | None:
    """Width and height that a JPEG, JPEG-LS or JPEG 2000 frame claims; None for RLE, which claims nothing."""
    if frame[:4] == b"\xff\x4f\xff\x51":  # SIZ: extent and offset of the image, ITU-T T.800 A.5.1
        right, bottom, left, top = (int.from_bytes(frame[at : at + 4], "big") for at in (8, 12, 16, 20))
        return right - left, bottom - top
    for marker, payload in jpeg_segments(frame):
        if is_jpeg_frame(marker):
            return int.from_bytes(payload[3:5], "big"), int.from_bytes(payload[1:3], "big")
    return None
