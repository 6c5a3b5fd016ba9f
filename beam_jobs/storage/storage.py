"""Files on a local disk and objects in a bucket, behind the same few functions.

Each function finds the kind of storage by the scheme of the place; no other module does. protocol.py says what a kind
must be able to do. Another kind needs a class like LocalFiles or Bucket, and its scheme in _KINDS.
"""

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import IO, BinaryIO, TextIO

from beam_jobs.storage.bucket import Bucket
from beam_jobs.storage.local import LocalFiles
from beam_jobs.storage.protocol import AlreadyExistsError, ChangedSinceListing, Storage
from schemas.errors import JobFailed
from schemas.source import File

__all__ = ["AlreadyExistsError", "ChangedSinceListing"]

_LOCAL: Storage = LocalFiles()
_KINDS: dict[str, Storage] = {"gs": Bucket()}


def _of(place: str) -> Storage:
    scheme, separator, _ = place.partition("://")
    return _KINDS.get(scheme, _LOCAL) if separator else _LOCAL


def join(folder: str, *names: str) -> str:
    """`folder/name/...`, or the last name alone if it is absolute."""
    for name in names:
        absolute = _of(name) is not _LOCAL or (name.startswith("/") and _of(folder) is _LOCAL)
        folder = name if absolute else f"{folder.rstrip('/')}/{name}"
    return folder


def absolute(place: str) -> str:
    """`place` as workers in another folder find it. Raises UsageError if it cannot be a place."""
    return _of(place).absolute(place)


def is_shared(place: str) -> bool:
    """Whether workers on other machines can reach `place`."""
    return _of(place).shared


def reads_at_once(place: str) -> int:
    """How many parallel reads keep the storage of `place` busy."""
    return _of(place).reads_at_once


def has_folder(folder: str) -> bool:
    """Whether `folder` can be written to and listed as it is. Always true in a bucket."""
    return _of(folder).has_folder(folder)


def subfolders(folder: str, root: str) -> list[str]:
    """The folders directly inside `folder`, sorted, without links back to it or to a folder above it, up to `root`."""
    return _of(folder).subfolders(folder, root)


def list_files(folder: str, root: str, recursive: bool = True) -> Iterator[File]:
    """Every file in `folder`, with its path relative to `root`. Bucket "folders" made as empty objects end in `/`."""
    return _of(folder).list_files(folder, root, recursive)


def stat(uri: str, path: str) -> File | None:
    """The file at `uri`, named `path`, or None."""
    return _of(uri).stat(uri, path)


def read_bytes(uri: str, version: int | None = None) -> bytes:
    """The content of `uri`; in a bucket, that of generation `version`, with its checksum checked. Raises FileNotFoundError
    (ChangedSinceListing if a bucket has only another generation) or another OSError."""
    return _of(uri).read_bytes(uri, version)


def open_text(uri: str) -> TextIO:
    """Opens UTF-8 text for reading line by line, with or without a byte order mark. Raises FileNotFoundError."""
    return _of(uri).open_text(uri)


def open_binary(uri: str) -> BinaryIO:
    """Opens a file that can be read in parts, in any order. Raises FileNotFoundError."""
    return _of(uri).open_binary(uri)


def exists(uri: str) -> bool:
    """Whether there is a file at `uri`."""
    return stat(uri, "") is not None


def write_bytes(uri: str, data: bytes, create_only: bool = False, over: int | None = None, staging: str = "") -> None:
    """Writes `data` atomically. Raises AlreadyExistsError if `create_only` is set and the file exists, or if `over` is given
    and is not the file's version (0: no file). A local file is first written to the folder `staging`, or next to `uri`."""
    _of(uri).write_bytes(uri, data, 0 if create_only else over, staging)


def new_file(folder: str) -> AbstractContextManager[IO[bytes]]:
    """A new, empty file to fill. `keep` then gives it a name in `folder`; without that, nothing is left of it."""
    return _of(folder).new_file(folder)


def keep(file: IO[bytes], uri: str) -> None:
    """Gives a filled `new_file` its name: a rename on disk, one checksummed upload to a bucket."""
    file.flush()
    _of(uri).keep(file, uri)


def put_in_place(source: str, target: str) -> None:
    """Moves a file within the same disk or bucket. Does nothing if an earlier, interrupted call has moved it. In a bucket,
    the source stays, which saves a request that the next step would wait for."""
    _of(target).put_in_place(source, target)


def delete(uri: str) -> None:
    """Deletes the file at `uri` if it exists."""
    _of(uri).delete(uri)


def delete_folder(folder: str, last: str = "") -> None:
    """Deletes `folder` with its content if it exists. The file named `last` is deleted last. Several processes may do
    so at once."""
    _of(folder).delete_folder(folder, last)


def delete_if_empty(*folders: str) -> None:
    """Removes those of the local folders that are empty, in this order. A bucket has no folders."""
    for folder in folders:
        _of(folder).delete_if_empty(folder)


@contextlib.contextmanager
def writing(uri: str) -> Iterator[None]:
    """Turns a disk's write error (full, read-only, gone) into a one-line error that names `uri`."""
    try:
        yield
    except OSError as error:
        raise JobFailed(
            f"cannot write {uri}: {error.strerror or error}; nothing was published. Fix this and run again: finished "
            "shards are kept"
        ) from error
