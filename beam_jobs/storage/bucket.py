"""Objects in a bucket of Google Cloud Storage.

Uses google-cloud-storage instead of Beam's own file systems: it needs one request per image instead of three, pins the
generation, and has create-only writes.
"""

import base64
import contextlib
import io
import itertools
import tempfile
from collections.abc import Iterator
from functools import partial
from typing import IO, Any, BinaryIO, TextIO

from beam_jobs.storage.client import as_prefix, client, patience, patiently, plain_errors, split
from beam_jobs.storage.parallel import AT_ONCE, each
from beam_jobs.storage.protocol import AlreadyExistsError, ChangedSinceListing
from schemas.source import File

_READ_AT_ONCE = 4 << 20  # bytes of a file that is read in parts; the client's default is 40 MiB
_DELETED_AT_ONCE = 1_000  # objects whose names are held


class Bucket:
    """The storage of gs:// URIs; see Storage."""

    shared = True
    reads_at_once = AT_ONCE

    def absolute(self, place: str) -> str:
        split(place)
        return place.rstrip("/")

    def has_folder(self, folder: str) -> bool:
        return True

    def subfolders(self, folder: str, root: str) -> list[str]:
        bucket, prefix = split(folder)
        with plain_errors(folder):
            pages = client().list_blobs(
                bucket,
                prefix=as_prefix(prefix),
                delimiter="/",
                fields="prefixes,nextPageToken",
                retry=patience(),
            )
            for _ in pages:  # prefixes are complete once every page has been read
                pass
            return sorted(f"gs://{bucket}/{name.rstrip('/')}" for name in pages.prefixes)

    def list_files(self, folder: str, root: str, recursive: bool) -> Iterator[File]:
        bucket, prefix = split(folder)
        skip = len(as_prefix(split(root)[1]))
        with plain_errors(folder):
            blobs = client().list_blobs(
                bucket,
                prefix=as_prefix(prefix),
                delimiter=None if recursive else "/",
                fields="items(name,size,md5Hash,generation),prefixes,nextPageToken",
                retry=patience(),
            )
            for blob in blobs:
                yield _file_of(blob, bucket, blob.name[skip:])

    def stat(self, uri: str, path: str) -> File | None:
        bucket, name = split(uri)
        with plain_errors(uri):
            blob = client().bucket(bucket).get_blob(name, retry=patience())
        return None if blob is None else _file_of(blob, bucket, path)

    def read_bytes(self, uri: str, version: int | None) -> bytes:
        from google.api_core.exceptions import NotFound

        bucket, name = split(uri)
        with plain_errors(uri):
            blob = client().bucket(bucket).blob(name, generation=version)
            try:
                content: bytes = patiently(partial(blob.download_as_bytes, checksum="crc32c", retry=None))
            except NotFound as error:
                if version is not None and self.stat(uri, "") is not None:
                    raise ChangedSinceListing(uri) from error
                raise FileNotFoundError(uri) from error
            return content

    def open_text(self, uri: str) -> TextIO:
        return io.TextIOWrapper(self.open_binary(uri), encoding="utf-8-sig", newline="")

    def open_binary(self, uri: str) -> BinaryIO:
        file = self.stat(uri, "")
        if file is None:
            raise FileNotFoundError(uri)
        return io.BufferedReader(_Parts(file), _READ_AT_ONCE)

    def write_bytes(self, uri: str, data: bytes, over: int | None, staging: str) -> None:
        from google.api_core.exceptions import PreconditionFailed

        bucket, name = split(uri)
        with plain_errors(uri):
            try:
                client().bucket(bucket).blob(name).upload_from_string(
                    data,
                    content_type="application/octet-stream",
                    if_generation_match=over,
                    checksum="crc32c",
                    retry=patience(),
                )
                return
            except PreconditionFailed:
                pass
        raise AlreadyExistsError(uri)

    @contextlib.contextmanager
    def new_file(self, folder: str) -> Iterator[IO[bytes]]:
        # A local file without a name, so that a killed process leaves no file behind either.
        with tempfile.TemporaryFile() as file:
            yield file

    def keep(self, file: IO[bytes], uri: str) -> None:
        bucket, name = split(uri)
        with plain_errors(uri):
            client().bucket(bucket).blob(name).upload_from_file(
                file,
                rewind=True,
                size=file.tell(),
                content_type="application/octet-stream",
                checksum="crc32c",
                retry=patience(),
            )

    def put_in_place(self, source: str, target: str) -> None:
        from google.api_core.exceptions import NotFound

        bucket_name, name = split(source)
        bucket = client().bucket(bucket_name)
        with plain_errors(source):
            try:
                bucket.copy_blob(bucket.blob(name), bucket, split(target)[1], retry=patience())
            except NotFound:
                if self.stat(target, "") is None:
                    raise

    def delete(self, uri: str) -> None:
        from google.api_core.exceptions import NotFound

        bucket, name = split(uri)
        with plain_errors(uri), contextlib.suppress(NotFound):
            client().bucket(bucket).blob(name).delete(retry=patience())

    def delete_folder(self, folder: str, last: str) -> None:
        found = (file.uri for file in self.list_files(folder, folder, True) if file.path != last)
        while some := list(itertools.islice(found, _DELETED_AT_ONCE)):
            each(self.delete, some, self.reads_at_once)
        if last:
            self.delete(f"{folder.rstrip('/')}/{last}")

    def delete_if_empty(self, folder: str) -> None:
        pass


class _Parts(io.RawIOBase):
    """An object as it was listed, read in parts, even if it is replaced meanwhile. The errors are those of `read_bytes`."""

    def __init__(self, file: File) -> None:
        self._file, self._at = file, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._file.size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        from google.api_core.exceptions import NotFound

        end = min(self._at + len(buffer), self._file.size)
        if end <= self._at:
            return 0
        bucket, name = split(self._file.uri)
        with plain_errors(self._file.uri):
            blob = client().bucket(bucket).blob(name, generation=self._file.version)
            try:
                data = patiently(partial(blob.download_as_bytes, start=self._at, end=end - 1, retry=None))
            except NotFound as error:  # deleted since it was opened
                raise FileNotFoundError(self._file.uri) from error
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def _file_of(blob: Any, bucket: str, path: str) -> File:
    md5 = f"md5:{base64.b64decode(blob.md5_hash).hex()}" if blob.md5_hash else ""
    return File(f"gs://{bucket}/{blob.name}", path, int(blob.size), md5, int(blob.generation))
