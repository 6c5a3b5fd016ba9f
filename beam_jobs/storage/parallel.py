"""Requests at the same time: each takes tens of milliseconds, of which this process works for two."""

import functools
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

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


@functools.cache
def _threads(number: int) -> ThreadPoolExecutor:
    """The threads of this process. They start when they are needed, and stay."""
    return ThreadPoolExecutor(number, "request")
