"""Reads gs:// with TensorFlow's own client, which needs no other package."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import tensorflow as tf

_AT_ONCE = threading.BoundedSemaphore(4)  # each open file holds a block (tensorflow_settings.py)


def read(uri: str) -> bytes:
    """The content of an object: a request for each block."""
    with _AT_ONCE, _plain_errors(uri):
        content: bytes = tf.io.read_file(uri).numpy()
    return content


def read_into(uri: str, buffer: npt.NDArray[np.uint8]) -> int:
    """Fills a buffer that is as large as the object should be, and gives the size that the object has."""
    content = read(uri)
    if len(content) == len(buffer):
        buffer[:] = np.frombuffer(content, np.uint8)
    return len(content)


def size(uri: str) -> int:
    """The size of an object in bytes."""
    with _plain_errors(uri):
        return int(tf.io.gfile.stat(uri).length)


def names(folder: str) -> list[str]:
    """The names of the objects and folders in a folder."""
    with _plain_errors(folder):
        return [name.rstrip("/") for name in tf.io.gfile.listdir(folder)]


def is_folder(uri: str) -> bool:
    """Whether there are objects below `uri`."""
    with _plain_errors(uri):
        return bool(tf.io.gfile.isdir(uri))


def walk(folder: str) -> Iterator[tuple[str, list[str]]]:
    """Every folder from `folder` down, with the names of its objects."""
    with _plain_errors(folder):
        for path, _, found in tf.io.gfile.walk(folder):
            yield path.rstrip("/"), list(found)


@contextmanager
def _plain_errors(uri: str) -> Iterator[None]:
    try:
        yield
    except tf.errors.NotFoundError as error:
        raise FileNotFoundError(f"{uri}: no such object") from error
    except (
        tf.errors.InternalError
    ) as error:  # "File contents are inconsistent": fewer bytes than the size it was asked for
        raise OSError("it is cut or changed on its way") from error
    except tf.errors.OpError as error:
        raise OSError(error.message) from error
