"""Files on a local disk and objects in a bucket, behind the same few functions.

Each finds the kind of storage by the scheme of the place, here and nowhere else; protocol.py says what a kind can do. What
another one needs: a class beside LocalFiles and Bucket, and its scheme in _KINDS.
"""

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import IO, BinaryIO, TextIO

from beam_jobs.storage.bucket import Bucket
from beam_jobs.storage.local import LocalFiles
from beam_jobs.storage.protocol import AlreadyExistsError, Storage
from schemas.errors import JobFailed
from schemas.source import File

__all__ = ["AlreadyExistsError"]

_LOCAL: Storage = LocalFiles()
_KINDS: dict[str, Storage] = {"gs": Bucket()}


def _of(place: str) -> Storage:
    scheme, separator, _ = place.partition("://")
    return _KINDS.get(scheme, _LOCAL) if separator else _LOCAL


def join(folder: str, *names: str) -> str:
    """`folder/name/...`; gives the last name alone where that is absolute."""
    for name in names:
        absolute = _of(name) is not _LOCAL or (name.startswith("/") and _of(folder) is _LOCAL)
        folder = name if absolute else f"{folder.rstrip('/')}/{name}"
    return folder


def absolute(place: str) -> str:
    """`place` as workers in another folder find it. Raises UsageError where it cannot be a place."""
    return _of(place).absolute(place)


def is_shared(place: str) -> bool:
    """Whether workers on other machines reach `place`."""
    return _of(place).shared


def reads_at_once(place: str) -> int:
    """How many reads keep the storage of `place` busy."""
    return _of(place).reads_at_once


def has_folder(folder: str) -> bool:
    """Whether `folder` can be written in and listed as it is; in a bucket always."""
    return _of(folder).has_folder(folder)


def subfolders(folder: str, root: str) -> list[str]:
    """The folders directly inside `folder`, sorted; without links that lead back to it or to one above it, up to `root`."""
    return _of(folder).subfolders(folder, root)


def list_files(folder: str, root: str, recursive: bool = True) -> Iterator[File]:
    """Every file in `folder`, its path told relative to `root`. Bucket "folders" made as empty objects end in `/`."""
    return _of(folder).list_files(folder, root, recursive)


def stat(uri: str, path: str) -> File | None:
    """The file at `uri`, named `path`, or None where there is none."""
    return _of(uri).stat(uri, path)


def read_bytes(uri: str, version: int | None = None) -> bytes:
    """The content of `uri`; in a bucket that of generation `version`. Raises FileNotFoundError, or OSError for others."""
    return _of(uri).read_bytes(uri, version)


def open_text(uri: str) -> TextIO:
    """Opens UTF-8 text for reading line by line, with or without a byte order mark. Raises FileNotFoundError."""
    return _of(uri).open_text(uri)


def open_binary(uri: str) -> BinaryIO:
    """Opens a file for reading parts of it, in any order. Raises FileNotFoundError."""
    return _of(uri).open_binary(uri)


def exists(uri: str) -> bool:
    """Whether there is a file at `uri`."""
    return stat(uri, "") is not None


def write_bytes(uri: str, data: bytes, create_only: bool = False, over: int | None = None, staging: str = "") -> None:
    """Writes `data` whole or not at all. Raises AlreadyExistsError where `create_only` and the file is there, or where
    `over` is given and is not the file's version (0: no file). A local file takes shape in the folder `staging`, or
    beside `uri`."""
    _of(uri).write_bytes(uri, data, 0 if create_only else over, staging)


def new_file(folder: str) -> AbstractContextManager[IO[bytes]]:
    """An empty file to fill and then to `keep` in `folder`; else nothing is left of it."""
    return _of(folder).new_file(folder)


def keep(file: IO[bytes], uri: str) -> None:
    """Gives a filled `new_file` its name: a rename on disk, one checksummed upload to a bucket."""
    file.flush()
    _of(uri).keep(file, uri)


def move(source: str, target: str) -> None:
    """Moves a file within the same disk or bucket. Moving again what an earlier, interrupted call moved does nothing."""
    _of(target).move(source, target)


def delete(uri: str) -> None:
    """Deletes the file at `uri`, if it is there."""
    _of(uri).delete(uri)


def delete_folder(folder: str, last: str = "") -> None:
    """Deletes `folder` and all in it, if it is there; the file named `last` after the others. Several processes may do
    so at once."""
    _of(folder).delete_folder(folder, last)


def delete_if_empty(*folders: str) -> None:
    """Removes local folders that have nothing in them, one after the other; a bucket has no folders to remove."""
    for folder in folders:
        _of(folder).delete_if_empty(folder)


@contextlib.contextmanager
def writing(uri: str) -> Iterator[None]:
    """Turns what a disk says while something is written (full, read-only, gone) into one line that names `uri`."""
    try:
        yield
    except OSError as error:
        raise JobFailed(
            f"cannot write {uri}: {error.strerror or error}; nothing was published. Mend it, and run again: finished "
            "shards are kept"
        ) from error
