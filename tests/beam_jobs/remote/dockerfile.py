"""Reads the Dockerfile, and runs its steps without Docker."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from tests.conftest import ROOT


class Step(NamedTuple):
    """One instruction of the Dockerfile, and the stage that it belongs to ("": before the first)."""

    stage: str
    instruction: str
    rest: str


def steps() -> list[Step]:
    """The instructions of the Dockerfile, in order."""
    lines = (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    found, stage = [], ""
    for line in (line for line in lines if line.strip() and not line.startswith("#")):
        instruction, _, rest = line.partition(" ")
        stage = rest.split()[-1] if instruction == "FROM" else stage
        found.append(Step(stage, instruction, rest.strip()))
    return found


def copied() -> list[str]:
    """What the Dockerfile copies from this project."""
    words = [shlex.split(step.rest) for step in steps() if step.instruction == "COPY"]
    return [name for names in words if not names[0].startswith("--from") for name in names[:-1]]


def run_steps(environment: Path, folder: Path) -> str:
    """Runs the steps of all stages in `folder`, in place of the image's working folder, with the Python of a virtual
    environment in place of the image's. Returns what the steps print."""
    variables = {**os.environ, "PATH": f"{environment}/bin{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": ""}
    printed = ""
    for _, instruction, rest in steps():
        if instruction == "COPY" and not rest.startswith("--from"):
            *sources, target = shlex.split(rest)
            for source in sources:
                into = folder / (source if target == "./" else target)
                if (ROOT / source).is_dir():
                    shutil.copytree(ROOT / source, into, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(ROOT / source, into)
        elif instruction == "RUN":
            done = subprocess.run(rest, shell=True, cwd=folder, env=variables, capture_output=True, text=True)
            assert done.returncode == 0, (rest, done.stdout, done.stderr)
            printed += done.stdout
    return printed
