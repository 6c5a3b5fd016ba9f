"""Jobs whose workers have an environment of their own: that of the image, and others that must be refused."""

import importlib.metadata
import json
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.uid import JPEG2000Lossless, JPEGExtended12Bit, JPEGLosslessSV1, JPEGLSLossless

from beam_jobs.remote.versions import installed
from tests.beam_jobs.remote.dockerfile import run_steps
from tests.beam_jobs.remote.pool import worker_pool
from tests.beam_jobs.remote.test_shipping import DOCKER, staged
from tests.conftest import ROOT, Result, files_of, labelled, write_images
from tests.schemas.dicom_files import encapsulated
from tests.schemas.pictures import saved, scene

pytestmark = pytest.mark.workers

Convert = Callable[..., Result]
THIS = Path(sys.executable)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that the Dockerfile's steps have made."""
    folder = tmp_path_factory.mktemp("image")
    venv.create(folder / "venv", with_pip=True)
    (folder / "opt").mkdir()
    printed = run_steps(folder / "venv", folder / "opt")
    assert {f"{name} {version}" for name, version in installed()} <= set(printed.splitlines())
    assert {path.name for path in (folder / "opt").iterdir() if path.is_dir()} == set()
    # What a Flex Template starts.
    template = [str(folder / "venv/bin/python"), str(folder / "opt/convert.py"), "--help"]
    assert "python -m beam_jobs.convert" in subprocess.run(template, capture_output=True, text=True, cwd="/").stdout
    return folder / "venv/bin/python"


@pytest.fixture(scope="module")
def equipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with Beam and an old Pillow, in which what a job sends has been installed as Beam's boot
    program does it (sdks/python/container/piputil.go), without a package index."""
    folder = tmp_path_factory.mktemp("equipped")
    sent = folder / "sent"
    sent.mkdir()
    for name, content in staged(DOCKER, tmp_path_factory.mktemp("staged"), ()).items():
        (sent / name).write_bytes(content)
    venv.create(folder / "venv", with_pip=True)
    beam = f"apache-beam=={importlib.metadata.version('apache-beam')}"
    requirements = ["-r", str(sent / "requirements.txt"), "--no-index", "--find-links", str(sent)]
    (package,) = (str(sent / name) for name in (sent / "extra_packages.txt").read_text().split())
    for arguments in (
        [beam, "pillow==12.1.1"],
        [*requirements, "--no-deps"],
        requirements,
        ["--upgrade", "--force-reinstall", "--no-deps", package],
        ["--no-index", package],
    ):
        pip = [str(folder / "venv/bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        done = subprocess.run([*pip, *arguments], capture_output=True, text=True, cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder / "venv/bin/python"


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """PNGs, and DICOM files in transfer syntaxes that need pydicom's plugins."""
    folder = write_images(tmp_path / "raw", labelled(3, "train", "val", "test"))
    frame = saved(Image.fromarray(scene()), "JPEG")
    for number, syntax in enumerate((JPEGLosslessSV1, JPEGLSLossless, JPEGExtended12Bit)):
        (folder / f"train/NORMAL/{number}.dcm").write_bytes(
            encapsulated(frame, syntax, WindowCenter=90 + number, WindowWidth=99)
        )
    plane = saved(Image.fromarray(np.flipud(scene())), "JPEG2000", no_jp2=True)
    (folder / "test/NORMAL/j2k.dcm").write_bytes(encapsulated(plane, JPEG2000Lossless))
    return folder


def test_workers_from_the_image_write_the_launchers_bytes(
    image: Path, raw: Path, convert: Convert, tmp_path: Path
) -> None:
    assert convert(raw, tmp_path / "here/1.0.0").code == 0
    manifest = json.loads((tmp_path / "here/1.0.0/manifest.json").read_text())
    assert manifest["inputs"]["quarantined"] == 0
    with worker_pool(image) as flags:
        done = convert(raw, tmp_path / "there/1.0.0", *flags)
    assert done.code == 0, done.err
    assert files_of(tmp_path / "here") == files_of(tmp_path / "there")


def test_workers_that_install_what_the_job_sends_write_the_launchers_bytes(
    equipped: Path, raw: Path, convert: Convert, tmp_path: Path
) -> None:
    assert convert(raw, tmp_path / "here/1.0.0").code == 0
    with worker_pool(equipped) as flags:
        done = convert(raw, tmp_path / "there/1.0.0", *flags)
    assert done.code == 0, done.err
    assert files_of(tmp_path / "here") == files_of(tmp_path / "there")


def test_a_worker_without_the_launchers_decoders_fails_the_job(raw: Path, convert: Convert, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not any(name in entry.name for name in ("libjpeg", "openjpeg", "__editable__")):
            (bare / entry.name).symlink_to(entry)
    alone = tmp_path / "python"
    venv.create(alone, symlinks=True)
    with worker_pool(alone / "bin/python", PYTHONPATH=f"{ROOT}:{bare}") as flags:
        done = convert(raw, tmp_path / "out", *flags)
    assert done.code == 1
    line = done.err.splitlines()[-1]
    assert "differs from the launcher: pylibjpeg is missing instead of " in line
    assert ", pylibjpeg-libjpeg is missing instead of " in line
    assert not (tmp_path / "out").exists()


def test_a_worker_that_does_not_share_the_disk_fails_the_job(raw: Path, convert: Convert, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    before = ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs none "{own}" && exec "$@"', "sh"]
    if not shutil.which("unshare") or subprocess.run([*before, "true"], capture_output=True).returncode:
        pytest.skip("this user cannot mount a disk for a single process")
    with worker_pool(THIS, before, PYTHONPATH=str(ROOT)) as flags:
        done = convert(raw, own / "out", *flags)
    assert done.code == 1
    line = done.err.splitlines()[-1]
    assert line.startswith("error: the worker on ")
    assert (
        f"does not see {own}/out/_work/r1, which the launcher sees; use gs:// URIs, or a disk that every machine"
        in line
    )
    assert not (own / "out").exists()
