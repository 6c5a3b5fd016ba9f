"""The objects of a folder in a bucket, and the checksum that a file would have there."""

import base64
from collections.abc import Iterator
from typing import Any, NamedTuple

import google_crc32c

from beam_jobs.storage.client import as_prefix, client, patience, plain_errors, split

_READ_AT_ONCE = 1 << 20


class Stored(NamedTuple):
    """An object. `path`: its name, relative to the folder. `crc32c`: of the stored bytes, in base64. `encoded`: the bucket
    stores it compressed (Content-Encoding), and readers get other bytes than the stored ones."""

    path: str
    size: int
    crc32c: str
    generation: int
    encoded: bool


def stored_in(folder: str) -> Iterator[Stored]:
    """Every object in a folder of a bucket. Raises JobFailed if the bucket cannot be listed."""
    bucket, name = split(folder)
    prefix = as_prefix(name)
    with plain_errors(folder):
        for blob in client().list_blobs(
            bucket,
            prefix=prefix,
            fields="items(name,size,crc32c,generation,contentEncoding),nextPageToken",
            retry=patience(),
        ):
            encoded = (blob.content_encoding or "") not in ("", "identity")
            yield Stored(blob.name[len(prefix) :], int(blob.size), blob.crc32c, int(blob.generation), encoded)


def blob_in(folder: str, path: str, generation: int | None = None) -> Any:
    """The client's object at `path` in a folder of a bucket."""
    bucket, name = split(folder)
    return client().bucket(bucket).blob(as_prefix(name) + path, generation=generation)


def crc32c_of(file: str) -> str:
    """The CRC32C of a local file, as the bucket writes it: big-endian, in base64. Raises OSError."""
    checksum = google_crc32c.Checksum()
    with open(file, "rb", buffering=0) as content:
        while data := content.read(_READ_AT_ONCE):
            checksum.update(data)
    return base64.b64encode(checksum.digest()).decode()
