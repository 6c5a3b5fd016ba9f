"""Objects in a bucket: the gs:// side of storage.py. Every function raises JobFailed where the bucket refuses.

Pixels go through google-cloud-storage and not through Beam's own file systems: one request an image instead of three, a
pinned generation, and create-only writes.
"""

import base64
import contextlib
import functools
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any, BinaryIO, TextIO

from schemas.errors import JobFailed, RadrecordsError, UsageError
from schemas.source import File

if TYPE_CHECKING:
    from google.cloud import storage

_READ_AT_ONCE = 4 << 20  # bytes of a file that is read in parts; the client's default is 40 MiB
_POOL_SIZE = 64  # connections kept per worker process; requests would warn and drop those beyond its default of 10


def subfolders(folder: str) -> list[str]:
    """The prefixes directly inside `folder`, sorted."""
    bucket, prefix = _split(folder)
    with _plain_errors(folder):
        pages = client().list_blobs(bucket, prefix=_as_prefix(prefix), delimiter="/", fields="prefixes,nextPageToken")
        for _ in pages:  # prefixes are complete once every page was read
            pass
        return sorted(f"gs://{bucket}/{name.rstrip('/')}" for name in pages.prefixes)


def list_files(folder: str, root: str, recursive: bool = True) -> Iterator[File]:
    """Every object below `folder`, its path told relative to `root`."""
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


def stat(uri: str, path: str) -> File | None:
    """The object at `uri`, named `path`, or None where there is none."""
    bucket, name = _split(uri)
    with _plain_errors(uri):
        blob = client().bucket(bucket).get_blob(name)
    return None if blob is None else _file_of(blob, bucket, path)


def read_bytes(uri: str, version: int | None) -> bytes:
    """The content of `uri`, of generation `version` or the newest. Raises FileNotFoundError."""
    from google.api_core.exceptions import NotFound

    bucket, name = _split(uri)
    with _plain_errors(uri):
        try:
            content: bytes = client().bucket(bucket).blob(name, generation=version).download_as_bytes()
        except NotFound as error:
            raise FileNotFoundError(uri) from error
        return content


def open_text(uri: str) -> TextIO:
    """UTF-8 text, read line by line. Raises FileNotFoundError."""
    lines: TextIO = _existing(uri).open("rt", encoding="utf-8-sig", newline="")
    return lines


def open_binary(uri: str) -> BinaryIO:
    """An object of which parts are read, in any order. Raises FileNotFoundError."""
    content: BinaryIO = _existing(uri).open("rb", chunk_size=_READ_AT_ONCE)
    return content


def write_bytes(uri: str, data: bytes, over: int | None) -> bool:
    """Whether `data` was written: not where `over` is given and is not the object's generation (0: no object)."""
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
        except PreconditionFailed:
            return False
    return True


def keep(file: IO[bytes], uri: str) -> None:
    """One checksummed upload of a flushed file."""
    bucket, name = _split(uri)
    with _plain_errors(uri):
        client().bucket(bucket).blob(name).upload_from_file(
            file, rewind=True, size=file.tell(), content_type="application/octet-stream", checksum="crc32c"
        )


def move(source: str, target: str) -> None:
    """A copy in the bucket, and then the deletion."""
    from google.api_core.exceptions import NotFound

    bucket_name, name = _split(source)
    bucket = client().bucket(bucket_name)
    with _plain_errors(source):
        try:
            blob = bucket.blob(name)
            bucket.copy_blob(blob, bucket, _split(target)[1])
            blob.delete()
        except NotFound:
            if stat(target, "") is None:
                raise


def delete(uri: str) -> None:
    """Deletes the object, if it is there."""
    from google.api_core.exceptions import NotFound

    bucket, name = _split(uri)
    with _plain_errors(uri), contextlib.suppress(NotFound):
        client().bucket(bucket).blob(name).delete()


def delete_folder(folder: str, last: str) -> None:
    """Deletes every object in `folder`, the one named `last` after the others."""
    for file in list_files(folder, folder):
        if file.path != last:
            delete(file.uri)
    if last:
        delete(f"{folder.rstrip('/')}/{last}")


@functools.cache
def client() -> "storage.Client":
    """This process's one client, with a connection pool wide enough for its threads."""
    try:
        import requests.adapters
        from google.auth.exceptions import DefaultCredentialsError
        from google.cloud import storage
    except ImportError as error:
        raise UsageError("gs:// paths need the extra gcp: pip install 'radrecords[gcp]'") from error
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
        raise UsageError(f"{uri!r} names no bucket; write gs://BUCKET/FOLDER")
    return bucket, name


def _as_prefix(name: str) -> str:
    return f"{name.rstrip('/')}/" if name.strip("/") else ""


def _existing(uri: str) -> Any:
    if stat(uri, "") is None:
        raise FileNotFoundError(uri)
    bucket, name = _split(uri)
    return client().bucket(bucket).blob(name)


def _file_of(blob: Any, bucket: str, path: str) -> File:
    md5 = f"md5:{base64.b64decode(blob.md5_hash).hex()}" if blob.md5_hash else ""
    return File(f"gs://{bucket}/{blob.name}", path, int(blob.size), md5, int(blob.generation))


@contextlib.contextmanager
def _plain_errors(uri: str) -> Iterator[None]:
    """Turns a refusal of the bucket into one line that names it."""
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
        # After the client's own retries, of two minutes.
        raise JobFailed(f"cannot read or write {uri}: {type(error).__name__}: {error}; run again later") from error
