"""A temporary folder for one run on this machine. What killed runs left of theirs goes when the next one begins."""

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

_PREFIX = "radrecords-"
_LOCK = "lock"  # held by the run that the folder belongs to; the system lets go of it when that ends, however it ends

_TRIES, _PAUSE_SECONDS = 20, 0.1


@contextlib.contextmanager
def scratch_folder() -> Iterator[str]:
    """An empty local folder that goes with the body of the `with`."""
    place = tempfile.gettempdir()
    for other in Path(place).glob(f"{_PREFIX}*"):
        _delete_if_left(other)
    made = tempfile.mkdtemp(prefix=f".{_PREFIX}")
    with open(os.path.join(made, _LOCK), "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Only now under the name that others look for: they take one that nobody locks for a killed run's.
        folder = os.path.join(place, os.path.basename(made)[1:])
        os.rename(made, folder)
        try:
            yield folder
        finally:
            _delete(folder)


def _delete_if_left(folder: Path) -> None:
    with contextlib.suppress(OSError):  # locked, another user's, or gone meanwhile
        with open(folder / _LOCK, "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _delete(str(folder))


def _delete(folder: str) -> None:
    # Worker processes of a killed run notice that within a moment, and write until then.
    for _ in range(_TRIES):
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.exists(folder):
            return
        time.sleep(_PAUSE_SECONDS)
