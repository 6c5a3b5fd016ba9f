"""The folder, inside the target of a download, of files that are not complete yet."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator

from beam_jobs.transfer.names import UNFINISHED
from schemas.errors import UsageError

_LOCK = "lock"  # held by the download that owns the folder; the system releases it however that download ends


@contextlib.contextmanager
def unfinished_folder(target: str) -> Iterator[str]:
    """A folder on the disk of `target`, deleted when the body of the `with` has ended without an exception. It still holds
    what a killed download left. Raises UsageError if another download into `target` is running, or if `target` cannot be
    written."""
    folder = os.path.join(target, UNFINISHED)
    try:
        os.makedirs(folder, exist_ok=True)
        lock = open(os.path.join(folder, _LOCK), "wb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise UsageError(f"{target} cannot be written: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(f"another download into {target} is running; wait until it ends") from error
        except OSError:  # a file system without locks
            pass
        yield folder
        shutil.rmtree(folder, ignore_errors=True)
