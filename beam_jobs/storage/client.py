"""The client of Google Cloud Storage: its connections, what it asks again for, and its errors in one line."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from schemas.errors import JobFailed, RadrecordsError, UsageError

if TYPE_CHECKING:
    from google.cloud import storage

Answer = TypeVar("Answer")

MOST_REQUESTS = 256
"""How many requests a process may have in flight; as many connections are kept. Of the client's own pool of 10, it would
drop and open again all others."""

# The client's own waits begin with up to a second; that is long for an image of which 64 are read at a time. It waits a
# random time up to these bounds, so that threads that failed together do not ask again together.
_FIRST_WAIT, _LONGEST_WAIT, _GIVE_UP = 0.03, 16.0, 120.0  # seconds
_GROWTH = 1.5


@functools.cache
def client() -> "storage.Client":
    """The only client of this process."""
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
    for scheme in ("https://", "http://"):
        made._http.mount(scheme, requests.adapters.HTTPAdapter(pool_maxsize=MOST_REQUESTS))
    return made


@functools.cache
def patience() -> Any:
    """How a request is repeated: statuses 408, 429, 500, 502, 503 and 504, connections that fail or time out, and bodies
    that are cut; for two minutes, with waits that grow from 30 ms to 16 s."""
    from google.cloud.storage.retry import DEFAULT_RETRY

    def passes(error: Exception) -> bool:
        _give_back(error)
        return bool(DEFAULT_RETRY._predicate(error))

    delays = DEFAULT_RETRY.with_delay(initial=_FIRST_WAIT, maximum=_LONGEST_WAIT, multiplier=_GROWTH)
    return delays.with_predicate(passes).with_timeout(_GIVE_UP)


def _give_back(error: Exception) -> None:
    """Reads the text of a download that was refused, so that its connection is used again. The client leaves it unread, and
    would open another connection."""
    response = getattr(error, "response", None)
    if response is not None:
        with contextlib.suppress(Exception):
            response.content  # noqa: B018 - reads it
        response.close()


def patiently(ask: Callable[[], Answer]) -> Answer:
    """What `ask`, one whole download, returns. It is repeated as `patience` says, and if its checksum is wrong.

    The client's own repetition goes on where a body was cut. It then checks no checksum.
    """
    from google.cloud.storage.exceptions import DataCorruption

    def checked() -> Answer:
        try:
            return ask()
        except DataCorruption as error:  # its text has many lines
            raise ConnectionError("its checksum is not the object's") from error

    answer: Answer = patience()(checked)()
    return answer


def split(uri: str) -> tuple[str, str]:
    """The bucket and the name of an object. Raises UsageError if there is no bucket."""
    bucket, _, name = uri.removeprefix("gs://").partition("/")
    if not bucket:
        raise UsageError(f"{uri} names no bucket; write gs://BUCKET/FOLDER")
    return bucket, name


def as_prefix(name: str) -> str:
    """What the names of all objects in a folder begin with."""
    return f"{name.rstrip('/')}/" if name.strip("/") else ""


@contextlib.contextmanager
def plain_errors(uri: str) -> Iterator[None]:
    """Turns an error of the bucket into a one-line error that names the object."""
    try:
        yield
    except PermissionError as error:  # of the file that holds the credentials
        raise JobFailed(f"cannot read or write {uri}: {error.strerror}") from error
    except (RadrecordsError, FileNotFoundError):
        raise
    except Exception as error:
        raise JobFailed(f"cannot read or write {uri}: {reason_of(error)}") from error


def reason_of(error: BaseException) -> str:
    """What went wrong, and what to do."""
    reasons = {401: "credentials refused", 403: "permission denied", 404: "no such bucket or object"}
    reason = reasons.get(getattr(error, "code", 0))
    if reason:
        return f"{reason}; check the name and your access"
    # The client has asked again for two minutes by now.
    return f"{type(error).__name__}: {error}; try again later"
