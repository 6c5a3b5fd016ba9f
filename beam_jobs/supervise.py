"""Keeps a local run going when a decoder takes the process with it.

The run is forked off once everything is imported and before any thread is begun, which costs no time. When it dies, it
is run again: the shards that it died in are marked (isolation.py), and their images decoded in a process of their own.
"""

import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from beam_jobs import isolation
from beam_jobs.config import ConvertConfig
from schemas.errors import JobFailed, run_command

_TOLD = {signal.SIGCHLD, signal.SIGINT, signal.SIGTERM}
_FROM_KERNEL = 0x80  # SI_KERNEL of sigaction(2): the terminal, which interrupts the child as well
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_ORPHAN_SECONDS = 10  # worker processes end well within a second
_TEMPORARY, _LOCK = "radrecords-", ".launcher"  # the file in the folder that the launcher keeps locked
_ENDED, _WORKER_LOST = b".", b"w"  # what the child tells before it ends; nothing where it was lost itself


class WorkerLostError(JobFailed):
    """A worker process died and left nothing said. The same command again finishes."""


def can_supervise() -> bool:
    """Whether this system has what that takes; elsewhere the user gives the same command again."""
    return sys.platform == "linux"


def until_done(run: Callable[[], None], config: ConvertConfig, argv: Sequence[str]) -> int:
    """The exit code of the command `run`, which is run again as long as each loss is in other shards than those before.

    Raises WorkerLostError where it is not.
    """
    seen: frozenset[str] = frozenset()
    while True:
        code, how = _in_child(run, argv)
        if code is not None:
            return code
        lost = isolation.attempts(config.work)
        if not lost - seen:
            print(file=sys.stderr)  # the bar's line is not ended
            raise WorkerLostError(f"{how}; the same command again goes on")
        print(f"\nwarning: {how}; going on, and decoding what it was at in a process of its own", file=sys.stderr)
        seen |= lost


def _in_child(run: Callable[[], None], argv: Sequence[str]) -> tuple[int | None, str]:
    """Exit code of `run`, or None where its process ended without one or lost a worker; and in words how it ended."""
    told, tell = os.pipe()
    parent = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    with _temporary_folder() as folder, open(told, "rb") as answers:
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
        signal.pthread_sigmask(signal.SIG_BLOCK, _TOLD)
        try:
            child = os.fork()
            if child == 0:
                ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # kill -9 of the launcher ends the run
                if os.getppid() != parent:
                    os._exit(1)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, _TOLD)
                tempfile.tempdir = folder  # so that nothing stays behind there
                _run_and_tell(run, argv, tell)
            os.close(tell)
            status = _wait(child)
        finally:
            _wait_for_orphans()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _TOLD)
        answer = answers.read(1)
    code = os.waitstatus_to_exitcode(status)
    if answer == _ENDED:
        return code, ""
    if answer == _WORKER_LOST:
        return None, "a worker process was lost"
    return None, f"the process was lost, with {f'signal {-code}' if code < 0 else f'exit code {code}'}"


@contextlib.contextmanager
def _temporary_folder() -> Iterator[str]:
    """A folder for all that is temporary in a run. Those that killed launchers left are deleted."""
    for lock in Path(tempfile.gettempdir()).glob(f"{_TEMPORARY}*/{_LOCK}"):
        with contextlib.suppress(OSError), open(lock, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails as long as its launcher lives
            shutil.rmtree(lock.parent, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_TEMPORARY) as folder, open(os.path.join(folder, "new"), "xb") as file:
        with contextlib.suppress(OSError):  # a file system without locks: nobody deletes it
            fcntl.flock(file, fcntl.LOCK_EX)
            os.rename(file.name, os.path.join(folder, _LOCK))  # seen by others from now on, and locked
        yield folder


def _run_and_tell(run: Callable[[], None], argv: Sequence[str], tell: int) -> NoReturn:
    def command(_: Sequence[str]) -> None:
        try:
            run()
        except WorkerLostError:
            os.write(tell, _WORKER_LOST)
            os._exit(1)

    try:
        code = run_command(command, argv)
    except BaseException:  # --debug
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os.write(tell, _ENDED)
    os._exit(code)


def _wait(child: int) -> int:
    """How the child ended. Meanwhile passes on what asks this process alone to stop; SIGTERM then ends both."""
    while True:
        info = signal.sigwaitinfo(_TOLD)
        if info.si_signo == signal.SIGCHLD:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return status
        elif info.si_code != _FROM_KERNEL:
            os.kill(child, info.si_signo)
            if info.si_signo == signal.SIGTERM:
                os.waitpid(child, 0)
                raise SystemExit(128 + signal.SIGTERM)


def _wait_for_orphans() -> None:
    """Waits for the worker processes of a child that was lost, which are ours now: they still write into its folder."""
    deadline = time.monotonic() + _ORPHAN_SECONDS
    with contextlib.suppress(ChildProcessError):  # no more
        while time.monotonic() < deadline:
            ended, _ = os.waitpid(-1, os.WNOHANG)
            if not ended:
                time.sleep(0.02)
