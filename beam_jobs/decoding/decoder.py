"""The decoding processes of this worker, and which decoder they use."""

import atexit
import functools
from collections.abc import Sequence

from beam_jobs.settings.config import ConvertConfig
from schemas.decoders.pool import DECODER, DecoderPool
from schemas.decoders.process import Answer

_DECODERS = {"pydicom": DECODER, "tfio": "beam_jobs.decoding.tfio_dicom:decoder"}


def decode(images: Sequence[bytes], config: ConvertConfig) -> list[Answer]:
    """Decodes the images (bytes of whole files) with the settings of the config, in order; see DecoderPool.decode."""
    return pool(config).decode(images, config.image, config.decode_timeout, _DECODERS[config.dicom_decoder])


def pool(config: ConvertConfig) -> DecoderPool:
    """This process's only pool with these limits. Its children live until this process ends."""
    return _pool(config.decoders, config.decoder_memory << 20)


@functools.cache
def _pool(children: int, memory: int) -> DecoderPool:
    made = DecoderPool(children, memory)
    atexit.register(made.close)
    return made
