"""Conversions in processes of their own, on another engine."""

import os
import signal
import subprocess
from pathlib import Path

from tests.conftest import Result, convert_command

PATIENCE_SECONDS = 240
Launch = subprocess.Popen[str]


def start(raw: Path | str, output: Path | str, *flags: object) -> Launch:
    """Starts a conversion, in a session of its own, so that all of its processes can be found."""
    return subprocess.Popen(
        convert_command(raw, output, *flags),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(launch: Launch) -> Result:
    """Waits for the end of a launch, and checks that it leaves no process."""
    out, err = launch.communicate(timeout=PATIENCE_SECONDS)
    listed = subprocess.run(["ps", "-e", "-o", "sid=,args="], capture_output=True, text=True, check=True).stdout
    left = [line for line in listed.splitlines() if int(line.split()[0]) == launch.pid]
    assert not left
    return Result(launch.returncode, out, err)


def interrupt(launch: Launch) -> None:
    """What ^C does: every process of the terminal's group gets the signal."""
    os.killpg(launch.pid, signal.SIGINT)
