"""Decoding in a process of its own, for images that crash or hang a decoder.

The normal way, threads of the worker, is several times as fast and cannot survive a decoder that takes the process with
it. So a shard is marked as attempted before it is begun. Whoever finds such a mark knows that a worker was lost in this
shard, and decodes it here: one image at a time, in a child process with a time limit an image.
"""

import contextlib
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict
from multiprocessing.connection import Connection, Pipe
from types import TracebackType

import numpy as np

from beam_jobs import storage
from beam_jobs.decoder import Decode, decoder_of
from schemas.errors import JobFailed
from schemas.image import Decoded, ImageRejected, ImageSettings, ImageSkipped, Reason, SkipReason, sniff

_MARK = "attempt-"
# As multiprocessing's "spawn" begins a child, but without running the launcher's main module again. A fork would copy
# the locks that other threads hold.
_CHILD = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from beam_jobs.isolation import serve; serve()"


@contextlib.contextmanager
def attempt(work: str, name: str) -> Iterator[bool]:
    """Marks the shard `name` as attempted while the body runs; gives whether an earlier attempt was lost in it.

    Only a process that dies leaves the mark behind: an error on the way, even an interrupt, takes it back.
    """
    mark = storage.join(work, _MARK + name)
    lost = storage.exists(mark)
    # Where a full or read-only disk refuses the mark, it will refuse the shard as well, and that is told better.
    if not lost:
        with contextlib.suppress(OSError):
            storage.write_bytes(mark, b"")
    try:
        yield lost
    finally:
        with contextlib.suppress(OSError):
            storage.delete(mark)


def attempts(work: str) -> frozenset[str]:
    """The shards below `work` whose attempt has not ended: of running workers, or, when none is left, of lost ones."""
    try:
        files = [file.path for file in storage.list_files(work, work)]
    except (JobFailed, FileNotFoundError):  # nothing was begun there, or it goes while it is listed
        return frozenset()
    return frozenset(path for path in files if path.rpartition("/")[2].startswith(_MARK))


def forget_attempts(work: str) -> None:
    """Takes back the marks of a run that was killed on purpose: no decoder was to blame. One of another run that happens to
    be at work there goes as well, which costs something only where that one is lost."""
    for path in attempts(work):
        storage.delete(storage.join(work, path))


class IsolatedDecoder:
    """A `Decode` whose work is done by one child process, begun when first called and begun again when it died.

    An image in whose turn the child dies twice is rejected as DECODER_CRASHED (twice, because the first time may have
    been another's doing, such as the system's when memory runs out); one that takes longer than `limit` seconds as
    DECODER_TIMEOUT. Threads may share it: they take turns, so that memory stays that of one decoder.
    """

    def __init__(self, settings: ImageSettings, dicom_decoder: str, limit: float) -> None:
        self._settings = settings
        self._start_message = json.dumps([asdict(settings), dicom_decoder, limit]).encode()
        self._limit = limit
        self._turn = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    def __enter__(self) -> "IsolatedDecoder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._turn:
            self._end()

    def __call__(self, data: bytes) -> Decoded:
        with self._turn:
            for _ in range(2):
                connection = self._connection or self._begin()
                try:
                    return self._ask(connection, data)
                except (EOFError, OSError):
                    code = self._end()
                if code == -signal.SIGALRM:
                    raise ImageRejected(Reason.DECODER_TIMEOUT, f"not decoded in {self._limit:g} s", sniff(data))
        ended = f"with signal {-code}" if code < 0 else f"with exit code {code}"
        raise ImageRejected(Reason.DECODER_CRASHED, f"the decoding process ended {ended}", sniff(data))

    def _ask(self, connection: Connection, data: bytes) -> Decoded:
        connection.send_bytes(data)
        kind, *said = json.loads(connection.recv_bytes())
        if kind == "rejected":
            reason, detail, format = said
            raise ImageRejected(Reason(reason), detail, format)
        if kind == "skipped":
            raise ImageSkipped(SkipReason(said[0]))
        format, notes = said
        pixels = np.frombuffer(connection.recv_bytes(), np.uint8).reshape(self._settings.shape)
        return Decoded(pixels, format, tuple(notes))

    def _begin(self) -> Connection:
        self._connection, theirs = Pipe()
        with theirs:
            command = [sys.executable, "-c", _CHILD, json.dumps(sys.path), str(theirs.fileno())]
            self._process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # the last words of a decoder can quote attributes
                start_new_session=True,  # an interrupt at the terminal is for the parent to handle
            )
        try:
            self._connection.send_bytes(self._start_message)
            self._connection.recv_bytes()
        except (EOFError, OSError):
            raise JobFailed(f"the process that decodes does not start: exit code {self._end()}") from None
        return self._connection

    def _end(self) -> int:
        """Ends the child, if there is one, by closing its line; gives how it ended."""
        if self._connection is None or self._process is None:
            return 0
        self._connection.close()
        code = self._process.wait()
        self._connection = self._process = None
        return code


def serve() -> None:
    """The child: answers each image with what became of it, until the line is closed. A time limit that is exceeded ends
    it by a signal, which needs neither the interpreter nor the parent to be alive."""
    connection = Connection(int(sys.argv[2]))
    settings, dicom_decoder, limit = json.loads(connection.recv_bytes())
    decode = decoder_of(ImageSettings(**settings), dicom_decoder)
    connection.send_bytes(b"ready")
    with contextlib.suppress(EOFError):
        while True:
            data = connection.recv_bytes()
            signal.setitimer(signal.ITIMER_REAL, limit)
            answer = _answer(decode, data)
            signal.setitimer(signal.ITIMER_REAL, 0)
            for message in answer:
                connection.send_bytes(message)


def _answer(decode: Decode, data: bytes) -> list[bytes]:
    # Not pickled: an image that takes over this process must not get into the parent that way.
    try:
        image = decode(data)
    except ImageRejected as error:
        return [json.dumps(["rejected", error.reason.value, error.detail, error.format]).encode()]
    except ImageSkipped as error:
        return [json.dumps(["skipped", error.reason.value]).encode()]
    return [json.dumps(["decoded", image.format, image.notes]).encode(), image.pixels.tobytes()]
