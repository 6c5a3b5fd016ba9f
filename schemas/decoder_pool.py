"""Decoding in child processes: a file that crashes, hangs or swells a decoder costs itself, and nothing else.

The children (decoder_child.py) live long, are given the bytes of some dozen images at a time, and inherit nothing but the
import path. The parent never decodes and never unpickles: it checks the frames that a child sends against what they
can be. A child that is lost is begun again, and the images of its batch are decoded once more, each alone.
"""

import json
import os
import queue
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from types import TracebackType
from typing import BinaryIO

import numpy as np

from schemas import decoder_child as child
from schemas.errors import JobFailed, one_line
from schemas.image_settings import ImageSettings
from schemas.rejection import NOTES, Decoded, ImageRejected, ImageSkipped, Reason
from schemas.sniff import sniff

BATCH_IMAGES, BATCH_BYTES = 32, 1 << 20  # what fits a message: enough that small images cost no round trip each
DEFAULT_MEMORY, DEFAULT_SECONDS = 1 << 30, 60.0
DECODER = "schemas.image:decoder"

# What Python and its libraries need of the environment to start at all and to compute the same; no credentials.
_INHERITED = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "LANG", "TZ")
_START_SECONDS = 300.0
_GRACE_SECONDS = 10.0  # the child keeps the limit itself; the parent steps in where it cannot

Answer = Decoded | ImageRejected | ImageSkipped


class _LostError(Exception):
    """The child ended, or its answer cannot be one. Holds how, for people."""


class DecoderPool:
    """`children` processes (0: one a core) that decode for all threads of this one, begun when they are needed.

    `memory`: bytes that decoding may take in each, the files included and the libraries not; kept on Linux only. Close it,
    or use it in a `with`.
    """

    def __init__(self, children: int = 0, memory: int = DEFAULT_MEMORY) -> None:
        self._memory = memory
        self._all = [_Child(memory) for _ in range(children or cores())]
        self._free: queue.LifoQueue[_Child] = queue.LifoQueue()  # the one used last first: few images need few children
        for each in self._all:
            self._free.put(each)

    def __enter__(self) -> "DecoderPool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Begins all children now and waits for none, so that they get ready while the caller does other things."""
        for each in self._all:
            each.begin()

    def close(self) -> None:
        """Ends all children, whatever they are at."""
        for each in self._all:
            each.end()

    def decode(
        self,
        images: Sequence[bytes],
        settings: ImageSettings,
        timeout: float = DEFAULT_SECONDS,
        decoder: str = DECODER,
    ) -> list[Answer]:
        """What becomes of each image, in order: its tensor, or the ImageRejected or ImageSkipped that says why not.

        Images are the bytes of whole files. `timeout`: seconds that each may take. `decoder`: the `module:function` that
        loads what it needs and gives a function such as schemas.image.decode. Best called with about BATCH_IMAGES images or
        BATCH_BYTES; from any thread. An image in whose turn a child is lost twice, the second time alone, is
        DECODER_CRASHED; one that takes too long is DECODER_TIMEOUT. Raises JobFailed where no child can be started.
        """
        task = json.dumps([decoder, asdict(settings), timeout]).encode()
        answers, lost = self._ask(images, settings, timeout, task)
        if lost is None:
            return answers
        final = -1 if lost.reason is Reason.DECODER_CRASHED else len(answers)
        return [lost if at == final else self._alone(image, settings, timeout, task) for at, image in enumerate(images)]

    def _alone(self, image: bytes, settings: ImageSettings, timeout: float, task: bytes) -> Answer:
        answers, lost = self._ask([image], settings, timeout, task)
        if lost and lost.reason is Reason.DECODER_CRASHED:  # once may be another's doing: the system's, short of memory
            answers, lost = self._ask([image], settings, timeout, task)
        return lost or answers[0]

    def _ask(
        self, images: Sequence[bytes], settings: ImageSettings, timeout: float, task: bytes
    ) -> tuple[list[Answer], ImageRejected | None]:
        """The answers of one child, and why the image after the last of them has none."""
        each = self._free.get()
        answers: list[Answer] = []
        try:
            each.send(images, task, timeout)
            while len(answers) < len(images):
                answers.append(each.receive(settings))
        except (_LostError, OSError) as error:
            late = isinstance(error, TimeoutError)
            code = each.end()
            image = images[len(answers)]
            if late or code == -signal.SIGALRM:
                return answers, _rejected(Reason.DECODER_TIMEOUT, f"not decoded in {timeout:g} s", image)
            if len(image) > self._memory * 2 // 3:
                return answers, _rejected(Reason.OUT_OF_MEMORY, "the file alone fills the memory of a decoder", image)
            ended = str(error) if isinstance(error, _LostError) and str(error) else _how(code)
            return answers, _rejected(Reason.DECODER_CRASHED, f"the decoding process {ended}", image)
        except BaseException:
            each.end()  # what it would still answer belongs to nobody
            raise
        finally:
            self._free.put(each)
        return answers, None


