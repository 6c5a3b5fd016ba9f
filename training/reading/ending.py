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

_SECONDS = 0.5  # for TensorFlow's thread to see the error and leave Python

_Item = TypeVar("_Item")
_ending = threading.Event()
_running: set[object] = set()


def ending_with_the_process(items: Iterable[_Item]) -> Iterator[_Item]:
    """The items, until the process is about to end: then a RuntimeError."""
    _watch()
    token = object()
    _running.add(token)
    try:
        for item in items:
            yield item
            if _ending.is_set():
                raise RuntimeError("the process ends")
    finally:
        _running.discard(token)


@functools.cache
def _watch() -> None:
    atexit.register(_end)


def _end() -> None:
    _ending.set()
    if _running:
        time.sleep(_SECONDS)
