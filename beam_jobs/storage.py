"""Files on a local disk and objects in a bucket, behind the same few functions.

Pixels go through google-cloud-storage and not through Beam's own file systems: one request an image instead of three, a
pinned generation, and create-only writes.
"""

import base64
import contextlib
import functools
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, TextIO

from schemas.errors import JobFailed, RadrecordsError, UsageError
from schemas.source import File

if TYPE_CHECKING:
    from google.cloud import storage

_READ_AT_ONCE = 4 << 20  # bytes of a file that is read in parts; the client's default is 40 MiB
_POOL_SIZE = 64  # connections kept per worker process; requests would warn and drop those beyond its default of 10


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


def subfolders(folder: str) -> list[str]:
    """The folders directly inside `folder`, sorted."""
    if is_remote(folder):
        bucket, prefix = _split(folder)
        with _plain_errors(folder):
            pages = client().list_blobs(
                bucket, prefix=_as_prefix(prefix), delimiter="/", fields="prefixes,nextPageToken"
            )
            for _ in pages:  # prefixes are complete once every page was read
                pass
            return sorted(f"gs://{bucket}/{name.rstrip('/')}" for name in pages.prefixes)
    with _plain_errors(folder), os.scandir(folder) as entries:
        return sorted(entry.path for entry in entries if entry.is_dir())


def list_files(folder: str, root: str, recursive: bool = True) -> Iterator[File]:
    """Every file in `folder`, its path told relative to `root`. Bucket "folders" made as empty objects end in `/`."""
    if is_remote(folder):
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
        return
    for parent, folders, names in os.walk(folder, onerror=_raise):
        folders.sort()
        if not recursive:
            folders.clear()
        within = os.path.relpath(parent, root)
        for name in sorted(names):
            yield _local_file(os.path.join(parent, name), name if within == "." else os.path.join(within, name))


def stat(uri: str, path: str) -> File | None:
    """The file at `uri`, named `path`, or None where there is none."""
    if is_remote(uri):
        bucket, name = _split(uri)
        with _plain_errors(uri):
            blob = client().bucket(bucket).get_blob(name)
        return None if blob is None else _file_of(blob, bucket, path)
    return _local_file(uri, path) if os.path.isfile(uri) else None


def read_bytes(uri: str, version: int | None = None) -> bytes:
    """The content of `uri`; in a bucket that of generation `version`. Raises FileNotFoundError, or OSError for others."""
    if is_remote(uri):
        from google.api_core.exceptions import NotFound

        bucket, name = _split(uri)
        with _plain_errors(uri):
            try:
                content: bytes = client().bucket(bucket).blob(name, generation=version).download_as_bytes()
            except NotFound as error:
                raise FileNotFoundError(uri) from error
            return content
    return Path(uri).read_bytes()


def open_text(uri: str) -> TextIO:
    """Opens UTF-8 text for reading line by line, with or without a byte order mark. Raises FileNotFoundError."""
    if not is_remote(uri):
        return open(uri, encoding="utf-8-sig", newline="")
    if not exists(uri):
        raise FileNotFoundError(uri)
    bucket, name = _split(uri)
    lines: TextIO = client().bucket(bucket).blob(name).open("rt", encoding="utf-8-sig", newline="")
    return lines


def open_binary(uri: str) -> BinaryIO:
    """Opens a file for reading parts of it, in any order. Raises FileNotFoundError."""
    if not is_remote(uri):
        return open(uri, "rb")
    if not exists(uri):
        raise FileNotFoundError(uri)
    bucket, name = _split(uri)
    content: BinaryIO = client().bucket(bucket).blob(name).open("rb", chunk_size=_READ_AT_ONCE)
    return content


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
            except PreconditionFailed as error:
                raise AlreadyExistsError(uri) from error
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
    if not is_remote(uri):
        os.fsync(file.fileno())  # what is written later and says that it is finished must not outlive its bytes
        os.replace(file.name, uri)
        return
    bucket, name = _split(uri)
    with _plain_errors(uri):
        client().bucket(bucket).blob(name).upload_from_file(
            file, rewind=True, size=file.tell(), content_type="application/octet-stream", checksum="crc32c"
        )


def move(source: str, target: str) -> None:
    """Moves a file within the same disk or bucket. Moving again what an earlier, interrupted call moved does nothing."""
    if is_remote(target):
        from google.api_core.exceptions import NotFound

        bucket_name, name = _split(source)
        bucket = client().bucket(bucket_name)
        with _plain_errors(source):
            try:
                blob = bucket.blob(name)
                bucket.copy_blob(blob, bucket, _split(target)[1])
                blob.delete()
            except NotFound:
                if not exists(target):
                    raise
        return
    try:
        os.replace(source, target)
    except FileNotFoundError:
        if not os.path.exists(target):
            raise


def delete(uri: str) -> None:
    """Deletes the file at `uri`, if it is there."""
    if is_remote(uri):
        from google.api_core.exceptions import NotFound

        bucket, name = _split(uri)
        with _plain_errors(uri), contextlib.suppress(NotFound):
            client().bucket(bucket).blob(name).delete()
        return
    Path(uri).unlink(missing_ok=True)


def delete_folder(folder: str, last: str = "") -> None:
    """Deletes `folder` and all in it, if it is there; the file named `last` after the others. Several processes may do
    so at once."""
    if is_remote(folder):
        for file in list_files(folder, folder):
            if file.path != last:
                delete(file.uri)
        if last:
            delete(join(folder, last))
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


def _file_of(blob: Any, bucket: str, path: str) -> File:
    md5 = f"md5:{base64.b64decode(blob.md5_hash).hex()}" if blob.md5_hash else ""
    return File(f"gs://{bucket}/{blob.name}", path, int(blob.size), md5, int(blob.generation))


def _local_file(local: str, path: str) -> File:
    path = path.replace(os.sep, "/")
    try:
        info = os.stat(local)
    except FileNotFoundError:  # a link to nowhere, or deleted since its folder was read: an input that cannot be read
        return File(local, path, -1, "", 0)
    return File(local, path, info.st_size, "", info.st_mtime_ns)


def _raise(error: OSError) -> None:
    raise JobFailed(f"cannot list {error.filename}: {error.strerror}") from error


@contextlib.contextmanager
def _plain_errors(uri: str) -> Iterator[None]:
    """Turns a refusal of the bucket or the disk into one line that names it."""
    try:
        yield
    except PermissionError as error:
        raise JobFailed(f"cannot read or write {uri}: {error.strerror}") from error
    except (RadrecordsError, FileNotFoundError, AlreadyExistsError):
        raise
    except Exception as error:
        if not is_remote(uri):
            raise
        reasons = {401: "credentials refused", 403: "permission denied", 404: "no such bucket or object"}
        reason = reasons.get(getattr(error, "code", 0))
        if reason:
            raise JobFailed(f"cannot read or write {uri}: {reason}; check the name and your access") from error
        # After the client's own retries, of two minutes.
        raise JobFailed(f"cannot read or write {uri}: {type(error).__name__}: {error}; run again later") from error
