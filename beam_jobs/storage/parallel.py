"""Requests at the same time: each takes tens of milliseconds, of which this process works for two."""

import functools
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from beam_jobs.storage.client import MOST_REQUESTS

AT_ONCE = 64
"""How many requests hide the latency of a bucket, which answers in tens of milliseconds."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def each(ask: Callable[[Item], Result], items: Iterable[Item], at_once: int) -> list[Result]:
    """`ask(item)` for each item, in order. At most `at_once` calls (up to MOST_REQUESTS) run at a time in this process,
    whoever else calls `each` with the same number; 1 means on this thread. `ask` must not call `each`. The first
    exception is raised when the calls that have begun are done; no other begins."""
    if at_once == 1:
        return [ask(item) for item in items]
    return list(_threads(min(at_once, MOST_REQUESTS)).map(ask, items))  # map cancels what has not begun


@functools.cache
def _threads(number: int) -> ThreadPoolExecutor:
    """The threads of this process. They start when they are needed, and stay."""
    return ThreadPoolExecutor(number, "request")
