"""A temporary folder for one command on this machine. The next such command deletes what killed ones left behind."""

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

_PREFIX = "radrecords-"
_LOCK = "lock"  # held by the run that owns the folder; the system releases it however that run ends

_TRIES, _PAUSE_SECONDS = 20, 0.1


@contextlib.contextmanager
def scratch_folder(kind: str = "") -> Iterator[str]:
    """An empty local folder, deleted after the body of the `with`. `kind` becomes a part of its name."""
    for other in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        _delete_if_left(other)
    folder = tempfile.mkdtemp(prefix=f"{_PREFIX}{kind}")
    with open(os.path.join(folder, "new"), "wb") as lock:
        with contextlib.suppress(OSError):  # on a file system without locks, no other run deletes it
            fcntl.flock(lock, fcntl.LOCK_EX)
            os.rename(lock.name, os.path.join(folder, _LOCK))  # other runs can see the lock from now on, and it is held
        try:
            yield folder
        finally:
            _delete(folder)


def _delete_if_left(folder: Path) -> None:
    with contextlib.suppress(OSError):  # locked, another user's, or already deleted
        with open(folder / _LOCK, "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _delete(str(folder))


def _delete(folder: str) -> None:
    # Worker processes of a killed run keep writing until they notice that it has ended, which takes a moment.
    for _ in range(_TRIES):
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.exists(folder):
            return
        time.sleep(_PAUSE_SECONDS)
