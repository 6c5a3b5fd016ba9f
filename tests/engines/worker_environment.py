"""The environment of a worker machine: a venv with our own sdist and what it needs, without TensorFlow and this checkout."""

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT
from tests.engines.downloads import run
from tests.test_package import PACKAGES, build

VENV = ROOT / ".venv-flink"
LOCK = ROOT / "requirements-cpu.lock"
EXTRAS = "dicom,gcp"
NOT_A_PIN = re.compile(r"^\s|^#|^-")


def worker_environment(temporary: Path) -> Path:
    """The folder of the venv, with the present code. Its dependencies are installed once for each lock file."""
    wheel = build("wheel", _unpacked_sdist(temporary), temporary)
    pinned = VENV / f"pinned-{hashlib.sha256(EXTRAS.encode() + LOCK.read_bytes()).hexdigest()[:12]}"
    if not pinned.exists():
        shutil.rmtree(VENV, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
        constraints = temporary / "constraints.txt"
        constraints.write_text(_pins())
        _pip("install", "-c", constraints, f"{wheel}[{EXTRAS}]")
        pinned.touch()
    _pip("install", "--no-deps", "--no-index", "--force-reinstall", wheel)
    return VENV


def _unpacked_sdist(temporary: Path) -> Path:
    project = temporary / "project"
    project.mkdir()
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, project)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, project / package, ignore=shutil.ignore_patterns("__pycache__"))
    archive = build("sdist", project, temporary)
    shutil.unpack_archive(archive, temporary / "unpacked", filter="data")
    (unpacked,) = (temporary / "unpacked").iterdir()
    return unpacked


def _pins() -> str:
    """The lock file without hashes, because what it pins includes more than a worker needs."""
    lines = (line.split(" \\")[0] for line in LOCK.read_text().splitlines() if line and not NOT_A_PIN.match(line))
    return "".join(f"{line}\n" for line in lines)


def _pip(*words: object) -> None:
    run(VENV / "bin/python", "-m", "pip", "-q", "--disable-pip-version-check", *words)
