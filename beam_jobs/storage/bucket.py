"""Objects in a bucket of Google Cloud Storage.

Uses google-cloud-storage instead of Beam's own file systems: it needs one request per image instead of three, pins the
generation, and has create-only writes.
"""

import base64
import contextlib
import functools
import io
import tempfile
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any, BinaryIO, TextIO

from beam_jobs.storage.protocol import AlreadyExistsError
from schemas.errors import JobFailed, RadrecordsError, UsageError
from schemas.source import File

if TYPE_CHECKING:
    from google.cloud import storage

_READ_AT_ONCE = 4 << 20  # bytes of a file that is read in parts; the client's default is 40 MiB
_POOL_SIZE = 64  # connections kept per worker process; requests would warn and drop those beyond its default of 10


class Bucket:
    """The storage of gs:// URIs; see Storage."""

    shared = True
    reads_at_once = 16  # a bucket answers in tens of milliseconds

    def absolute(self, place: str) -> str:
        _split(place)
        return place.rstrip("/")

    def has_folder(self, folder: str) -> bool:
        return True

    def subfolders(self, folder: str, root: str) -> list[str]:
        bucket, prefix = _split(folder)
        with _plain_errors(folder):
            pages = client().list_blobs(
                bucket, prefix=_as_prefix(prefix), delimiter="/", fields="prefixes,nextPageToken"
            )
            for _ in pages:  # prefixes are complete once every page has been read
                pass
            return sorted(f"gs://{bucket}/{name.rstrip('/')}" for name in pages.prefixes)

    def list_files(self, folder: str, root: str, recursive: bool) -> Iterator[File]:
        bucket, prefix = _split(folder)
        skip = len(_as_prefix(_split(root)[1]))
        with _plain_errors(folder):
            blobs = client().list_blobs(
                bucket,
                prefix=_as_prefix(prefix),
                delimiter=None if recursive else "/",
                fields="items(name,size,md5Hash,generation),prefixes,nextPageToken",
            )
            for blob in blobs:
                yield _file_of(blob, bucket, blob.name[skip:])

    def stat(self, uri: str, path: str) -> File | None:
        bucket, name = _split(uri)
        with _plain_errors(uri):
            blob = client().bucket(bucket).get_blob(name)
        return None if blob is None else _file_of(blob, bucket, path)

    def read_bytes(self, uri: str, version: int | None) -> bytes:
        from google.api_core.exceptions import NotFound

        bucket, name = _split(uri)
        with _plain_errors(uri):
            try:
                content: bytes = client().bucket(bucket).blob(name, generation=version).download_as_bytes()
            except NotFound as error:
                raise FileNotFoundError(uri) from error
            return content

    def open_text(self, uri: str) -> TextIO:
        lines: TextIO = _existing(uri).open("rt", encoding="utf-8-sig", newline="")
        return lines

    def open_binary(self, uri: str) -> BinaryIO:
        return io.BufferedReader(_Parts(uri, _existing(uri).open("rb", chunk_size=_READ_AT_ONCE)))

    def write_bytes(self, uri: str, data: bytes, over: int | None, staging: str) -> None:
        from google.api_core.exceptions import PreconditionFailed

        bucket, name = _split(uri)
        with _plain_errors(uri):
            try:
                client().bucket(bucket).blob(name).upload_from_string(
                    data,
                    content_type="application/octet-stream",
                    if_generation_match=over,
                    checksum="crc32c",
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
        bucket, name = _split(uri)
        with _plain_errors(uri):
            client().bucket(bucket).blob(name).upload_from_file(
                file, rewind=True, size=file.tell(), content_type="application/octet-stream", checksum="crc32c"
            )

    def move(self, source: str, target: str) -> None:
        from google.api_core.exceptions import NotFound

        bucket_name, name = _split(source)
        bucket = client().bucket(bucket_name)
        with _plain_errors(source):
            try:
                blob = bucket.blob(name)
                bucket.copy_blob(blob, bucket, _split(target)[1])
                blob.delete()
            except NotFound:
                if self.stat(target, "") is None:
                    raise

    def delete(self, uri: str) -> None:
        from google.api_core.exceptions import NotFound

        bucket, name = _split(uri)
        with _plain_errors(uri), contextlib.suppress(NotFound):
            client().bucket(bucket).blob(name).delete()

    def delete_folder(self, folder: str, last: str) -> None:
        for file in self.list_files(folder, folder, True):
            if file.path != last:
                self.delete(file.uri)
        if last:
            self.delete(f"{folder.rstrip('/')}/{last}")

    def delete_if_empty(self, folder: str) -> None:
        pass


@functools.cache
def client() -> "storage.Client":
    """The only client of this process. Its connection pool is large enough for all threads."""
    try:
        import requests.adapters
        from google.auth.exceptions import DefaultCredentialsError
        from google.cloud import storage
    except ImportError as error:
        raise UsageError("gs:// paths need the extra gcp; in a clone, run: pip install '.[gcp]'") from error
    try:
        made = storage.Client()
    except DefaultCredentialsError as error:
        raise UsageError(
            "no Google Cloud credentials for gs:// paths; run: gcloud auth application-default login"
        ) from error
    except OSError as error:
        if "project" not in str(error).lower():
            raise
        made = storage.Client(project="radrecords")  # objects are read and written without naming a project
    made._http.mount("https://", requests.adapters.HTTPAdapter(pool_maxsize=_POOL_SIZE))
    made._http.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=_POOL_SIZE))
    return made


