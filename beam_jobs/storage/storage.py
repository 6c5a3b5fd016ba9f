"""Files on a local disk and objects in a bucket, behind the same few functions. bucket.py has the bucket's side."""

import contextlib
import errno
import os
import shutil
import stat as stat_module
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO, TextIO

from beam_jobs.storage import bucket
from schemas.errors import JobFailed
from schemas.source import File


class AlreadyExistsError(Exception):
    """A create-only write found the file there."""


def is_remote(uri: str) -> bool:
    """Whether `uri` is an object in a bucket."""
    return uri.startswith("gs://")


def join(folder: str, *names: str) -> str:
    """`folder/name/...`; gives the last name alone where that is absolute."""
    for name in names:
        absolute = is_remote(name) or (name.startswith("/") and not is_remote(folder))
        folder = name if absolute else f"{folder.rstrip('/')}/{name}"
    return folder


def subfolders(folder: str, root: str) -> list[str]:
    """The folders directly inside `folder`, sorted; without links that lead back to it or to one above it, up to `root`."""
    if is_remote(folder):
        return bucket.subfolders(folder)
    try:
        above = {*_above(folder, root), _identity(folder)}
        with os.scandir(folder) as entries:
            return sorted(entry.path for entry in entries if _is_folder(entry) and _identity(entry.path) not in above)
    except OSError as error:
        raise JobFailed(f"cannot read or write {folder}: {error.strerror}") from error


def list_files(folder: str, root: str, recursive: bool = True) -> Iterator[File]:
    """Every file in `folder`, its path told relative to `root`. Bucket "folders" made as empty objects end in `/`."""
    if is_remote(folder):
        yield from bucket.list_files(folder, root, recursive)
        return
    for local in _walk(folder, recursive, _above(folder, root)):
        yield _local_file(local, local.removeprefix(root.rstrip("/") + "/"))


def _identity(folder: str) -> tuple[int, int]:
    info = os.stat(folder)
    return info.st_dev, info.st_ino


def _above(folder: str, root: str) -> frozenset[tuple[int, int]]:
    """The folders from `root` down to the one that `folder` is in."""
    names = folder.removeprefix(root.rstrip("/")).strip("/").split("/")[:-1] if folder != root else []
    return frozenset(_identity(os.path.join(root, *names[:depth])) for depth in range(len(names) + (folder != root)))


def _walk(folder: str, recursive: bool, above: frozenset[tuple[int, int]]) -> Iterator[str]:
    """The files of a folder as the disk tells them: one may hold millions. Folders that are links too, but not those
    that lead back to one `above`."""
    folders = []
    try:
        here = _identity(folder)
        if here in above:
            return
        with os.scandir(folder) as entries:
            for entry in entries:
                if _is_folder(entry):
                    folders.append(entry.path)
                else:
                    yield entry.path
    except OSError as error:
        raise JobFailed(f"cannot list {folder}: {error.strerror}") from error
    for inside in folders if recursive else ():
        yield from _walk(inside, recursive, above | {here})


def stat(uri: str, path: str) -> File | None:
    """The file at `uri`, named `path`, or None where there is none."""
    if is_remote(uri):
        return bucket.stat(uri, path)
    return _local_file(uri, path) if os.path.isfile(uri) else None


def read_bytes(uri: str, version: int | None = None) -> bytes:
    """The content of `uri`; in a bucket that of generation `version`. Raises FileNotFoundError, or OSError for others."""
    if is_remote(uri):
        return bucket.read_bytes(uri, version)
    if stat_module.S_IFMT(os.stat(uri).st_mode) not in (stat_module.S_IFREG, stat_module.S_IFDIR):
        raise OSError(errno.EINVAL, "not a regular file", uri)  # a pipe would be waited for
    with open(uri, "rb", buffering=0) as file:
        return file.read()


def open_text(uri: str) -> TextIO:
    """Opens UTF-8 text for reading line by line, with or without a byte order mark. Raises FileNotFoundError."""
    if is_remote(uri):
        return bucket.open_text(uri)
    return open(uri, encoding="utf-8-sig", newline="")


def open_binary(uri: str) -> BinaryIO:
    """Opens a file for reading parts of it, in any order. Raises FileNotFoundError."""
    if is_remote(uri):
        return bucket.open_binary(uri)
    return open(uri, "rb")


