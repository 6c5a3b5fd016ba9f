"""Turns the bytes of a raw image into its tensor, for conversion and prediction alike.

The steps of `decode`: sniff the format by content (sniff.py) -> check what the header says and read one gray channel
(the format's module in formats/) -> orient, crop, resize, levels -> uint8 (resize.py). Each failure is an ImageRejected
with a reason from a closed set. `decode` runs only in the children of decoders/pool.py, and the decoder of a format is
loaded with its first file.
"""

import re
import resource
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

from schemas.pixels.gray import Admission, Gray
from schemas.pixels.rejection import Decoded, ImageRejected, ImageSkipped, Reason
from schemas.pixels.resize import tensor_of
from schemas.pixels.settings import ImageSettings
from schemas.pixels.sniff import FORMATS, reader_of, sniff

if TYPE_CHECKING:
    from schemas.pixels.formats.dicom import StoredValues


def decoder() -> Callable[[bytes, ImageSettings], Decoded]:
    """Returns `decode`; this is the default decoder of decoders/pool.py."""
    return decode


def decode(data: bytes, settings: ImageSettings, stored_values: "StoredValues | None" = None) -> Decoded:
    """The tensor of one image file: uint8 [H, W, C]. It depends only on `data` and `settings`.

    Eight-bit images keep their levels. Deeper images (16-bit PNG and TIFF, float TIFF) are scaled from their own least
    to their own greatest value, because such a file does not say if its radiograph has only 10 or 12 bits; a constant
    image becomes black. For DICOM see formats/dicom.py; `stored_values`, if given, reads its pixels instead of pydicom.
    Alpha is flattened onto black. Colour becomes ITU-R 601 luma.

    Raises ImageRejected if the file cannot or must not be used, ImageSkipped for DICOM objects that are not images, and
    nothing else, whatever the bytes are. Some files may still crash or hang the process: see decoders/pool.py.
    """
    return decode_as(tensor_of, data, settings, stored_values)


def decode_as(
    tensor: Callable[[Gray, ImageSettings], NDArray[np.uint8]],
    data: bytes,
    settings: ImageSettings,
    stored_values: "StoredValues | None" = None,
) -> Decoded:
    """The same with another `tensor` of the channel that was read; see measure.py."""
    _quiet_warnings()
    format = sniff(data)
    admission = Admission(settings)
    try:
        gray = _read(data, format, settings, admission, stored_values)
        return Decoded(tensor(gray, settings), format, gray.notes, admission.size)
    except ImageSkipped:
        raise
    except ImageRejected as rejected:
        rejected.format = format
        raise
    # From here on the libraries' own messages, including chained ones, are dropped, because they can quote attributes.
    except MemoryError:
        raise _out_of_memory(format) from None
    except ImportError:
        raise ImageRejected(Reason.UNSUPPORTED, "its decoder is not installed", format) from None
    except Image.DecompressionBombError:
        raise ImageRejected(Reason.TOO_MANY_PIXELS, "a part is larger than Pillow allows", format) from None
    except Exception as error:
        mute = FORMATS[format].mute_bytes
        if mute and admission.pixels * mute > _room():
            raise _out_of_memory(format) from None
        if missing := next((part for part in FORMATS[format].parts if not features.check(part)), ""):
            raise ImageRejected(Reason.UNSUPPORTED, f"the installed Pillow lacks {missing}", format) from None
        cut = isinstance(error, (EOFError, struct.error)) or "truncated" in str(error).lower()
        reason = Reason.TRUNCATED if cut else Reason.DAMAGED
        raise ImageRejected(reason, f"the decoder failed with {type(error).__name__}", format) from None


def _read(
    data: bytes, format: str, settings: ImageSettings, admission: Admission, stored_values: "StoredValues | None"
) -> Gray:
    more = {"stored_values": stored_values} if format == "dicom" else {}
    gray: Gray = reader_of(format)(data, settings, admission, **more)
    return gray


def _out_of_memory(format: str) -> ImageRejected:
    return ImageRejected(Reason.OUT_OF_MEMORY, "it takes more than --decoder_memory", format)


def _room() -> float:
    """The bytes of memory that this process may still allocate."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return float("inf")
    return limit - int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


# Python attributes a warning to one of these libraries or, by its `stacklevel`, to the module of ours that called it.
_NOISY = re.compile(r"(PIL|pydicom|pylibjpeg|libjpeg|openjpeg|schemas)\b")


def _quiet_warnings() -> None:
    """Hides the decoders' warnings about odd files, which quote values of attributes, from stderr and from `-W error`.

    The filter is added once and stays. It is moved back to the front if other filters were added since, as pytest does
    for each test.
    """
    if warnings.filters[:1] != [("ignore", None, Warning, _NOISY, 0)]:
        warnings.filterwarnings("ignore", module=_NOISY.pattern)
