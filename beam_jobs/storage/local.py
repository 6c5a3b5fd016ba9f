"""Files on a disk that this machine sees."""

import contextlib
import errno
import os
import shutil
import stat as stat_module
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO, TextIO

from beam_jobs.storage.protocol import AlreadyExistsError
from schemas.errors import JobFailed
from schemas.source import File

_ATTEMPTS = 100  # to write into a folder that others may delete


class LocalFiles:
    """The storage of paths without a scheme; see Storage."""

    shared = False
    reads_at_once = 1

    def absolute(self, place: str) -> str:
        return os.path.abspath(place)

    def has_folder(self, folder: str) -> bool:
        return os.path.isdir(folder)

    def subfolders(self, folder: str, root: str) -> list[str]:
        try:
            above = {*_above(folder, root), _identity(folder)}
            with os.scandir(folder) as entries:
                return sorted(
                    entry.path for entry in entries if _is_folder(entry) and _identity(entry.path) not in above
                )
        except OSError as error:
            raise JobFailed(f"cannot read or write {folder}: {error.strerror}") from error

    def list_files(self, folder: str, root: str, recursive: bool) -> Iterator[File]:
        for local in _walk(folder, recursive, _above(folder, root)):
            yield _file_of(local, local.removeprefix(root.rstrip("/") + "/"))

    def stat(self, uri: str, path: str) -> File | None:
        return _file_of(uri, path) if os.path.isfile(uri) else None

    def read_bytes(self, uri: str, version: int | None) -> bytes:
        _check_kind(uri)
        with open(uri, "rb", buffering=0) as file:
            return file.read()

    def open_text(self, uri: str) -> TextIO:
        return open(uri, encoding="utf-8-sig", newline="")

    def open_binary(self, uri: str) -> BinaryIO:
        _check_kind(uri)
        return open(uri, "rb")

    def write_bytes(self, uri: str, data: bytes, over: int | None, staging: str) -> None:
        for left in reversed(range(_ATTEMPTS)):
            try:
                return self._write_bytes(uri, data, over, staging)
            except (FileNotFoundError, FileExistsError):  # of a folder that another run has just deleted
                if not left:
                    raise
        return None

    def _write_bytes(self, uri: str, data: bytes, over: int | None, staging: str) -> None:
        os.makedirs(os.path.dirname(uri) or ".", exist_ok=True)
        temporary = _temporary_in(staging or os.path.dirname(uri))
        try:
            Path(temporary).write_bytes(data)
            if over:
                # On a disk, comparing and replacing are two steps: a run that slept between them while two others
                # published could still replace the file. A bucket does both in one step.
                found = self.stat(uri, "")
                if found is None or found.version != over:
                    raise AlreadyExistsError(uri)
            if over != 0:
                os.replace(temporary, uri)
                return
            try:
                os.link(temporary, uri)  # unlike a rename, it refuses to replace a file
            except FileExistsError as error:
                raise AlreadyExistsError(uri) from error
        finally:
            Path(temporary).unlink(missing_ok=True)

    @contextlib.contextmanager
    def new_file(self, folder: str) -> Iterator[IO[bytes]]:
        os.makedirs(folder, exist_ok=True)
        temporary = _temporary_in(folder)
        try:
            with open(temporary, "wb") as file:
                yield file
        finally:
            Path(temporary).unlink(missing_ok=True)

    def keep(self, file: IO[bytes], uri: str) -> None:
        # The mark of a finished file is written later, and must not reach the disk before the bytes of the file.
        os.fsync(file.fileno())
        os.replace(file.name, uri)

    def put_in_place(self, source: str, target: str) -> None:
        try:
            os.replace(source, target)
        except FileNotFoundError:
            if not os.path.exists(target):
                raise

    def delete(self, uri: str) -> None:
        Path(uri).unlink(missing_ok=True)

    def delete_folder(self, folder: str, last: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            for entry in os.listdir(folder):
                path = os.path.join(folder, entry)
                if os.path.isdir(path):
                    shutil.rmtree(path, ignore_errors=True)
                elif entry != last:
                    Path(path).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)

    def delete_if_empty(self, folder: str) -> None:
        with contextlib.suppress(OSError):
            os.rmdir(folder)


def _check_kind(uri: str) -> None:
    """Raises OSError for a pipe, because reading it would block, and for a device, because it has no end."""
    if stat_module.S_IFMT(os.stat(uri).st_mode) not in (stat_module.S_IFREG, stat_module.S_IFDIR):
        raise OSError(errno.EINVAL, "not a regular file", uri)


def _identity(folder: str) -> tuple[int, int]:
    info = os.stat(folder)
    return info.st_dev, info.st_ino


def _above(folder: str, root: str) -> frozenset[tuple[int, int]]:
    """The identities of the folders from `root` down to the parent of `folder`."""
    names = folder.removeprefix(root.rstrip("/")).strip("/").split("/")[:-1] if folder != root else []
    return frozenset(_identity(os.path.join(root, *names[:depth])) for depth in range(len(names) + (folder != root)))


def _walk(folder: str, recursive: bool, above: frozenset[tuple[int, int]]) -> Iterator[str]:
    """The files of a folder, one at a time, because there may be millions. Follows links to folders, except those that
    lead back to a folder in `above`."""
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


def _temporary_in(folder: str) -> str:
    return os.path.join(folder, f".{uuid.uuid4().hex}.tmp")


def _file_of(local: str, path: str) -> File:
    path = path.replace(os.sep, "/")
    try:
        info = os.stat(local)
    except OSError:  # a broken link, or deleted since its folder was read: an unreadable input
        return File(local, path, -1, "", 0)
    if not stat_module.S_ISREG(info.st_mode):  # reading a pipe would block, and a device has no end
        return File(local, path, -1, "", 0)
    return File(local, path, info.st_size, "", info.st_mtime_ns)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a circular link
        return False
