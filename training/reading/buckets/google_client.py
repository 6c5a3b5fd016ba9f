"""Reads gs:// with google-cloud-storage, for the backends of Keras that come without TensorFlow. files.py asks again if a
request fails."""

import functools
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from schemas.errors import UsageError

if TYPE_CHECKING:
    from google.cloud import storage

_CONNECTIONS = 64  # kept open; the client's default of 10 is below the number of parallel reads


def read(uri: str) -> bytes:
    """The content of an object."""
    with plain_errors(uri):
        found = stored_object(uri)
        content: bytes = found.download_as_bytes(retry=None)
    return content


def read_into(uri: str, buffer: npt.NDArray[np.uint8]) -> int:
    """Fills a buffer that is as large as the object should be, and gives the size that the object has."""
    target = _Target(buffer)
    with plain_errors(uri):
        found = stored_object(uri)
        # The caller has a checksum.
        found.download_to_file(target, raw_download=True, checksum=None, retry=None)
    return target.length


def size(uri: str) -> int:
    """The size of an object in bytes."""
    with plain_errors(uri):
        found = stored_object(uri)
        found.reload(retry=None)
        return int(found.size)


def names(folder: str) -> list[str]:
    """The names of the objects and folders in a folder."""
    bucket, prefix = _split(f"{folder.rstrip('/')}/")
    with plain_errors(folder):
        pages = client().list_blobs(
            bucket, prefix=prefix, delimiter="/", fields="items(name),prefixes,nextPageToken", retry=None
        )
        found = [blob.name for blob in pages]
        found += pages.prefixes  # complete once every page has been read
    return sorted(name.removeprefix(prefix).rstrip("/") for name in found if name != prefix)


def is_folder(uri: str) -> bool:
    """Whether there are objects below `uri`."""
    bucket, prefix = _split(f"{uri.rstrip('/')}/")
    with plain_errors(uri):
        return any(
            True for _ in client().list_blobs(bucket, prefix=prefix, max_results=1, fields="items(name)", retry=None)
        )


def walk(folder: str) -> Iterator[tuple[str, list[str]]]:
    """Every folder from `folder` down, with the names of its objects."""
    bucket, prefix = _split(f"{folder.rstrip('/')}/")
    found: dict[str, list[str]] = {}
    with plain_errors(folder):
        for blob in client().list_blobs(bucket, prefix=prefix, fields="items(name),nextPageToken", retry=None):
            parent, _, name = f"gs://{bucket}/{blob.name}".rpartition("/")
            found.setdefault(parent, []).extend([name] if name else [])
    yield from found.items()


class _Target(io.RawIOBase):
    """Writes into a buffer, and counts what lies beyond it."""

    def __init__(self, buffer: npt.NDArray[np.uint8]) -> None:
        self._view, self._at, self.length = buffer.data, 0, 0

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.length}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def write(self, data: Any) -> int:
        held = self._view[self._at : self._at + len(data)]
        held[:] = memoryview(data)[: len(held)]
        self._at += len(data)
        self.length = self._at
        return len(data)


def stored_object(uri: str) -> "storage.Blob":
    bucket, name = _split(uri)
    return client().bucket(bucket).blob(name)


def _split(uri: str) -> tuple[str, str]:
    bucket, _, name = uri.removeprefix("gs://").partition("/")
    return bucket, name


@functools.cache
def client() -> "storage.Client":
    """The only client of this process; STORAGE_EMULATOR_HOST leads it to a local bucket."""
    try:
        import requests.adapters
        from google.auth.exceptions import DefaultCredentialsError
        from google.cloud import storage
    except ImportError as error:
        raise UsageError(
            "gs:// paths need google-cloud-storage where TensorFlow is not the backend; in a clone, run: "
            "pip install '.[gcp]'"
        ) from error
    try:
        made = storage.Client()
    except DefaultCredentialsError as error:
        raise UsageError(
            "no credentials for gs:// paths; run gcloud auth application-default login or set "
            "GOOGLE_APPLICATION_CREDENTIALS"
        ) from error
    except OSError as error:
        if "project" not in str(error).lower():
            raise
        made = storage.Client(project="radrecords")  # objects are read without naming a project
    for scheme in ("https://", "http://"):
        made._http.mount(scheme, requests.adapters.HTTPAdapter(pool_maxsize=_CONNECTIONS))
    return made


@contextmanager
def plain_errors(uri: str) -> Iterator[None]:
    try:
        yield
    except (OSError, UsageError):
        raise
    except Exception as error:
        if getattr(error, "code", None) == 404:
            raise FileNotFoundError(f"{uri}: no such object") from error
        if type(error).__name__ == "DataCorruption":  # of another module in each release; its text has many lines
            raise OSError("it is cut or changed on its way") from error
        raise OSError(f"{type(error).__name__}: {error}") from error
