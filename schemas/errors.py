"""Errors for users, and the one place that turns them into an exit code."""

import argparse
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn


class RadrecordsError(Exception):
    """One line that names the input, what was wrong and what to do. Ends a command with `exit_code`."""

    exit_code = 1


class UsageError(RadrecordsError):
    """The command cannot start: a wrong flag, a missing or empty input, a data set that this version cannot read."""

    exit_code = 2


class JobFailed(RadrecordsError):
    """The command ran and found that its result must not be used. Nothing was published."""


class _HelpFormatter(argparse.HelpFormatter):
    """Shows only defaults that are informative."""

    def _get_help_string(self, action: argparse.Action) -> str:
        silent = action.default in (None, "", (), False, argparse.SUPPRESS)
        return (action.help or "") + ("" if silent else " (default: %(default)s)")


class CommandParser(argparse.ArgumentParser):
    """An ArgumentParser that reports errors in one line, with exit code 2, and has `--debug`.

    `usage` names the module (`python -m beam_jobs.convert`), not the path of the file behind it.
    """

    def __init__(self, module: str, description: str) -> None:
        super().__init__(
            prog=f"python -m {module}",
            description=description,
            allow_abbrev=False,
            formatter_class=_HelpFormatter,
        )
        self.add_argument("--debug", action="store_true", help="show tracebacks and all log lines")

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


@contextlib.contextmanager
def ending_when_interrupted(stderr: int = 2) -> Iterator[None]:
    """Lets an interrupt end the process at once, with one line on the descriptor `stderr`, while the body of the `with`
    loads modules: half-loaded modules would turn the interrupt into other errors and exit codes. Does nothing if
    interrupts are ignored or handled in another way."""
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield
        return

    def end(_number: int, _frame: object) -> NoReturn:
        os.write(stderr, b"interrupted\n")
        os._exit(130)

    signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def run_command(command: Callable[[Sequence[str]], None], argv: Sequence[str] | None = None) -> int:
    """Runs `command(argv)` and returns its exit code: 0, 1 for a failed job, 2 for bad usage, 130 when interrupted, or the
    `exit_code` of the exception.

    An error is printed to stderr as one line. With `--debug` among the arguments, the exception is raised instead.
    """
    argv = sys.argv[1:] if argv is None else argv
    try:
        command(argv)
    except RadrecordsError as error:
        if "--debug" in argv:
            raise
        print(f"error: {one_line(str(error))}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt as interrupt:
        print(one_line(str(interrupt)) or "interrupted", file=sys.stderr)
        return int(getattr(interrupt, "exit_code", 130))
    except Exception as error:
        if "--debug" in argv:
            raise
        what = one_line(f"{type(error).__name__}: {error}")
        print(f"error: {what} (unexpected; run again with --debug for the traceback)", file=sys.stderr)
        return 1
    return 0


def one_line(text: str, limit: int = 500) -> str:
    """`text` on one line, cut to `limit` characters. Runs of white space become one space, and control characters
    become question marks."""
    text = "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.split()))
    return text if len(text) <= limit else text[: limit - 3] + "..."
