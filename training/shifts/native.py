"""Images as files, by folder, and the examples of a data set that were made of the same images."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.dataset import Manifest
from schemas.decoders.pool import DEFAULT_MEMORY, DecoderPool, cores, most_bytes
from schemas.errors import UsageError
from schemas.pixels.rejection import Decoded
from schemas.pixels.settings import ImageSettings
from schemas.source import skip_reason, split_and_label
from training.reading import files
from training.shifts.examples import Labelled, batches

# Two tensors of one image differ by less, in gray levels, as the root of the mean square. For 240 originals of the Kermany
# set and the tensors of their 224-pixel copies, the farthest pair differs by 6.3; the nearest other image is 17.5 away.
SAME = 10.0


class Native(NamedTuple):
    """Decoded files, in the order of their paths, and how many files were skipped, by reason."""

    examples: Labelled
    skipped: dict[str, int]


def read_native(folder: str, manifest: Manifest) -> Native:
    """The images below `folder`, local or gs://, whose folders name a class of the data set, decoded with its settings.
    Raises UsageError if there is none."""
    labelled, skipped = [], Counter[str]()
    for path, relative in _paths(folder):
        named = split_and_label(relative)
        if named and named[1] in manifest.classes:
            labelled.append((path, manifest.classes.index(named[1])))
        else:
            skipped["no class"] += 1
    images, labels = [], []
    # The pool closes first, so that an interrupt does not wait for an image that hangs.
    with ThreadPoolExecutor(cores() + 1) as threads, DecoderPool() as pool:
        answers = threads.map(lambda pair: _decoded(pair[0], manifest.image, pool), labelled)
        for (_, label), answer in zip(labelled, answers, strict=True):
            if isinstance(answer, str):
                skipped[answer] += 1
            else:
                images.append(answer)
                labels.append(label)
    if not images:
        raise UsageError(
            f"--raw {folder} holds no image in a folder named {' or '.join(manifest.classes)} that can be read"
        )
    return Native(Labelled(np.stack(images), np.array(labels, np.int64)), dict(skipped))


def twins(folder: str, manifest: Manifest, images: npt.NDArray[np.uint8]) -> list[str | None]:
    """For each of `images`, the id of the example of train or validation that was made of the same image; None if none
    was. Files of another size, format or compression give tensors that differ, by less than SAME."""
    nearest = [(np.inf, "")] * len(images)
    rows = _flat(images)
    for batch in batches(folder, manifest):
        theirs = _flat(np.stack([example.image for example in batch]))
        squares = (rows**2).sum(1)[:, None] + (theirs**2).sum(1) - 2 * rows @ theirs.T
        found = squares.argmin(1)
        for row, column in enumerate(found):
            nearest[row] = min(nearest[row], (float(squares[row, column]), batch[column].id))
    most = SAME**2 * rows.shape[1]
    return [id if square <= most else None for square, id in nearest]


def _flat(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    return images[..., 0].reshape(len(images), -1).astype(np.float32)


def _paths(folder: str) -> Iterator[tuple[str, str]]:
    """The files below `folder`: paths, and paths below it."""
    root = folder.rstrip("/")
    for inside, names in files.walk(root):
        for name in names:
            path = f"{inside.rstrip('/')}/{name}"
            relative = path.removeprefix(f"{root}/")
            if skip_reason(relative, 1) is None:
                yield path, relative


def _decoded(path: str, settings: ImageSettings, pool: DecoderPool) -> npt.NDArray[np.uint8] | str:
    """The tensor of a file, or why there is none."""
    try:
        if files.size(path) > most_bytes(DEFAULT_MEMORY):
            return "file_too_large"
        data = files.read(path)
    except OSError:
        return "unreadable"
    answer = pool.decode([data], settings)[0]
    return answer.pixels if isinstance(answer, Decoded) else answer.reason.value
