"""The processes that decode for this one, and which decoder they use."""

import atexit
import functools
from collections.abc import Sequence

from beam_jobs.config import ConvertConfig
from schemas.decoder_pool import DECODER, DecoderPool
from schemas.decoder_process import Answer

_DECODERS = {"pydicom": DECODER, "tfio": "beam_jobs.tfio_dicom:decoder"}


def decode(images: Sequence[bytes], config: ConvertConfig) -> list[Answer]:
    """What becomes of each image (bytes of whole files), in order, as the config wants it; see DecoderPool.decode."""
    return pool(config).decode(images, config.image, config.decode_timeout, _DECODERS[config.dicom_decoder])


def pool(config: ConvertConfig) -> DecoderPool:
    """The one pool of this process with these limits. Its children live until this process ends."""
    return _pool(config.decoders, config.decoder_memory << 20)


@functools.cache
def _pool(children: int, memory: int) -> DecoderPool:
    made = DecoderPool(children, memory)
    atexit.register(made.close)
    return made
