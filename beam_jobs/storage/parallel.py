"""Requests at the same time: each takes tens of milliseconds, of which this process works for two."""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

from beam_jobs.storage.client import MOST_REQUESTS

AT_ONCE = 64
"""How many requests hide the latency of a bucket, which answers in tens of milliseconds."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def each(ask: Callable[[Item], Result], items: Iterable[Item], at_once: int) -> list[Result]:
    """`ask(item)` for each item, in order. At most `at_once` calls (up to MOST_REQUESTS) run at a time in this process,
    whoever else calls `each` with the same number; 1 means on this thread. `ask` must not call `each`. After an
    exception no other call begins; it is raised when those that run have ended."""
    if at_once == 1:
        return [ask(item) for item in items]
    threads = _threads(min(at_once, MOST_REQUESTS))
    calls: list[Future[Result]] = []
    try:
        calls.extend(threads.submit(ask, item) for item in items)
        return [call.result() for call in calls]
    except BaseException:
        for call in calls:
            call.cancel()
        wait(calls)
        raise


def together(calls: Sequence[Callable[[], Any]], at_once: int) -> list[Any]:
    """What the calls return, in order. They run as those of `each`."""
    return each(lambda call: call(), calls, at_once)


@contextlib.contextmanager
def begun(call: Callable[[], Result], at_once: int) -> Iterator[Callable[[], Result]]:
    """Runs `call` on a thread of its own while the block runs, which has ended when the block has. Yields a function that
    waits for it and gives its result, or raises its exception. With `at_once` 1, that function runs it."""
    if at_once == 1:
        yield call
        return
    with ThreadPoolExecutor(1, "begun") as thread:
        yield thread.submit(call).result


@functools.cache
def _threads(number: int) -> ThreadPoolExecutor:
    """The threads of this process. They start when they are needed, and stay."""
    return ThreadPoolExecutor(number, "request")
