"""What a kind of storage must be able to do."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import IO, BinaryIO, Protocol, TextIO

from schemas.source import File


class AlreadyExistsError(Exception):
    """The file to create already exists, or the file to replace has another version than expected."""


class ChangedSinceListing(FileNotFoundError):
    """The object has been replaced since it was listed."""


class Storage(Protocol):
    """A kind of storage. Places are its absolute paths or URIs; `folder` never ends in `/`.

    If a bucket refuses, every method raises JobFailed with one line that names the place. A disk's refusals stay
    OSErrors, except while folders are listed.
    """

    shared: bool
    """Whether workers on other machines can reach it."""

    reads_at_once: int
    """How many parallel reads, or other requests, keep it busy; 1 if a single one does."""

    def absolute(self, place: str) -> str:
        """`place` as workers in another folder find it. Raises UsageError if it cannot be a place."""

    def has_folder(self, folder: str) -> bool:
        """Whether `folder` can be written to and listed as it is. Always true in a bucket."""

    def subfolders(self, folder: str, root: str) -> list[str]:
        """The folders directly inside `folder`, sorted, without links back to it or to a folder above it, up to
        `root`."""

    def list_files(self, folder: str, root: str, recursive: bool) -> Iterator[File]:
        """Every file in `folder`, with its path relative to `root`. Bucket "folders" made as empty objects end in `/`."""

    def stat(self, uri: str, path: str) -> File | None:
        """The file at `uri`, named `path`, or None."""

    def read_bytes(self, uri: str, version: int | None) -> bytes:
        """The content of `uri`; in a bucket, that of generation `version`, with its checksum checked. Raises
        FileNotFoundError (ChangedSinceListing if a bucket has only another generation) or another OSError."""

    def open_text(self, uri: str) -> TextIO:
        """Opens UTF-8 text for reading line by line, with or without a byte order mark. Raises FileNotFoundError."""

    def open_binary(self, uri: str) -> BinaryIO:
        """Opens a file that can be read in parts, in any order. Raises FileNotFoundError."""

    def write_bytes(self, uri: str, data: bytes, over: int | None, staging: str) -> None:
        """Writes `data` whole or not at all. Raises AlreadyExistsError if `over` is given and is not the file's version
        (0: no file). A local file is first written to the folder `staging`, or next to `uri` if that is ""."""

    def new_file(self, folder: str) -> AbstractContextManager[IO[bytes]]:
        """A new, empty file to fill. `keep` then gives it a name in `folder`; without that, nothing is left of it."""

    def keep(self, file: IO[bytes], uri: str) -> None:
        """Gives a filled and flushed `new_file` its name."""

    def put_in_place(self, source: str, target: str) -> None:
        """Moves a file within the same disk or bucket. Does nothing if an earlier, interrupted call has moved it. In a
        bucket, the source stays, which saves a request that the next step would wait for."""

    def delete(self, uri: str) -> None:
        """Deletes the file at `uri` if it exists."""

    def delete_folder(self, folder: str, last: str) -> None:
        """Deletes `folder` with its content if it exists. The file named `last`, if that is not "", is deleted after
        the others. Several processes may do so at once."""

    def delete_if_empty(self, folder: str) -> None:
        """Removes a folder if it is empty. A bucket has no folders to remove."""
