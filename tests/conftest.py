"""Fixtures and helpers for all tests: small images on disk, and commands run as a user runs them."""

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from schemas.errors import run_command

ROOT = Path(__file__).parent.parent

pytest_plugins = ("tests.gcs.fixtures",)


def pytest_configure() -> None:
    """What a shell without job control starts in the background ignores SIGINT; the commands that tests interrupt must
    not. TensorFlow computes here as in the commands (training/loading.py), so that results can be compared bit for bit."""
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True)
class Result:
    """The result of a command: exit code, stdout and stderr."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one error line of a command that failed as it should."""
        lines = [line for line in self.err.splitlines() if "images/s" not in line and line.strip()]
        assert len(lines) == 1, self.err
        assert lines[0].startswith("error: "), self.err
        return lines[0]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """`command(main, *arguments)` runs a command in this process."""

    def run(main: Callable[..., None], *arguments: object) -> Result:
        capsys.readouterr()
        code = run_command(main, [str(argument) for argument in arguments])
        return Result(code, *capsys.readouterr())

    return run


@pytest.fixture
def convert(command: Callable[..., Result]) -> Callable[..., Result]:
    """`convert(input, output, *flags)` runs the conversion in this process."""
    from beam_jobs.convert import main

    def run(source: object, output: object, *flags: object) -> Result:
        return command(main, "--input", source, "--output", output, *flags)

    return run


def write_images(folder: Path, names: Mapping[str, int] | list[str], side: int = 48) -> Path:
    """Writes a noisy gray image for each name, in the format of its suffix; equal seeds give equal pixels."""
    seeds = names if isinstance(names, Mapping) else {name: index for index, name in enumerate(names)}
    for name, seed in seeds.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (side, side), dtype=np.uint8)
        Image.fromarray(pixels).save(path, quality=90)
    return folder


def labelled(count: int, *splits: str, suffix: str = ".png") -> list[str]:
    """`[split/]LABEL/n.png` names: `count` for each split and class."""
    folders = [f"{split}/" for split in splits] or [""]
    return [
        f"{split}{label}/{n}{suffix}" for split in folders for label in ("NORMAL", "PNEUMONIA") for n in range(count)
    ]


def manifest_of(folder: Path) -> dict[str, Any]:
    """The manifest.json in `folder`, as plain JSON."""
    content: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return content


def files_of(folder: Path) -> dict[str, bytes]:
    """Relative name -> content of every file below `folder`."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def children_of(process: int) -> list[int]:
    """The decoding processes that this process has started."""
    listed = (tasks.read_text().split() for tasks in Path(f"/proc/{process}/task").glob("*/children"))
    running = [int(child) for children in listed for child in children]
    return [child for child in running if b"schemas.decoders.child" in Path(f"/proc/{child}/cmdline").read_bytes()]


def convert_command(raw: Path | str, output: Path | str, *flags: object) -> list[str]:
    """The command line of a conversion in a process of its own."""
    words = (sys.executable, "-m", "beam_jobs.convert", "--input", raw, "--output", output, *flags)
    return [str(word) for word in words]
