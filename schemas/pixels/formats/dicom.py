"""Reads DICOM files as gray images: which parts of the standard are followed, and what is refused.

Only the elements that dicom_elements.py lists are ever parsed, so no name, date or identifier of a patient becomes a
value in memory. The gray levels (dicom_levels.py) are one table over the stored values, so an image of 100 megapixels
takes no more memory than its 16-bit pixels twice.
"""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels.decoders.base import Decoder, get_decoder
from pydicom.uid import JPEG2000, UID, JPEG2000Lossless, JPEGBaseline8Bit, JPEGExtended12Bit

from schemas.pixels.formats import jpeg
from schemas.pixels.formats.dicom_elements import read_elements, read_pixels
from schemas.pixels.formats.dicom_levels import display_levels, first_number
from schemas.pixels.gray import Admit, Gray, strips
from schemas.pixels.rejection import NO_USABLE_WINDOW, ImageRejected, Reason
from schemas.pixels.settings import ImageSettings

# A second decoder. It takes checked elements with one sample per pixel and returns the integers [rows, columns] as
# stored.
StoredValues = Callable[[Dataset], NDArray[Any]]

_SEQUENTIAL = (0xC0, 0xC1, 0xC2)  # JPEG frames that libjpeg-turbo decodes: not lossless, hierarchical or arithmetic


def read(data: bytes, settings: ImageSettings, admit: Admit, stored_values: StoredValues | None = None) -> Gray:
    """The only frame of a DICOM file as 16-bit gray, with black 0 and white 65535, or as 8-bit gray if it is in colour.

    `stored_values`, if given, is used instead of pydicom for images with one sample per pixel. Raises ImageRejected,
    ImageSkipped for objects that are not images, and whatever pydicom and its plugins raise about damaged files.
    """
    dataset, stream, notes = read_elements(data, settings.max_pixels)
    if "YES" in str(dataset.get("BurnedInAnnotation", "")).upper() and not settings.allow_burned_in:
        raise ImageRejected(Reason.BURNED_IN_ANNOTATION, "text in the pixels; --allow_burned_in takes such images")
    if int(dataset.get("NumberOfFrames") or 1) > 1:
        raise ImageRejected(Reason.MULTI_FRAME, "the file holds more than one frame")
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    admit(columns, rows)
    pixels, photometric = _stored_values(stream, dataset, rows, columns, admit, stored_values)
    del dataset.PixelData
    if dataset.SamplesPerPixel == 3:
        return Gray(Image.fromarray(_luma(pixels, photometric)), notes=notes)
    return _shown(pixels, dataset, notes)


def _shown(pixels: NDArray[Any], dataset: Dataset, notes: tuple[str, ...]) -> Gray:
    """The stored values as gray levels for display."""
    # There are at most 65,536 different values, so the transforms are computed once per value, not once per pixel.
    # Without a window, black and white are the ends of this range. 8-bit images keep their levels, as 8-bit files of
    # other formats do; deeper images span their own values, because many writers declare 16 bits but use only 10 or 12.
    padding, limits = _padding(pixels, dataset), np.iinfo(pixels.dtype)
    real = True if padding is None else ~padding
    least = int(pixels.min(where=real, initial=limits.max))
    greatest = int(pixels.max(where=real, initial=limits.min))
    if dataset.BitsAllocated == 8:
        least, greatest = limits.min, limits.max
    levels, usable = display_levels(np.arange(least, greatest + 1), dataset)
    table = np.rint(levels * 65535).astype(np.uint16)
    rows, columns = pixels.shape
    gray = np.empty((rows, columns), np.uint16)
    for strip in strips(columns, rows):
        gray[strip] = table[pixels[strip].clip(least, greatest).astype(np.intp) - least]
    if padding is not None:
        gray[padding] = 0
    return Gray(Image.fromarray(gray), 0, 65535, notes=notes if usable else (*notes, NO_USABLE_WINDOW))


def _stored_values(
    stream: io.BytesIO, dataset: Dataset, rows: int, columns: int, admit: Admit, other: StoredValues | None
) -> tuple[NDArray[Any], str]:
    """The pixels, and the photometric interpretation that the decoder reports. The pixels are integers [rows, columns]
    as stored or, in colour, uint8 [rows, columns, 3] or their luma."""
    syntax = UID(dataset.file_meta.TransferSyntaxUID)
    bits, samples = int(dataset.BitsAllocated), int(dataset.SamplesPerPixel)
    if (samples, bits) not in ((1, 1), (1, 8), (1, 16), (3, 8)):
        raise ImageRejected(Reason.UNSUPPORTED, f"{samples} samples of {bits} bits a pixel")
    second = other if samples == 1 and bits > 1 else None
    decoder = _decoder(syntax)
    if second is None and not decoder.is_available:
        raise _without_plugin(syntax)
    read_pixels(stream, dataset)
    if not syntax.is_encapsulated:
        _check_length(dataset, rows, columns)
    else:
        frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
        # Check this before decoding: the decoder would allocate memory for whatever size the frame claims.
        inside = _frame_size(frame)
        if inside not in (None, (columns, rows)):
            raise ImageRejected(Reason.SIZE_MISMATCH, f"{columns}x{rows} holds a frame of {inside[0]}x{inside[1]}")
        if syntax == JPEGBaseline8Bit and second is None:
            # This decoder is strict; pydicom's fills damaged parts with gray.
            strict = jpeg.read_stream(frame, admit, max(rows, columns), longer_only=False)
            if samples == 1 or dataset.PhotometricInterpretation != "RGB":
                return np.asarray(strict.image), ""
    if second is not None:
        return second(dataset), ""
    if syntax.is_encapsulated and _needs_another(frame, dataset, syntax, set(decoder.available_plugins)):
        raise _without_plugin(syntax)
    shift = _low_bits_to_drop(dataset)
    pixels, found = decoder.as_array(dataset, index=0, raw=samples == 3)
    return (pixels >> shift if shift else pixels), str(found["photometric_interpretation"])


