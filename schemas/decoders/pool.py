"""Decoding in child processes: a file that crashes, hangs or bloats a decoder affects no other file.

The children (child.py) are long-lived, get the bytes of a few dozen images at a time, and inherit only the import path
and a few environment variables. The parent neither decodes nor unpickles: it checks each field of the frames that a
child sends (process.py). If a child is lost, a new one is started, and the images of its batch are decoded again, one
at a time.
"""

import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict
from types import TracebackType

from schemas.decoders.process import Answer, DecoderProcess, ProcessLost
from schemas.errors import JobFailed
from schemas.pixels.rejection import ImageRejected, Reason
from schemas.pixels.settings import ImageSettings
from schemas.pixels.sniff import sniff

BATCH_IMAGES, BATCH_BYTES = 32, 4 << 20  # per message, so that a few dozen images share one round trip
DEFAULT_MEMORY, DEFAULT_SECONDS = 1 << 30, 60.0
DECODER = "schemas.pixels.decode:decoder"
_STARTS = 10  # attempts, if a child is killed again and again before it is ready


def most_bytes(memory: int) -> int:
    """The size in bytes of the largest file for decoders with this much memory, which must also hold the decoded
    image."""
    return memory * 2 // 3


class DecoderPool:
    """`children` processes (0: one per core) that decode for all threads of this process, started on demand.

    `memory`: bytes that decoding may take in each child, including the files but not the libraries; enforced on Linux
    only. Close the pool, or use it in a `with` statement.
    """

    def __init__(self, children: int = 0, memory: int = DEFAULT_MEMORY) -> None:
        self._memory = memory
        # None stands for a child that is not started yet or was lost. The child used last comes first, so that few
        # images need few children.
        self._free: queue.LifoQueue[DecoderProcess | None] = queue.LifoQueue()
        for _ in range(children or cores()):
            self._free.put(None)
        self._alive: set[DecoderProcess] = set()
        self._closed = False
        self._lock = threading.Lock()

    def __enter__(self) -> "DecoderPool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Starts all idle children without waiting, so that they load while the caller does other things."""
        idle = [self._free.get() for _ in range(self._free.qsize())]
        try:
            idle = [each or self._begin() for each in idle]
        finally:
            for each in idle:
                self._free.put(each)

    def close(self) -> None:
        """Ends all children for good, even if they are busy: a thread that is decoding gets a JobFailed."""
        with self._lock:
            self._closed = True
            for each in self._alive:
                each.end()
            self._alive.clear()

    def decode(
        self,
        images: Sequence[bytes],
        settings: ImageSettings,
        timeout: float = DEFAULT_SECONDS,
        decoder: str = DECODER,
    ) -> list[Answer]:
        """The outcome of each image, in order: its tensor, or the ImageRejected or ImageSkipped that says why there is none.

        Images are the bytes of whole files. `timeout`: seconds that each image may take. `decoder`: a `module:function`
        that loads what it needs and returns a function such as `decode` in schemas/pixels/decode.py. May be called from
        any thread, best with about BATCH_IMAGES images or BATCH_BYTES bytes. An image is DECODER_CRASHED if a child is
        lost twice while it decodes that image alone, and DECODER_TIMEOUT if it takes too long. Raises JobFailed if no
        child becomes ready.
        """
        task = json.dumps([decoder, asdict(settings), timeout]).encode()
        answers, failure = self._ask(images, settings, timeout, task)
        if failure is None:
            return answers
        final = -1 if failure.reason is Reason.DECODER_CRASHED else len(answers)
        return [
            failure if at == final else self._alone(image, settings, timeout, task) for at, image in enumerate(images)
        ]

    def _alone(self, image: bytes, settings: ImageSettings, timeout: float, task: bytes) -> Answer:
        answers, failure = self._ask([image], settings, timeout, task)
        # A single crash may have another cause, such as a system that is short of memory.
        if failure and failure.reason is Reason.DECODER_CRASHED:
            answers, failure = self._ask([image], settings, timeout, task)
        return failure or answers[0]

    def _ask(
        self, images: Sequence[bytes], settings: ImageSettings, timeout: float, task: bytes
    ) -> tuple[list[Answer], ImageRejected | None]:
        """The answers of one child and, if there are not enough, the rejection of the first image without an answer."""
        each, back = self._prepared(task), None
        answers: list[Answer] = []
        try:
            each.send(images, timeout)
            while len(answers) < len(images):
                answers.append(each.receive(settings, timeout))
            back = each
        except (ProcessLost, OSError) as error:
            return answers, self._blamed(error, self._end(each), images[len(answers)], timeout)
        finally:
            if back is None:  # nobody will read its remaining answers
                self._end(each)
            self._free.put(back)
        return answers, None

    def _prepared(self, task: bytes) -> DecoderProcess:
        """Returns a child that is ready for images."""
        each = self._free.get()
        try:
            for _ in range(_STARTS):
                fresh = each is None
                each = each or self._begin()
                try:
                    each.prepare(task)
                    return each
                except (ProcessLost, OSError) as error:
                    late, code, each = isinstance(error, TimeoutError), self._end(each), None
                if fresh and (late or code > 0):  # it would fail again; a kill may come from a system short of memory
                    break
            raise JobFailed(
                f"the decoding process does not start: it {'was not ready in time' if late else _how(code)}"
            )
        except BaseException:
            if each:
                self._end(each)
            self._free.put(None)
            raise

    def _begin(self) -> DecoderProcess:
        with self._lock:
            if self._closed:
                raise JobFailed("the decoding processes have been stopped")
            begun = DecoderProcess(self._memory)
            self._alive.add(begun)
            return begun

    def _end(self, each: DecoderProcess) -> int:
        code = each.end()
        with self._lock:
            self._alive.discard(each)
        return code

    def _blamed(self, error: Exception, code: int, image: bytes, timeout: float) -> ImageRejected:
        if isinstance(error, TimeoutError) or code == -signal.SIGALRM:
            return _rejected(Reason.DECODER_TIMEOUT, f"not decoded in {timeout:g} s", image)
        if len(image) > most_bytes(self._memory):
            return _rejected(Reason.OUT_OF_MEMORY, "the file alone fills the memory of a decoder", image)
        how = str(error) if isinstance(error, ProcessLost) else ""
        return _rejected(Reason.DECODER_CRASHED, f"the decoding process {how or _how(code)}", image)


def cores() -> int:
    """The number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _rejected(reason: Reason, detail: str, image: bytes) -> ImageRejected:
    try:
        return ImageRejected(reason, detail, sniff(image))
    except ImageRejected:
        return ImageRejected(reason, detail)


def _how(code: int) -> str:
    return f"ended with signal {-code}" if code < 0 else f"ended with exit code {code}"
