"""A way to read, where the images are, and the contents of an epoch. Every environment loads this: it needs only NumPy."""

import hashlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

# One epoch is an iterator of batches; epochs follow each other without an end.
Epochs = Iterator[Iterator[Any]]
Arrays = tuple[npt.NDArray[Any], npt.NDArray[Any]]


@dataclass(frozen=True)
class Data:
    """The same images in several forms, each gray and of one size.

    png: a folder with a folder of PNGs for each class. records: the data set that was converted from them. bucket: its copy,
    `gs://...`. peers: a folder for other formats. shape: [height, width, channels]. examples: how many. shards:
    of the data set, and of the peers' formats.
    """

    png: str
    records: str
    bucket: str
    peers: str
    shape: tuple[int, int, int]
    examples: int
    shards: int

    def steps(self, batch: int) -> int:
        """The number of batches in an epoch; the last holds what is left."""
        return -(-self.examples // batch)


class Way(NamedTuple):
    """One way to read batches.

    epochs: opens the data in a folder (`Data.records` or `Data.bucket`) and gives batches of this size. arrays: the images,
    uint8 [batch, ...], and the labels, integers [batch], of a batch. counts: reads in the same way, as training does, and
    gives the number of examples of each epoch. in_bucket, on_disk: whether it reads from gs:// and from the local disk.
    """

    name: str
    epochs: Callable[[Data, str, int], Epochs]
    arrays: Callable[[Any, Data], Arrays]
    counts: Callable[[Data, str, int], Iterator[int]]
    in_bucket: bool = False
    on_disk: bool = True


class Contents:
    """The examples of an epoch: their number, a checksum of pixels and labels that is the same in any order, and one that
    is not."""

    def __init__(self) -> None:
        self.examples = 0
        self._sum = 0
        self._sequence = hashlib.blake2b(digest_size=8)

    def add(self, images: npt.NDArray[Any], labels: npt.NDArray[Any]) -> None:
        """Adds a batch. Raises ValueError if the images are not uint8 or do not belong to the labels."""
        if images.dtype != np.uint8 or len(images) != len(labels):
            raise ValueError(f"{len(images)} images of {images.dtype} and {len(labels)} labels")
        for image, label in zip(images, labels, strict=True):
            digest = hashlib.blake2b(image.tobytes() + bytes([int(label)]), digest_size=8).digest()
            self._sum = (self._sum + int.from_bytes(digest, "big")) % (1 << 64)
            self._sequence.update(digest)
            self.examples += 1

    def as_json(self) -> dict[str, Any]:
        """The three values."""
        return {"examples": self.examples, "any_order": f"{self._sum:016x}", "order": self._sequence.hexdigest()}


def labelled_files(folder: str) -> list[tuple[str, int]]:
    """The files of a folder that has a folder for each class, with the indices of their classes."""
    classes = sorted(path for path in Path(folder).iterdir() if path.is_dir())
    return [(str(file), label) for label, path in enumerate(classes) for file in sorted(path.iterdir())]


def in_epochs(endless: Iterator[Any], steps: int) -> Epochs:
    """The epochs of endless batches, `steps` of them each."""
    while True:
        yield itertools.islice(endless, steps)


def python_way(
    name: str, epochs: Callable[[Data, str, int], Epochs], arrays: Callable[[Any, Data], Arrays], **places: bool
) -> Way:
    """A Way whose batches, pairs of images and labels, are taken one by one from Python."""

    def counts(data: Data, folder: str, batch: int) -> Iterator[int]:
        for epoch in epochs(data, folder, batch):
            yield sum(len(images) for images, _ in epoch)

    return Way(name, epochs, arrays, counts, **places)
