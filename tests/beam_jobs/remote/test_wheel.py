"""The wheel that workers are sent."""

import importlib.metadata
import os
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable
from email import message_from_bytes
from pathlib import Path

import pytest

from beam_jobs.remote.versions import code_hash
from beam_jobs.remote.wheel import write_wheel
from tests.conftest import Result, convert_command, labelled, write_images
from tests.test_package import MODULES, TYPED

VERSION = importlib.metadata.version("radrecords")
INFO = f"radrecords-{VERSION}.dist-info"
REBUILD = """
import sys
from beam_jobs.remote import versions, wheel
print(versions.code_hash(), wheel.write_wheel(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the wheel holds."""
    folder = tmp_path_factory.mktemp("wheel")
    with zipfile.ZipFile(write_wheel(str(folder))) as wheel:
        wheel.extractall(folder / "site")
    return folder / "site"


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all packages of this environment except this one."""
    folder = tmp_path_factory.mktemp("others")
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if "radrecords" not in entry.name:
            (folder / entry.name).symlink_to(entry)
    return folder


@pytest.fixture
def loose(installed: Path, tmp_path: Path) -> Path:
    """A folder with the modules alone, without what an installer records."""
    folder = tmp_path / "loose"
    folder.mkdir()
    for name in ("beam_jobs", "schemas"):
        (folder / name).symlink_to(installed / name)
    return folder


def run_from(site: Path, others: Path, arguments: list[str], cwd: Path) -> "subprocess.CompletedProcess[str]":
    """Runs Python with the packages in these two folders."""
    environment = os.environ | {"PYTHONPATH": f"{site}{os.pathsep}{others}"}
    # -S: leaves out the .pth file through which the environment finds an editable install of this package.
    command = [sys.executable, "-S", "-W", "ignore", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment)


def test_the_wheel_holds_every_module_and_says_what_it_needs(tmp_path: Path) -> None:
    with zipfile.ZipFile(write_wheel(str(tmp_path))) as wheel:
        assert {name for name in wheel.namelist() if not name.startswith(INFO)} == MODULES | TYPED
        told, metadata = message_from_bytes(wheel.read(f"{INFO}/METADATA")), importlib.metadata.metadata("radrecords")
        assert told.get_all("Requires-Dist") == metadata.get_all("Requires-Dist")
        assert not [name for name in wheel.namelist() if "direct_url" in name]


def test_the_wheel_is_made_again_from_where_it_is_installed(installed: Path, others: Path, tmp_path: Path) -> None:
    (tmp_path / "setup.py").write_text("raise SystemExit('this is another project')")
    (tmp_path / "radrecords.egg-info").mkdir()  # which a build of an old clone left here
    (tmp_path / "radrecords.egg-info/PKG-INFO").write_text("Metadata-Version: 2.1\nName: radrecords\nVersion: 0.0.1\n")
    done = run_from(installed, others, ["-c", REBUILD, str(tmp_path)], tmp_path)
    assert done.returncode == 0, done.stderr
    code, again = done.stdout.split()
    assert code == code_hash()
    assert Path(again).read_bytes() == (installed.parent / Path(again).name).read_bytes()


def test_without_an_installed_package_there_is_nothing_to_send(loose: Path, others: Path, tmp_path: Path) -> None:
    done = run_from(loose, others, ["-c", REBUILD, str(tmp_path)], tmp_path)
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]
    assert "there is no package to send to the workers; pip install it, or give an image that holds it" in line
    assert not list(tmp_path.glob("*.whl"))


@pytest.mark.workers
def test_without_a_package_to_send_a_job_is_refused_and_leaves_nothing(
    loose: Path, others: Path, tmp_path: Path
) -> None:
    write_images(tmp_path / "raw", labelled(2, "train", "val", "test"))
    flags = ["--runner=PortableRunner", "--job_endpoint=localhost:1", "--environment_type=DOCKER"]
    done = run_from(loose, others, convert_command(tmp_path / "raw", tmp_path / "out", *flags)[1:], tmp_path)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: radrecords runs from ")
    assert not (tmp_path / "out").exists()


def test_local_folders_are_refused_at_once_on_dataflow(convert: Callable[..., Result], tmp_path: Path) -> None:
    write_images(tmp_path / "raw", labelled(2, "train", "val", "test"))
    dataflow = ("--runner=DataflowRunner", "--project=some-project", "--region=us-central1")
    done = convert(tmp_path / "raw", "gs://some-bucket/out", *dataflow)
    assert (done.code, "is local, and Dataflow workers cannot reach it" in done.error) == (2, True)
    done = convert("gs://some-bucket/raw", tmp_path / "out", *dataflow)
    assert (done.code, "is local, and Dataflow workers cannot reach it" in done.error) == (2, True)
    assert not (tmp_path / "out").exists()
