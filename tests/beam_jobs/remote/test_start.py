"""What workers on other machines check before they work."""

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

from beam_jobs.remote import start
from beam_jobs.remote.versions import Versions, installed
from schemas.errors import JobFailed
from tests.conftest import ROOT, write_images
from tests.gcs.bucket import Bucket

CHECK = """
import sys
from beam_jobs.remote.versions import differences
print(*differences(eval(sys.argv[1])), sep="; ")
"""


def in_another_environment(launcher: Versions, distributions: dict[str, str], folder: Path) -> str:
    """How a worker with these distributions instead of ours differs from the launcher."""
    for name, version in distributions.items():
        info = folder / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(folder), str(ROOT)))}
    command = [sys.executable, "-W", "ignore", "-c", CHECK, repr(launcher)]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=folder).stdout


def test_the_launchers_versions_are_those_that_are_installed() -> None:
    versions = dict(installed())
    assert versions.pop("radrecords").startswith(f"{importlib.metadata.version('radrecords')} (code ")
    assert {"numpy", "pillow", "pydicom", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg", "simplejpeg"} <= set(versions)
    assert versions == {name: importlib.metadata.version(name) for name in versions}
    start.check(installed(), "")


def test_another_version_is_named_with_both_versions(tmp_path: Path) -> None:
    said = in_another_environment(installed(), {"pillow": "99.0"}, tmp_path)
    assert said == f"pillow 99.0 instead of {importlib.metadata.version('pillow')}\n"


def test_a_decoder_that_only_one_of_them_has_is_named(tmp_path: Path) -> None:
    launcher = tuple(pair for pair in installed() if pair[0] != "pylibjpeg-openjpeg") + (("python-gdcm", "3.0.24"),)
    version = importlib.metadata.version("pylibjpeg-openjpeg")
    said = in_another_environment(launcher, {}, tmp_path)
    assert said == f"pylibjpeg-openjpeg {version} instead of none; python-gdcm is missing instead of 3.0.24\n"


def test_other_code_of_the_same_version_is_noticed() -> None:
    launcher = tuple((name, "0.1.0 (code 00000000)" if name == "radrecords" else own) for name, own in installed())
    with pytest.raises(JobFailed, match=r"radrecords 0\.1\.0 \(code \w{8}\) instead of 0\.1\.0 \(code 00000000\)"):
        start.check(launcher, "")


def test_a_worker_looks_for_the_launchers_claim_and_files(tmp_path: Path) -> None:
    raw, work = write_images(tmp_path / "raw", ["a.png"]), tmp_path / "out/_work/r1"
    start.claim(f"{work}/status-1", [str(raw), "", "gs://some/table.csv", str(tmp_path / "absent")])
    start.check(installed(), f"{work}/status-1")
    with pytest.raises(JobFailed, match=f"does not see {work}, which the launcher sees"):
        start.check(installed(), f"{work}/status-2")
    start.claim(f"{work}/status-3", [str(raw)])
    raw.rename(tmp_path / "elsewhere")
    with pytest.raises(JobFailed, match=f"does not see {raw}, which the launcher sees"):
        start.check(installed(), f"{work}/status-3")


def test_folders_on_a_disk_are_looked_for_if_the_output_is_in_a_bucket(bucket: Bucket, tmp_path: Path) -> None:
    raw, work = write_images(tmp_path / "raw", ["a.png"]), f"{bucket.uri}/out/_work/r1"
    start.claim(f"{work}/status-1", [f"{bucket.uri}/raw"])
    assert not bucket.names()
    start.check(installed(), f"{work}/status-1")
    start.claim(f"{work}/status-2", [str(raw)])
    start.check(installed(), f"{work}/status-2")
    start.claim(f"{work}/status-3", [str(raw)])
    raw.rename(tmp_path / "elsewhere")
    with pytest.raises(JobFailed, match=f"does not see {raw}, which the launcher sees"):
        start.check(installed(), f"{work}/status-3")
