"""A bound on what threads hold in memory together."""

import contextlib
import threading
from collections.abc import Iterator


class Budget:
    """`limit` units that threads share. One that asks for more than the limit is served alone."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._used = 0
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def take(self, units: int) -> Iterator[None]:
        """Holds `units` while the body runs; waits until there are so many, or nobody else holds any."""
        with self._changed:
            self._changed.wait_for(lambda: self._used == 0 or self._used + units <= self.limit)
            self._used += units
        try:
            yield
        finally:
            with self._changed:
                self._used -= units
                self._changed.notify_all()
