"""Runs a job in a child process, ends it on an interrupt, and reports if it is lost.

The child is forked before anything large is imported and before any thread is started. Only this process handles an
interrupt: it kills the child and everything that the child started, because Beam would take the exception for an error
of the pipeline. It also cleans up after the kill. Of a job on another engine, only the launcher's side is here.
"""

import ctypes
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from beam_jobs.publish import releases
from beam_jobs.settings.config import ConvertConfig
from schemas.errors import JobFailed, run_command
from schemas.scratch import scratch_folder

_WATCHED = {signal.SIGCHLD, signal.SIGINT, signal.SIGTERM}
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # of prctl(2)
_ENDED, _WORKER_LOST = b".", b"w"  # what the child sends before it ends; nothing if it was lost
_BEAMS_WATCH = "run_worker"  # the thread of Beam's local runner that fails together with its worker process


def can_supervise() -> bool:
    """Whether this system supports supervision. On other systems the user has to run the same command again."""
    return sys.platform == "linux"


class Ended(NamedTuple):
    """What became of a job on another engine, in words for the user ("" if it had ended), and whether it goes on."""

    what: str = ""
    goes_on: bool = False


def run_in_child(
    run: Callable[[], None], config: ConvertConfig, argv: Sequence[str], end: Callable[[], Ended] = Ended
) -> int:
    """Runs the command `run` in a child process and returns its exit code. `end` ends a job on another engine.

    Raises JobFailed if its process or a worker was lost. On SIGINT or SIGTERM, raises a KeyboardInterrupt that says
    what is published.
    """
    try:
        code, how = _in_child(run, argv)
    except KeyboardInterrupt:
        if config.local:
            print(file=sys.stderr)  # end the line of the progress bar
        raise KeyboardInterrupt(_after_interrupt(config, end)) from None
    if code is not None:
        return code
    if config.local:
        print(file=sys.stderr)  # end the line of the progress bar
    what = end().what
    raise JobFailed(f"{how}; {what}{'; ' if what else ''}run the same command again to continue")


def _after_interrupt(config: ConvertConfig, end: Callable[[], Ended]) -> str:
    if config.dry_run:
        return ""
    what, goes_on = end()
    if goes_on:
        return f"interrupted; {what}; when it has ended, run the same command again for the summary"
    said = releases.after_interrupt(config)
    return said.replace("interrupted", f"interrupted; {what}", 1) if what else said


def _in_child(run: Callable[[], None], argv: Sequence[str]) -> tuple[int | None, str]:
    """The exit code of `run`, or None if its process or a worker was lost, and a description of how it ended."""
    answers_end, tell = os.pipe()
    parent = os.getpid()
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)  # this process adopts, and ends, what a lost run leaves running
    sys.stdout.flush()
    sys.stderr.flush()
    with scratch_folder() as folder, open(answers_end, "rb") as answers:
        signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
        try:
            child = os.fork()
            if child == 0:
                ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # kill -9 of the launcher ends the run
                if os.getppid() != parent:
                    os._exit(1)
                signal.signal(signal.SIGINT, signal.SIG_IGN)  # also in the processes that it starts
                signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
                tempfile.tempdir = folder  # deleted with the scratch folder
                _run_and_tell(run, argv, tell)
            os.close(tell)
            status = _wait(child)
        finally:
            _end_orphans()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
        answer = answers.read(1)
    code = os.waitstatus_to_exitcode(status)
    if answer == _ENDED:
        return code, ""
    if answer == _WORKER_LOST:
        return None, "a worker process was lost (killed, or out of memory)"
    return None, f"the process was lost, with {f'signal {-code}' if code < 0 else f'exit code {code}'}"


def _run_and_tell(run: Callable[[], None], argv: Sequence[str], tell: int) -> NoReturn:
    def worker_lost(failed: threading.ExceptHookArgs) -> None:
        if failed.thread is None or failed.thread.name != _BEAMS_WATCH:
            threading.__excepthook__(failed)
            return
        os.write(tell, _WORKER_LOST)  # the runner would wait for the worker forever
        os._exit(1)

    threading.excepthook = worker_lost
    try:
        code = run_command(lambda _: run(), argv)
    except BaseException:  # --debug
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os.write(tell, _ENDED)
    os._exit(code)


def _wait(child: int) -> int:
    """The exit status of the child. If this process is asked to end, it ends the child and raises KeyboardInterrupt."""
    while signal.sigwaitinfo(_WATCHED).si_signo == signal.SIGCHLD:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise KeyboardInterrupt


def _end_orphans() -> None:
    """Ends what the child left running: workers and decoders."""
    listed = Path(f"/proc/self/task/{os.getpid()}/children")
    while listed.exists() and (children := listed.read_text().split()):
        for process in children:
            os.kill(int(process), signal.SIGKILL)
            os.waitpid(int(process), 0)