def cores() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _rejected(reason: Reason, detail: str, image: bytes) -> ImageRejected:
    try:
        return ImageRejected(reason, detail, sniff(image))
    except ImageRejected:
        return ImageRejected(reason, detail)


def _how(code: int) -> str:
    return f"ended with signal {-code}" if code < 0 else f"ended with exit code {code}"


class _Child:
    """One process and the line to it; begun when first asked, and again after `end`."""

    def __init__(self, memory: int) -> None:
        self._memory = memory
        self._process: subprocess.Popen[bytes] | None = None
        self._line: socket.socket | None = None
        self._answers: BinaryIO | None = None
        self._ready = False

    def begin(self) -> None:
        """Starts the process, if there is none, and does not wait for it."""
        if self._process is not None:
            return
        self._line, theirs = socket.socketpair()
        theirs.setblocking(True)  # Beam sets a default timeout for sockets, and the child would inherit half of it
        self._answers, self._ready = self._line.makefile("rb"), False
        environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        environment["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, sys.path))
        # More threads than one are address space, and no faster for images of this size.
        environment |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", child.__name__, str(theirs.fileno()), str(self._memory)]
        with theirs:
            try:
                self._process = subprocess.Popen(
                    command,
                    pass_fds=[theirs.fileno()],
                    env=environment,
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,  # the last words of a decoder can quote attributes
                    start_new_session=True,  # an interrupt at the terminal is for the parent to handle
                )
            except OSError as error:
                self._answers.close()
                self._line.close()
                raise JobFailed(f"the process that decodes does not start: {error.strerror}") from error

    def end(self) -> int:
        """Kills the process, if there is one that has not ended by itself; gives how it ended."""
        if self._process is None or self._line is None or self._answers is None:
            return 0
        self._answers.close()
        self._line.close()
        self._process.kill()
        code = self._process.wait()
        self._process = self._line = self._answers = None
        return code

    def send(self, images: Sequence[bytes], task: bytes, timeout: float) -> None:
        """Hands over a batch; beginning the process where there is none."""
        self.begin()
        assert self._line
        assert self._answers
        if not self._ready:
            self._line.settimeout(_START_SECONDS)
            if self._answers.read(len(child.READY)) != child.READY:
                raise JobFailed(f"the process that decodes does not start: it {_how(self.end())}")
            self._ready = True
        self._line.settimeout(timeout + _GRACE_SECONDS)
        lengths = b"".join(child.LENGTH.pack(len(image)) for image in images)
        self._line.sendall(child.REQUEST.pack(len(images), len(task)) + lengths + task)
        for image in images:
            self._line.sendall(image)

    def receive(self, settings: ImageSettings) -> Answer:
        """The next answer. Raises _LostError where there is none or it cannot be one, TimeoutError where it is late."""
        kind, what, format, length = child.ANSWER.unpack(self._exactly(child.ANSWER.size))
        pixels = settings.image_size**2 * settings.channels
        seen = child.SEEN_FORMATS[format] if format < len(child.SEEN_FORMATS) else None
        if kind == child.DECODED and seen and length == pixels and what < 1 << len(NOTES):
            notes = tuple(note for bit, note in enumerate(NOTES) if what >> bit & 1)
            image = np.frombuffer(self._exactly(length), np.uint8).reshape(settings.shape)
            return Decoded(image, seen, notes)
        if kind == child.REJECTED and seen and length <= child.MOST_DETAIL and what < len(child.REASONS):
            detail = one_line(self._exactly(length).decode("utf-8", "replace"))
            return ImageRejected(child.REASONS[what], detail, seen)
        if kind == child.SKIPPED and not length and what < len(child.SKIP_REASONS):
            return ImageSkipped(child.SKIP_REASONS[what])
        raise _LostError("gave an answer that cannot be one")

    def _exactly(self, length: int) -> bytes:
        assert self._answers
        data = self._answers.read(length)
        if len(data) < length:
            raise _LostError
        return data
