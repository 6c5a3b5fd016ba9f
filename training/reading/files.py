"""Files of data sets and images to predict, local or gs://.

TensorFlow is loaded only to read gs://, and only where it is the backend of Keras; with other backends, google-cloud-storage
reads. Every function raises FileNotFoundError, or another OSError, of which `message` gives the text for users.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from training.reading.buckets.tensorflow_settings import configure

# A bucket is asked up to nine times within 40 seconds. TensorFlow's own waits have up to a second of jitter each, and
# neither client asks again for all that can go wrong.
ATTEMPTS = 9
FIRST_WAIT, WAIT_GROWTH, LONGEST_WAIT = 0.02, 3.0, 16.0  # seconds; most failures are over at once

Bytes = npt.NDArray[np.uint8]


class Found(NamedTuple):
    """The size of a file, and what changes when a local file changes; None in a bucket."""

    size: int
    stamp: tuple[int, ...] | None


def read(path: str) -> bytes:
    """The content of a file."""
    if is_remote(path):
        return bytes(_patiently(lambda client: client.read(path)))
    with open(path, "rb") as file:
        return file.read()


def read_into(path: str, buffer: Bytes) -> Found:
    """Fills a buffer that is as large as the file should be. If the file has another size, the content of the buffer is
    undefined. A bucket is asked once only, as the caller has more reasons to ask again."""
    if is_remote(path):
        return Found(int(_client().read_into(path, buffer)), None)
    with open(path, "rb", buffering=0) as file:
        found = os.fstat(file.fileno())
        view = buffer.data
        while count := file.readinto(view):
            view = view[count:]
        # A file that shrinks while it is read fills the buffer in part.
        size = found.st_size if not view else min(found.st_size, len(buffer) - len(view))
        return Found(size, (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns))


def size(path: str) -> int:
    """The size of a file in bytes."""
    return int(_patiently(lambda client: client.size(path))) if is_remote(path) else os.stat(path).st_size


def names(folder: str) -> list[str]:
    """The names of the files and folders in a folder, sorted."""
    return sorted(_patiently(lambda client: client.names(folder)) if is_remote(folder) else os.listdir(folder))


def is_folder(path: str) -> bool:
    """Whether `path` is a folder; in a bucket, whether there are objects below it."""
    return bool(_patiently(lambda client: client.is_folder(path))) if is_remote(path) else os.path.isdir(path)


def walk(folder: str) -> Iterator[tuple[str, list[str]]]:
    """Every folder from `folder` down and the names of its files, both sorted. Links to folders are not followed."""
    found: Any
    if is_remote(folder):
        found = _patiently(lambda client: list(client.walk(folder)))
    else:
        found = ((path, names) for path, _, names in os.walk(folder.rstrip("/") or "/"))
    for path, inside in sorted(found):
        yield path, sorted(inside)


def wait(attempt: int) -> None:
    """Waits before a bucket is asked again, longer each time."""
    time.sleep(min(FIRST_WAIT * WAIT_GROWTH**attempt, LONGEST_WAIT))


def _patiently(ask: Callable[[Any], Any]) -> Any:
    """What a bucket answers. It is asked again if it fails or the answer is cut."""
    client = _client()
    for attempt in range(ATTEMPTS):
        try:
            return ask(client)
        except OSError as error:
            if isinstance(error, FileNotFoundError) or attempt + 1 == ATTEMPTS:
                raise
        wait(attempt)
    return None


def message(error: OSError) -> str:
    """What went wrong, without the path."""
    return error.strerror or str(error)


def is_remote(path: str) -> bool:
    """Whether `path` is in a bucket."""
    return "://" in path


def _client() -> ModuleType:
    """The client of buckets."""
    if _backend() == "tensorflow":
        configure()
        from training.reading.buckets import tensorflow_client

        return tensorflow_client
    from training.reading.buckets import google_client

    return google_client


def _backend() -> str:
    """The backend of Keras, which is loaded only if nothing else says it."""
    if "keras" not in sys.modules and (given := os.environ.get("KERAS_BACKEND")):
        return given
    import keras

    return str(keras.config.backend())
