"""How long training has waited for input."""

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

_Item = TypeVar("_Item")


class Waiting:
    """The seconds that training has waited for input since the first batch, which waits for what happens only once."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._measured: list[Callable[[], float]] = []
        self._skipped = 0.0

    @property
    def seconds(self) -> float:
        return self._seconds + sum(measure() for measure in self._measured) - self._skipped

    def begin(self) -> None:
        """Starts again from zero."""
        self._skipped += self.seconds

    def add_source(self, measure: Callable[[], float]) -> None:
        """Counts the seconds that `measure` gives too."""
        self._measured.append(measure)

    def timed(self, items: Iterator[_Item]) -> Iterator[_Item]:
        """The items, with the time that each took counted."""
        while True:
            start = time.perf_counter()
            try:
                item = next(items)
            except StopIteration:
                return
            finally:
                self._seconds += time.perf_counter() - start
            yield item
