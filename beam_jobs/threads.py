"""`map` on several threads, in order, that notices when they are stuck.

Not concurrent.futures' pool: Python waits for its threads when the process ends, and one that hangs in a decoder
would keep the process for ever. These are daemons.
"""

import collections
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait
from typing import TypeVar

_AHEAD = 2  # items in flight per thread

T = TypeVar("T")
R = TypeVar("R")


class StalledError(Exception):
    """No thread got anything done within the limit. The stuck ones are left behind; they cannot be stopped."""


class Pulse:
    """When the threads last got something done, as the mapped function tells by `beat`."""

    def __init__(self) -> None:
        self.last = time.monotonic()

    def beat(self) -> None:
        """Tells that something was done just now."""
        self.last = time.monotonic()


def parts(count: int, threads: int, largest: int) -> list[range]:
    """0 to `count` cut into ranges of at most `largest`, and of less where that keeps all threads busy."""
    size = max(1, min(largest, count // (threads * _AHEAD)))
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


def ordered_map(
    function: Callable[[T], R], items: Iterable[T], threads: int, pulse: Pulse, limit: float | None
) -> Iterator[R]:
    """`function` of each item, in order, with a bounded number of items in flight.

    Raises StalledError where a result is waited for and the pulse has been still for `limit` seconds; None waits on.
    """
    todo: queue.SimpleQueue[tuple[Future[R], T] | None] = queue.SimpleQueue()
    ahead: collections.deque[Future[R]] = collections.deque()

    def work() -> None:
        while (task := todo.get()) is not None:
            future, item = task
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function(item))
                except BaseException as error:
                    future.set_exception(error)
            del task, future, item  # a waiting thread keeps no part in memory

    for _ in range(threads):
        threading.Thread(target=work, name="decode", daemon=True).start()
    try:
        for item in items:
            future: Future[R] = Future()
            ahead.append(future)
            todo.put((future, item))
            if len(ahead) >= threads * _AHEAD:
                yield _result(ahead.popleft(), pulse, limit)
        while ahead:
            yield _result(ahead.popleft(), pulse, limit)
    finally:
        for future in ahead:
            future.cancel()
        for _ in range(threads):
            todo.put(None)


def _result(future: Future[R], pulse: Pulse, limit: float | None) -> R:
    started = time.monotonic()
    while limit is not None and not future.done():
        left = max(started, pulse.last) + limit - time.monotonic()
        if left <= 0:
            raise StalledError
        wait([future], left)
    return future.result()