def _decoder(syntax: UID) -> Decoder:
    """pydicom's decoder for `syntax`, with whichever plugins are installed. Raises ImageRejected if pydicom does not know
    the syntax."""
    try:
        return get_decoder(syntax)
    except NotImplementedError:
        raise ImageRejected(Reason.UNSUPPORTED_TRANSFER_SYNTAX, f"transfer syntax {_name(syntax)}") from None


def _name(syntax: UID) -> str:
    # A UID that is not in the standard's list could be any text, so a message must not quote it.
    return syntax.name if syntax.name != str(syntax) else "not one of the standard's"


def _without_plugin(syntax: UID) -> ImageRejected:
    detail = f"transfer syntax {_name(syntax)} needs pip install 'radrecords[dicom]'"
    return ImageRejected(Reason.UNSUPPORTED_TRANSFER_SYNTAX, detail)


def _needs_another(frame: bytes, dataset: Dataset, syntax: UID, plugins: set[str]) -> bool:
    """Whether the frame is of a kind that none of these plugins of pydicom decodes, although others decode it. They would
    fail as if it were damaged."""
    if syntax == JPEGExtended12Bit and plugins <= {"gdcm", "pillow"}:
        frames = ((marker, payload[:1]) for marker, payload in jpeg.segments(frame) if jpeg.is_frame(marker))
        marker, bits = next(frames, (_SEQUENTIAL[0], b"\x08"))
        return dataset.BitsStored != 8 or bits != b"\x08" or marker not in _SEQUENTIAL
    if syntax in (JPEG2000, JPEG2000Lossless) and plugins <= {"pillow"} and len(frame) > 42:
        bits_of_first = (frame[42] & 0x7F) + 1  # Ssiz, ITU-T T.800 A.5.1
        is_codestream = frame[:4] == b"\xff\x4f\xff\x51"
        return is_codestream and bits_of_first > (8 if dataset.SamplesPerPixel > 1 else 16)
    return False


def _check_length(dataset: Dataset, rows: int, columns: int) -> None:
    """Raises ImageRejected if uncompressed pixels do not have the length that the image needs."""
    samples, bits = int(dataset.SamplesPerPixel), int(dataset.BitsAllocated)
    bits_a_pixel = 16 if dataset.PhotometricInterpretation == "YBR_FULL_422" else samples * bits
    expected = (rows * columns * bits_a_pixel + 7) // 8
    if len(dataset.PixelData) not in (expected, expected + expected % 2):
        detail = f"{columns}x{rows} needs {expected} bytes, PixelData holds {len(dataset.PixelData)}"
        raise ImageRejected(Reason.SIZE_MISMATCH, detail)


def _low_bits_to_drop(dataset: Dataset) -> int:
    """The number of bits below the stored ones, in files older than PS3.5-2014, which may have any high bit. pydicom
    clears all bits above BitsStored as if there were no such low bits, so BitsStored is changed to include them."""
    stored, high = int(dataset.BitsStored), int(dataset.get("HighBit", dataset.BitsStored - 1))
    if dataset.SamplesPerPixel != 1 or not stored <= high < dataset.BitsAllocated:
        return 0
    dataset.BitsStored = high + 1
    return high + 1 - stored


def _luma(pixels: NDArray[np.uint8], photometric: str) -> NDArray[np.uint8]:
    if pixels.ndim == 2:
        return pixels
    if photometric.startswith("YBR"):  # Y is the luma (PS3.3 C.7.6.3.1.2), and nearly so in YBR_ICT and YBR_RCT
        return np.ascontiguousarray(pixels[:, :, 0])
    rows, columns, _ = pixels.shape
    luma = np.empty((rows, columns), np.uint8)
    for strip in strips(columns, rows):
        luma[strip] = np.asarray(Image.fromarray(pixels[strip]).convert("L"))
    return luma


def _padding(pixels: NDArray[Any], dataset: Dataset) -> NDArray[np.bool_] | None:
    """A mask of the pixels that only pad the image (PS3.3 C.7.5.1.1.2). None without a padding value, or if all pixels
    were padding."""
    value, limit = (first_number(dataset.get(f"PixelPadding{part}")) for part in ("Value", "RangeLimit"))
    if value is None:
        return None
    # Some files have unsigned padding values beside signed pixels, or the reverse.
    shift = 1 << 15 if pixels.dtype.kind == "i" else 0
    ends = [(int(end) + shift) % (1 << 16) - shift for end in (value, value if limit is None else limit)]
    padding: NDArray[np.bool_] = (pixels >= min(ends)) & (pixels <= max(ends))
    return None if padding.all() else padding


def _frame_size(frame: bytes) -> tuple[int, int] | None:
    """The width and height that a JPEG, JPEG-LS or JPEG 2000 frame claims; None for RLE, which claims no size."""
    if frame[:4] == b"\xff\x4f\xff\x51":  # SIZ: extent and offset of the image, ITU-T T.800 A.5.1
        right, bottom, left, top = (int.from_bytes(frame[at : at + 4], "big") for at in (8, 12, 16, 20))
        return right - left, bottom - top
    for marker, payload in jpeg.segments(frame):
        if jpeg.is_frame(marker):
            return int.from_bytes(payload[3:5], "big"), int.from_bytes(payload[1:3], "big")
    return None
