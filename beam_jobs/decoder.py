"""Which decoder a conversion uses: schemas/image.py's, with the DICOM decoder that --dicom_decoder names."""

from collections.abc import Callable
from functools import partial

from schemas.image import Decoded, ImageSettings, decode

DICOM_DECODERS = ("pydicom", "tfio")

# From a file's bytes to its tensor; raises ImageRejected or ImageSkipped.
Decode = Callable[[bytes], Decoded]


def decoder_of(settings: ImageSettings, dicom_decoder: str) -> Decode:
    """The decoder for these settings. Raises UsageError where tensorflow-io is asked for and does not work here."""
    if dicom_decoder == "tfio":
        from beam_jobs import tfio_dicom  # imports TensorFlow, which a worker otherwise never does

        return partial(decode, settings=settings, stored_values=tfio_dicom.load())
    return partial(decode, settings=settings)