def exists(uri: str) -> bool:
    """Whether there is a file at `uri`."""
    return stat(uri, "") is not None


def write_bytes(uri: str, data: bytes, create_only: bool = False, over: int | None = None, staging: str = "") -> None:
    """Writes `data` whole or not at all. Raises AlreadyExistsError where `create_only` and the file is there, or where
    `over` is given and is not the file's version (0: no file). A local file takes shape in the folder `staging`, or
    beside `uri`."""
    if create_only:
        over = 0
    if is_remote(uri):
        if not bucket.write_bytes(uri, data, over):
            raise AlreadyExistsError(uri)
        return
    os.makedirs(os.path.dirname(uri) or ".", exist_ok=True)
    temporary = _temporary_in(staging or os.path.dirname(uri))
    try:
        Path(temporary).write_bytes(data)
        if over:
            # A disk compares and replaces in two steps: a run that slept between them, while two others published,
            # could still replace. A bucket does it in one.
            found = stat(uri, "")
            if found is None or found.version != over:
                raise AlreadyExistsError(uri)
        if over != 0:
            os.replace(temporary, uri)
            return
        try:
            os.link(temporary, uri)  # unlike a rename, refuses to replace
        except FileExistsError as error:
            raise AlreadyExistsError(uri) from error
    finally:
        Path(temporary).unlink(missing_ok=True)


@contextlib.contextmanager
def new_file(folder: str) -> Iterator[IO[bytes]]:
    """An empty file to fill and then to `keep` in `folder`; else nothing is left of it. For a bucket it is a nameless
    local one, so that a process that is killed leaves none either."""
    if is_remote(folder):
        with tempfile.TemporaryFile() as file:
            yield file
        return
    os.makedirs(folder, exist_ok=True)
    temporary = _temporary_in(folder)
    try:
        with open(temporary, "wb") as file:
            yield file
    finally:
        Path(temporary).unlink(missing_ok=True)


def keep(file: IO[bytes], uri: str) -> None:
    """Gives a filled `new_file` its name: a rename on disk, one checksummed upload to a bucket."""
    file.flush()
    if is_remote(uri):
        bucket.keep(file, uri)
        return
    os.fsync(file.fileno())  # what is written later and says that it is finished must not outlive its bytes
    os.replace(file.name, uri)


def move(source: str, target: str) -> None:
    """Moves a file within the same disk or bucket. Moving again what an earlier, interrupted call moved does nothing."""
    if is_remote(target):
        bucket.move(source, target)
        return
    try:
        os.replace(source, target)
    except FileNotFoundError:
        if not os.path.exists(target):
            raise


def delete(uri: str) -> None:
    """Deletes the file at `uri`, if it is there."""
    if is_remote(uri):
        bucket.delete(uri)
        return
    Path(uri).unlink(missing_ok=True)


def delete_folder(folder: str, last: str = "") -> None:
    """Deletes `folder` and all in it, if it is there; the file named `last` after the others. Several processes may do
    so at once."""
    if is_remote(folder):
        bucket.delete_folder(folder, last)
        return
    with contextlib.suppress(FileNotFoundError):
        for entry in os.listdir(folder):
            path = os.path.join(folder, entry)
            if os.path.isdir(path):
                shutil.rmtree(path, ignore_errors=True)
            elif entry != last:
                Path(path).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def delete_if_empty(*folders: str) -> None:
    """Removes local folders that have nothing in them, one after the other; a bucket has no folders to remove."""
    for folder in folders:
        if not is_remote(folder):
            with contextlib.suppress(OSError):
                os.rmdir(folder)


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


def _temporary_in(folder: str) -> str:
    return os.path.join(folder, f".{uuid.uuid4().hex}.tmp")


def _local_file(local: str, path: str) -> File:
    path = path.replace(os.sep, "/")
    try:
        info = os.stat(local)
    except OSError:  # a link to nowhere, or deleted since its folder was read: an input that cannot be read
        return File(local, path, -1, "", 0)
    if not stat_module.S_ISREG(info.st_mode):  # a pipe would be waited for, a device has no end
        return File(local, path, -1, "", 0)
    return File(local, path, info.st_size, "", info.st_mtime_ns)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle
        return False
