"""What is sent to a remote worker: the sdist, and the wheel that is built from it, hold every module."""

import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGES = ("schemas", "beam_jobs", "training")
MODULES = {path.relative_to(ROOT).as_posix() for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
TYPED = {"schemas/py.typed", "beam_jobs/py.typed"}

IMPORT_ALL = f"""
import importlib, pkgutil, sys
sys.path.append({sysconfig.get_path("purelib")!r})
import beam_jobs, schemas
for package in (beam_jobs, schemas):
    print(package.__file__)
    for module in pkgutil.walk_packages(package.__path__, f"{{package.__name__}}."):
        print(importlib.import_module(module.name).__file__)
"""


def build(kind: str, source: Path, target: Path) -> Path:
    """The file that setuptools builds from the project in `source`, as pip would."""
    code = f"from setuptools import build_meta; build_meta.build_{kind}({str(target)!r})"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, capture_output=True, cwd=source)
    (made,) = target.glob("*.tar.gz" if kind == "sdist" else "*.whl")
    return made


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist, unpacked."""
    folder = tmp_path_factory.mktemp("sdist")
    project = folder / "project"
    project.mkdir()
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, project)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, project / package, ignore=shutil.ignore_patterns("__pycache__"))
    with tarfile.open(build("sdist", project, folder)) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    return unpacked


def test_the_sdist_holds_every_module(sdist: Path) -> None:
    missing = {name for name in MODULES | TYPED if not (sdist / name).is_file()}
    assert not missing


def test_the_wheel_built_from_the_sdist_holds_every_module_and_they_load(sdist: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(build("wheel", sdist, tmp_path)) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
        archive.extractall(tmp_path / "wheel")
    assert packed == MODULES | TYPED
    # -S: ignores the .pth file through which the environment finds an editable install of this package.
    command = [sys.executable, "-S", "-W", "ignore", "-c", IMPORT_ALL]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path / "wheel")
    assert done.returncode == 0, done.stderr
    wanted = {f"{tmp_path}/wheel/{name}" for name in MODULES if not name.startswith("training/")}
    assert set(done.stdout.splitlines()) == wanted