def _split(uri: str) -> tuple[str, str]:
    bucket, _, name = uri.removeprefix("gs://").partition("/")
    if not bucket:
        raise UsageError(f"{uri} names no bucket; write gs://BUCKET/FOLDER")
    return bucket, name


def _as_prefix(name: str) -> str:
    return f"{name.rstrip('/')}/" if name.strip("/") else ""


def _existing(uri: str) -> Any:
    """The object as it is now, even if it is replaced while it is read in parts."""
    file = Bucket().stat(uri, "")
    if file is None:
        raise FileNotFoundError(uri)
    bucket, name = _split(uri)
    return client().bucket(bucket).blob(name, generation=file.version)


class _Parts(io.RawIOBase):
    """An object that is read in parts, with the same errors as `read_bytes`."""

    def __init__(self, uri: str, content: BinaryIO) -> None:
        self._uri, self._content = uri, content

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._content.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        from google.api_core.exceptions import NotFound

        with _plain_errors(self._uri):
            try:
                data = self._content.read(len(buffer))
            except NotFound as error:  # deleted since it was opened
                raise FileNotFoundError(self._uri) from error
        buffer[: len(data)] = data
        return len(data)


def _file_of(blob: Any, bucket: str, path: str) -> File:
    md5 = f"md5:{base64.b64decode(blob.md5_hash).hex()}" if blob.md5_hash else ""
    return File(f"gs://{bucket}/{blob.name}", path, int(blob.size), md5, int(blob.generation))


@contextlib.contextmanager
def _plain_errors(uri: str) -> Iterator[None]:
    """Turns an error of the bucket into a one-line error that names the object."""
    try:
        yield
    except PermissionError as error:  # of the file that holds the credentials
        raise JobFailed(f"cannot read or write {uri}: {error.strerror}") from error
    except (RadrecordsError, FileNotFoundError):
        raise
    except Exception as error:
        reasons = {401: "credentials refused", 403: "permission denied", 404: "no such bucket or object"}
        reason = reasons.get(getattr(error, "code", 0))
        if reason:
            raise JobFailed(f"cannot read or write {uri}: {reason}; check the name and your access") from error
        # The client has retried for two minutes by now.
        raise JobFailed(f"cannot read or write {uri}: {type(error).__name__}: {error}; try again later") from error
