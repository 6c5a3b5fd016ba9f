"""Ends the generators that TensorFlow calls, before the interpreter ends.

TensorFlow runs a generator in a thread of its own, ahead of the consumer. If that thread is in Python when the
interpreter ends, it never comes back, and TensorFlow waits for it forever. This happens to a script that leaves an
iterator unfinished.
"""

import atexit
import functools
import threading
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

_SECONDS = 0.5  # for TensorFlow's thread to ask for an item, see the error and leave Python
_MOST_SECONDS = 60.0  # for an item that is being made, such as a window of shards of a slow bucket

_Item = TypeVar("_Item")
_ending = threading.Event()


class _Running:
    """A generator that is not finished. `busy`: its thread is in Python."""

    busy = True


_running: set[_Running] = set()


def ending_with_the_process(items: Iterable[_Item]) -> Iterator[_Item]:
    """The items, until the process is about to end: then a RuntimeError."""
    _watch()
    running = _Running()
    _running.add(running)
    try:
        for item in items:
            running.busy = False
            yield item
            running.busy = True
            if _ending.is_set():
                raise RuntimeError("the process ends")
    finally:
        _running.discard(running)


@functools.cache
def _watch() -> None:
    atexit.register(_end)


def _end() -> None:
    _ending.set()
    if not _running:
        return
    time.sleep(_SECONDS)
    deadline = time.monotonic() + _MOST_SECONDS
    while any(running.busy for running in list(_running)) and time.monotonic() < deadline:
        time.sleep(0.01)
