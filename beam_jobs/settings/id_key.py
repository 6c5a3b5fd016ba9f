"""The key of the pseudonyms: `--id_key_file`, a local file, a gs:// object or a secret in Secret Manager.

Only the location of the key travels to the workers, in the config; each worker process reads the key itself, once. With a
one-way check value, workers notice a different key, and runs with different keys never mix.
"""

import functools
import hashlib
import hmac
import re
from typing import Any

from beam_jobs.settings.config import ConvertConfig
from beam_jobs.storage import storage
from schemas.errors import JobFailed, RadrecordsError, UsageError

_LEAST_BYTES = 16  # 128 bits, if they are random
_SECRET = re.compile(r"projects/[^/]+/secrets/[^/]+/versions/[^/]+")


def is_secret(place: str) -> bool:
    """Whether `place` names a version of a secret in Secret Manager: `projects/P/secrets/S/versions/V`."""
    return _SECRET.fullmatch(place) is not None


def check_value(key: bytes) -> str:
    """Identifies a key without revealing it: HMAC-SHA-256 (RFC 2104) of a constant, 16 hexadecimal digits."""
    return hmac.new(key, b"radrecords: which key is this?", hashlib.sha256).hexdigest()[:16]


def id_key(config: ConvertConfig) -> bytes:
    """The key of this job's pseudonyms, empty without --id_key_file. Raises JobFailed if the file has changed."""
    return _same_key(config.id_key_file, config.id_key_check) if config.id_key_file else b""


@functools.cache
def _same_key(place: str, check: str) -> bytes:
    key = read_key(place)
    if check_value(key) != check:
        raise JobFailed(f"--id_key_file {place} holds a different key than when the job started")
    return key


def read_key(place: str) -> bytes:
    """The key at `place`, without a trailing line break. Raises UsageError if it is missing or too short."""
    try:
        content = _secret(place) if is_secret(place) else storage.read_bytes(place)
    except FileNotFoundError as error:
        raise UsageError(f"--id_key_file {place} does not exist") from error
    except OSError as error:
        raise UsageError(f"--id_key_file {place} cannot be read: {error.strerror or type(error).__name__}") from error
    key = content.removesuffix(b"\n").removesuffix(b"\r")
    if len(key.strip()) < _LEAST_BYTES:  # a file of blanks alone is a mistake
        raise UsageError(
            f"--id_key_file {place} holds {len(key.strip())} bytes, but a key needs {_LEAST_BYTES}; "
            "make one with: openssl rand -hex 32"
        )
    return key


def check_place(place: str, local: bool) -> None:
    """Raises UsageError if the workers could not read the key."""
    if place and not local and not storage.is_shared(place) and not is_secret(place):
        raise UsageError(
            f"--id_key_file {place} is a local file, which the workers of this runner cannot read; give a gs:// object or "
            "projects/P/secrets/S/versions/V"
        )


def _secret(name: str) -> bytes:
    try:
        from google.cloud import secretmanager
    except ImportError as error:
        raise UsageError(
            "a key in Secret Manager needs the extra gcp; in a clone, run: pip install '.[gcp]'"
        ) from error
    from google.auth.exceptions import GoogleAuthError

    try:
        client = secretmanager.SecretManagerServiceClient()
    except GoogleAuthError as error:
        raise UsageError(
            "no Google Cloud credentials for Secret Manager; run: gcloud auth application-default login"
        ) from error
    with client:
        return secret_payload(name, client)


def secret_payload(name: str, client: Any) -> bytes:
    """The content of the version `name` of a secret, from a SecretManagerServiceClient. Raises UsageError if the service
    refuses."""
    import google_crc32c
    from google.api_core.exceptions import GoogleAPIError

    try:
        payload = client.access_secret_version(name=name).payload
    except GoogleAPIError as error:
        refusal: RadrecordsError = UsageError(
            f"--id_key_file {name} cannot be read: {type(error).__name__}; the job needs roles/secretmanager.secretAccessor"
        )
        raise refusal from error
    content = bytes(payload.data)
    if payload.data_crc32c and payload.data_crc32c != google_crc32c.value(content):
        raise UsageError(f"--id_key_file {name} was damaged in transit; run again")
    return content


def absolute(place: str) -> str:
    """`place` as an absolute path, for workers in another folder."""
    return place if not place or is_secret(place) else storage.absolute(place)
