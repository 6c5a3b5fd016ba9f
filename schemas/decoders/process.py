"""The parent's side of a decoding process (child.py): starts it, sends it images, and checks each field of its
answers."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

import numpy as np

from schemas.decoders import child
from schemas.errors import JobFailed, one_line
from schemas.pixels.rejection import NOTES, Decoded, ImageRejected, ImageSkipped
from schemas.pixels.settings import ImageSettings

# The environment variables that Python and its libraries need to start at all and to compute the same. None is a
# credential.
_INHERITED = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "LANG", "TZ")
_START_SECONDS = 300.0
GRACE_SECONDS = 10.0  # the child enforces the limit itself; the parent steps in if it cannot
_END_SECONDS = 1.0  # for the process to end after it closed its socket

Answer = Decoded | ImageRejected | ImageSkipped


class ProcessLost(Exception):
    """The process ended, or its answer is invalid. The message is empty if the exit status says more."""


class DecoderProcess:
    """A child process. It is started at once but becomes ready later. Only `end` may be called from another thread.

    `memory`: bytes that decoding may take, beyond its libraries. Raises JobFailed if the system cannot start a process.
    """

    def __init__(self, memory: int) -> None:
        try:
            self._line, self._process = _begun(memory)
        except OSError as error:
            raise JobFailed(f"the decoding process does not start: {error.strerror}") from error
        self._until, self._task = 0.0, b""
        self._ending = threading.Lock()

    def prepare(self, task: bytes) -> None:
        """Waits until the process has loaded what the task needs. Raises ProcessLost or OSError if the process is
        unusable, and TimeoutError if loading takes too long."""
        if task == self._task:
            self._check_silence()
            return
        self._until = time.monotonic() + _START_SECONDS
        self._send(child.REQUEST.pack(0, len(task)) + task)
        if self._exactly(len(child.READY)) != child.READY:
            raise ProcessLost
        self._task = task

    def send(self, images: Sequence[bytes], seconds: float) -> None:
        """Sends images for the prepared task. Raises ProcessLost or OSError."""
        self._until = time.monotonic() + seconds + GRACE_SECONDS
        lengths = b"".join(child.LENGTH.pack(len(image)) for image in images)
        try:
            self._send(child.REQUEST.pack(len(images), len(self._task)) + lengths + self._task)
            for image in images:
                self._send(image)
        except TimeoutError as error:
            raise ProcessLost("takes no images") from error

    def receive(self, settings: ImageSettings, seconds: float) -> Answer:
        """The next answer. Raises ProcessLost if it is invalid, TimeoutError if it is late, or OSError."""
        self._until = time.monotonic() + seconds + GRACE_SECONDS
        kind, what, format, length = child.ANSWER.unpack(self._exactly(child.ANSWER.size))
        pixels = settings.image_size**2 * settings.channels
        seen = child.SEEN_FORMATS[format] if format < len(child.SEEN_FORMATS) else None
        if kind == child.DECODED and seen and length == child.HEAD.size + pixels and what < 1 << len(NOTES):
            notes = tuple(note for bit, note in enumerate(NOTES) if what >> bit & 1)
            content = self._exactly(length)
            width, height, spent = child.HEAD.unpack_from(content)
            if 0 < width * height <= settings.max_pixels:
                image = np.frombuffer(content, np.uint8, offset=child.HEAD.size).reshape(settings.shape)
                return Decoded(image, seen, notes, (width, height), spent)
        if kind == child.REJECTED and seen and length <= child.MOST_DETAIL and what < len(child.REASONS):
            detail = one_line(self._exactly(length).decode("utf-8", "replace"))
            return ImageRejected(child.REASONS[what], detail, seen)
        if kind == child.SKIPPED and not length and what < len(child.SKIP_REASONS):
            return ImageSkipped(child.SKIP_REASONS[what])
        raise ProcessLost("gave an answer that cannot be one")

    def end(self) -> int:
        """Kills the process and its children, unless it has ended by itself, and returns its exit code. May be called
        repeatedly and from any thread; a thread that waits for an answer gets ProcessLost."""
        with self._ending:
            if self._process.poll() is None:
                with contextlib.suppress(ProcessLookupError, PermissionError):  # it ended just now
                    os.killpg(self._process.pid, signal.SIGKILL)
            code = self._process.wait()
            with contextlib.suppress(OSError):
                self._line.shutdown(socket.SHUT_RDWR)
            self._line.close()
            return code

    def _check_silence(self) -> None:
        """Raises ProcessLost if the process has ended or has sent anything unasked."""
        self._line.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            self._line.recv(1)
            raise ProcessLost

    def _send(self, data: bytes) -> None:
        self._line.settimeout(self._left())
        self._line.sendall(data)

    def _exactly(self, length: int) -> bytearray:
        data = bytearray(length)
        rest = memoryview(data)
        while rest:
            self._line.settimeout(self._left())
            count = self._line.recv_into(rest)
            if not count:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(_END_SECONDS)
                raise ProcessLost
            rest = rest[count:]
        return data

    def _left(self) -> float:
        """Seconds left for the whole answer: bytes that arrive one by one must not extend the time."""
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


def _begun(memory: int) -> tuple[socket.socket, subprocess.Popen[bytes]]:
    environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    environment["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, sys.path))
    # More than one thread would take address space and be no faster for images of this size.
    environment |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.setblocking(True)  # Beam sets a default timeout for sockets, which the child must not inherit
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", child.__name__, str(theirs.fileno()), str(memory)],
                pass_fds=[theirs.fileno()],
                env=environment,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # a decoder's messages can quote attributes
                start_new_session=True,  # only the parent handles an interrupt at the terminal
            )
        except BaseException:
            ours.close()
            raise
    return ours, process
