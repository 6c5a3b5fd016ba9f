"""Image files, local or in a bucket, decoded in batches for a model."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from schemas.decoders.pool import DecoderPool, cores
from schemas.decoders.process import Answer
from schemas.errors import JobFailed
from schemas.pixels.rejection import Decoded
from schemas.pixels.settings import ImageSettings
from training.reading.image_files import complain, image_files, read_image_file

BATCH = 256


@dataclass
class Tally:
    """How many files were read, and how many of them could not be."""

    read: int = 0
    bad: int = 0

    def check(self) -> None:
        """Raises JobFailed if an image could not be read, or there was none."""
        if self.bad or not self.read:
            failed = f"{self.bad} of {self.read} images could not be read"
            raise JobFailed(failed if self.read else "no image in the given folders")


def decoded_batches(
    images: Sequence[str], settings: ImageSettings, tally: Tally
) -> Iterator[tuple[list[str], npt.NDArray[np.uint8]]]:
    """The paths of at most BATCH images and their tensors, uint8 [images, height, width, channels], batch by batch.

    images: files, and folders whose files are all read. An image that cannot be read gets a line on stderr instead, and the
    others continue; `tally` counts both.
    """
    paths = image_files(images)
    # The pool closes first, so that an interrupt does not wait for an image that hangs.
    with ThreadPoolExecutor(cores() + 1) as threads, DecoderPool() as pool:
        while group := list(islice(paths, BATCH)):
            answers = threads.map(lambda path: (path, _answer(path, settings, pool)), group)
            decoded = []
            for path, answer in answers:
                if isinstance(answer, Decoded):
                    decoded.append((path, answer.pixels))
                else:
                    complain(path, answer)
            tally.read, tally.bad = tally.read + len(group), tally.bad + len(group) - len(decoded)
            if decoded:
                yield [path for path, _ in decoded], np.stack([pixels for _, pixels in decoded])


def _answer(path: str, settings: ImageSettings, pool: DecoderPool) -> Answer | str:
    """The decoder's answer for a file, or a message that says why it cannot be read."""
    data = read_image_file(path)
    return data if isinstance(data, str) else pool.decode([data], settings)[0]
