"""Conversions that tests start as a user starts them, with a stand-in decoder, and the processes of these runs."""

import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path
from time import sleep

from tests.beam_jobs.standin_words import HANGS, TOLD, stand_in_path
from tests.conftest import labelled, write_images

PROCESSES = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")

FLAGS = ("--shards", "3", "--max_reject_fraction", "0.2")


def told(output: Path) -> Path:
    """Where decoders of the run that was `started` for this output say that they hang."""
    return output.parent / f"{TOLD}{output.name}"


def started(raw: Path, output: Path, *flags: object, temporary: Path | None = None) -> subprocess.Popen[str]:
    temporary = temporary or output.parent / f"tmp of {output.name}"
    temporary.mkdir(exist_ok=True)
    told(output).mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "beam_jobs.convert", "--input", str(raw), "--output", str(output)]
        + [*FLAGS, *map(str, flags)],
        env={**os.environ, "PYTHONPATH": stand_in_path(told(output)), "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def processes(output: Path) -> dict[int, str]:
    """The processes of the run that was `started` for this output, found by the TMPDIR that they inherit. Decoders inherit
    no TMPDIR and are not included."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"TMPDIR={output.parent}/tmp of {output.name}\0".encode() in (folder / "environ").read_bytes():
                found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
    return found


def running(output: Path) -> list[str]:
    return list(processes(output).values())


def decoders(output: Path) -> set[int]:
    """The decoding processes of the runs that were `started` for this output, found by the PYTHONPATH that they are given.
    Other tests may be decoding on the same machine."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            ours = os.fsencode(told(output)) in re.split(rb"[\0:=]", (folder / "environ").read_bytes())
            if ours and b"schemas.decoders.child" in (folder / "cmdline").read_bytes():
                found.add(int(folder.name))
    return found


def wait_until_it_hangs(run: subprocess.Popen[str], output: Path) -> None:
    """Waits until a decoder of the run has reached an image that makes it hang."""
    while not (told(output) / HANGS).exists():
        assert run.poll() is None, run.communicate()
        sleep(0.05)


def wait_until_no_decoder_is_left(output: Path) -> None:
    """Fails if decoders of an ended run do not end within half a minute."""
    for _ in range(600):
        if not decoders(output):
            return
        sleep(0.05)
    raise AssertionError("decoders outlive the run")


def marked(folder: Path, bad: dict[str, bytes]) -> Path:
    raw = write_images(folder, labelled(20, suffix=".jpeg"))
    for name, word in bad.items():
        (raw / name).write_bytes((raw / name).read_bytes() + word)
    return raw


def left_in(temporary: Path) -> list[Path]:
    return list(temporary.glob("radrecords-*"))
