"""Ends training in good order when ^C or SIGTERM (as of a preempted machine) arrives, so that nothing is lost."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """The signal that has arrived, if any."""

    def __init__(self) -> None:
        self.number: int | None = None

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Notes the first signal; the second ends the process as it would have done before. Does nothing outside the main
        thread, and to signals that are ignored."""

        def note(number: int) -> None:
            self.number = number

        with _at_first_signal(note):
            yield


class Stopped(KeyboardInterrupt):
    """Training ended early, as asked; the message says how to go on."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + number  # as a shell reports it


@contextmanager
def stopping(message: str) -> Iterator[None]:
    """Raises Stopped with the message when a signal arrives, wherever the body of the `with` is. Otherwise as `noted`."""

    def stop(number: int) -> NoReturn:
        raise Stopped(message, number)

    with _at_first_signal(stop):
        yield


@contextmanager
def _at_first_signal(react: Callable[[int], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def handle(number: int, _frame: object) -> None:
        restore()
        react(number)

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, handle)
    try:
        yield
    finally:
        restore()
