"""Shards of a bucket, kept on the local disk by their SHA-256, so that later epochs and runs need not fetch them again.

Any number of processes may share the folder: a file gets its name when it is complete, names say what is in a file, and a
reader keeps a file that is deleted while it is open. The caller checks what it got, and fetches it again if it is wrong.
"""

import contextlib
import os
import sys
import threading
import time
import uuid
from pathlib import Path

from schemas.errors import one_line
from training.reading.files import Bytes, message

LIMIT_BYTES = 64 << 30
_ABANDONED_SECONDS = 24 * 3600  # unfinished files of processes that were killed


def default_folder() -> str:
    """The folder of this user: `$XDG_CACHE_HOME/radrecords` or `~/.cache/radrecords` (XDG Base Directory Specification)."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return str(Path(base if os.path.isabs(base) else Path.home() / ".cache", "radrecords"))


class DiskCache:
    """A folder with shards of at most `limit_bytes`, of which those that were not used for the longest time go first.

    Shards that were used since this object was made stay: a data set that is larger than the limit would otherwise push
    out each shard before it is needed again. If there is no room, shards are not kept. The first error, such as a full
    disk, ends the writing with a warning. Only the user may read the folder.
    """

    def __init__(self, folder: str, limit_bytes: int = LIMIT_BYTES) -> None:
        self._folder, self._limit = Path(folder), limit_bytes
        self._since = time.time() - 1  # the clock of a file system is coarse
        self._lock = threading.Lock()
        self._broken = False

    def read_into(self, sha256: str, buffer: Bytes) -> bool:
        """Fills the buffer with a shard, if it is here and has the size of the buffer. The caller checks the content."""
        path = self._folder / sha256
        try:
            with open(path, "rb", buffering=0) as file:
                if os.fstat(file.fileno()).st_size != len(buffer):
                    return False
                view = buffer.data
                while count := file.readinto(view):
                    view = view[count:]
        except OSError:
            return False
        with contextlib.suppress(OSError):  # it may have been deleted just now, or the disk be read-only
            os.utime(path)
        return not view

    def store(self, sha256: str, content: Bytes) -> None:
        """Keeps a shard, in place of one of that name."""
        part = self._folder / f"{sha256}.{uuid.uuid4().hex}.part"
        try:
            if self._broken or not self._make_room(len(content)):
                return
            try:
                with open(part, "xb") as file:
                    file.write(content.data)
                os.replace(part, self._folder / sha256)
            finally:
                part.unlink(missing_ok=True)
        except OSError as error:
            with self._lock:
                first, self._broken = not self._broken, True
            if first:
                reason = one_line(message(error))
                print(
                    f"warning: shards are no longer kept in {self._folder}: {reason}; training goes on", file=sys.stderr
                )

    def _make_room(self, length: int) -> bool:
        """Deletes old files until `length` bytes more are below the limit."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._lock:
            files, total = [], length
            for entry in os.scandir(self._folder):
                with contextlib.suppress(OSError):  # another process may delete it
                    found = entry.stat(follow_symlinks=False)
                    total += found.st_size
                    files.append((found.st_mtime, found.st_size, entry))
            for used, size, entry in sorted(files, key=lambda file: file[0]):
                abandoned = entry.name.endswith(".part") and used < time.time() - _ABANDONED_SECONDS
                if abandoned or (total > self._limit and used < self._since and not entry.name.endswith(".part")):
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(entry)
                    total -= size
            return total <= self._limit
