"""The outcome of decoding an image: its pixels, or why it is not used. Conversion counts these reasons, and prediction
reports them."""

from enum import Enum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

NO_FILE_META, NO_USABLE_WINDOW = "dicom_without_file_meta", "dicom_window_unusable"
NOTES = (NO_FILE_META, NO_USABLE_WINDOW)  # remarks about images that are used; they are counted


class Decoded(NamedTuple):
    """`pixels`: uint8 [H, W, C]. `format`: one of sniff.FORMATS. `notes`: some of NOTES. `size`: width and height in the
    file, in pixels. `microseconds`: processor time that decoding took, if a decoding process measured it."""

    pixels: NDArray[np.uint8]
    format: str
    notes: tuple[str, ...]
    size: tuple[int, int]
    microseconds: int = 0


class Reason(str, Enum):
    """Why an image was rejected. The values are the keys of the manifest's `quarantined` counts."""

    EMPTY = "empty"
    NOT_AN_IMAGE = "not_an_image"
    TRUNCATED = "truncated"
    DAMAGED = "damaged"
    TOO_MANY_PIXELS = "too_many_pixels"
    TOO_SMALL = "too_small"
    BAD_ASPECT = "bad_aspect"
    ANIMATED = "animated"
    MULTI_FRAME = "multi_frame"
    UNSUPPORTED = "unsupported"
    NO_PIXEL_DATA = "no_pixel_data"
    SIZE_MISMATCH = "size_mismatch"
    UNSUPPORTED_TRANSFER_SYNTAX = "unsupported_transfer_syntax"
    BURNED_IN_ANNOTATION = "burned_in_annotation"
    OUT_OF_MEMORY = "out_of_memory"
    DECODER_CRASHED = "decoder_crashed"
    DECODER_TIMEOUT = "decoder_timeout"


class SkipReason(str, Enum):
    """The kind of a DICOM file that is not an image. The values are keys of the manifest's `skipped` counts."""

    DICOMDIR = "dicomdir"
    STRUCTURED_REPORT = "structured_report"
    PRESENTATION_STATE = "presentation_state"


class ImageRejected(Exception):
    """The image must not be used. `detail` is for people: it holds numbers and the names of formats and error types,
    but never a value from the file's metadata. `format` is the format that the content looks like, or "unknown"."""

    def __init__(self, reason: Reason, detail: str, format: str = "unknown") -> None:
        super().__init__(reason, detail, format)
        self.reason, self.detail, self.format = reason, detail, format

    def __str__(self) -> str:
        return f"{self.reason.value}: {self.detail} ({self.format})"


class ImageSkipped(Exception):
    """A valid DICOM object that is not an image. It is counted as skipped, not quarantined."""

    def __init__(self, reason: SkipReason) -> None:
        super().__init__(reason)
        self.reason, self.format = reason, "dicom"

    def __str__(self) -> str:
        return self.reason.value
