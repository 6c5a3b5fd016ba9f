"""tensorflow-io's DICOM op (DCMTK inside) as a second decoder, for archives that were converted with it before.

This is the only module of beam_jobs that imports TensorFlow, and only if --dicom_decoder tfio asks for it. The op would
apply some transforms of PS3.3 C.11 and leave out others. So it gets a file with the pixels and nothing else, and
returns the pixels as stored; schemas/pixels/formats/dicom_levels.py does the rest, as for every decoder.
"""

import functools
import importlib.metadata
import io
import os
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import UID, ExplicitVRLittleEndian

from schemas.errors import UsageError
from schemas.pixels import decode as schemas_decode
from schemas.pixels.formats.dicom import StoredValues
from schemas.pixels.rejection import Decoded, ImageRejected, Reason
from schemas.pixels.settings import ImageSettings

_WORKS_WITH = "tensorflow-cpu 2.16.2 with tensorflow-io 0.37.1 on Python 3.10 or 3.11"
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_KEPT = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation")


def decoder() -> Callable[[bytes, ImageSettings], Decoded]:
    """Returns `decode`, with its op loaded. Raises UsageError if the op does not work."""
    load()
    return decode


def decode(data: bytes, settings: ImageSettings) -> Decoded:
    """Like schemas.pixels.decode.decode, but uses the op for DICOM files with one sample per pixel."""
    return schemas_decode.decode(data, settings, load())


@functools.cache
def load() -> StoredValues:
    """The op, tested on an image with known pixels. Raises UsageError if it does not work."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import tensorflow as tf
            import tensorflow_io as tfio

            def stored_values(dataset: Dataset) -> NDArray[Any]:
                """Integers [rows, columns] as stored."""
                try:
                    image = tfio.image.decode_dicom_image(
                        pixels_alone(dataset), color_dim=False, on_error="strict", scale="preserve", dtype=tf.uint16
                    )
                except tf.errors.InvalidArgumentError:
                    # The op says only that it failed.
                    name = UID(dataset.file_meta.TransferSyntaxUID).name
                    detail = f"tensorflow-io does not decode it; its transfer syntax is {name}"
                    raise ImageRejected(Reason.UNSUPPORTED, detail) from None
                return as_stored(image.numpy()[0, :, :, 0], dataset)

            probe = _probe()
            right = np.array_equal(stored_values(probe), np.frombuffer(probe.PixelData, np.int16).reshape(2, 3))
    except Exception as error:
        raise UsageError(_not_working(type(error).__name__)) from error
    if not right:
        raise UsageError(_not_working("wrong pixels"))
    return stored_values


def pixels_alone(dataset: Dataset) -> bytes:
    """A DICOM file with only the pixels of the dataset: no transform to apply, and no name."""
    alone = Dataset()
    for keyword in _KEPT:
        setattr(alone, keyword, dataset[keyword].value)
    alone.PhotometricInterpretation = "MONOCHROME2"  # the op inverts MONOCHROME1, and applies palettes
    alone.SOPClassUID, alone.SOPInstanceUID = _SECONDARY_CAPTURE, "1.2.3.4"
    syntax = UID(dataset.file_meta.TransferSyntaxUID)
    alone.add_new("PixelData", "OB" if syntax.is_encapsulated else "OW", dataset.PixelData)
    alone["PixelData"].is_undefined_length = syntax.is_encapsulated
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = alone.SOPClassUID, alone.SOPInstanceUID
    stream = io.BytesIO()
    dcmwrite(stream, FileDataset(stream, alone, preamble=bytes(128), file_meta=meta), enforce_file_format=True)
    return stream.getvalue()


def as_stored(values: NDArray[np.uint16], dataset: Dataset) -> NDArray[Any]:
    """Undoes the op's offset: it adds half the range to signed values."""
    if dataset.PixelRepresentation == 0:
        return values.astype(np.uint8) if dataset.BitsAllocated == 8 else values
    signed: NDArray[Any] = values.astype(np.int32) - (1 << (int(dataset.BitsStored) - 1))
    return signed.astype(np.int8 if dataset.BitsAllocated == 8 else np.int16)


def _probe() -> Dataset:
    probe = Dataset()
    probe.Rows, probe.Columns, probe.SamplesPerPixel, probe.PixelRepresentation = 2, 3, 1, 1
    probe.BitsAllocated, probe.BitsStored, probe.HighBit = 16, 12, 11
    probe.PixelData = np.array([-2048, -1, 0, 1, 7, 2047], np.int16).tobytes()
    probe.file_meta = FileMetaDataset()
    probe.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return probe


def _not_working(what: str) -> str:
    try:
        here = f"but TensorFlow {importlib.metadata.version('tensorflow')} is installed"
    except importlib.metadata.PackageNotFoundError:
        here = "in an environment of its own"
    return (
        f"--dicom_decoder tfio: tensorflow-io does not work ({what}); it needs {_WORKS_WITH}, {here}; see the extra tfio "
        "in docs/convert.md, or omit the flag"
    )
