"""What is staged for workers on other machines, with Beam's own stager."""

import importlib.metadata
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions
from apache_beam.runners.portability.stager import Stager

from beam_jobs.remote.pins import pinned
from beam_jobs.remote.shipping import shipped
from beam_jobs.remote.versions import decoders
from tests.conftest import ROOT

DOCKER = ["--runner=PortableRunner", "--job_endpoint=localhost:1"]
WHEEL = f"radrecords-{importlib.metadata.version('radrecords')}-py3-none-any.whl"
SKIP = "--requirements_cache=skip"
OURS = {"requirements.txt", "extra_packages.txt", WHEEL}


def staged(flags: list[str], folder: Path, extras: Sequence[str] = ("gcp",)) -> dict[str, bytes]:
    """What Beam would stage, by name."""
    options = PipelineOptions(flags)
    with shipped(options, extras):
        resources = Stager.create_job_resources(options, str(folder))
        tuples = list(Stager.extract_staging_tuple_iter(resources))
        return {name: Path(path).read_bytes() for path, name, _ in tuples}


def test_the_workers_get_this_package_and_the_versions_of_the_lock_file(tmp_path: Path) -> None:
    files = staged([*DOCKER, SKIP], tmp_path)
    assert set(files) == OURS
    lines = files["requirements.txt"].decode().splitlines()
    names = {
        *("apache-beam[gcp]", "google-cloud-storage", "google-crc32c", "numpy", "pillow", "pyarrow", "pydicom"),
        *("pylibjpeg", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg", "simplejpeg", "tqdm"),
    }
    assert {line.partition("==")[0] for line in lines} == names
    locked = set()
    for lock in ROOT.glob("requirements-*pu.lock"):
        locked |= set(re.findall(r"^([\w.-]+)(?:\[.*?\])?==([^\s;]+)", lock.read_text(), flags=re.MULTILINE))
    assert {tuple(line.replace("[gcp]", "").split("==")) for line in lines} <= locked


def test_a_job_without_buckets_needs_no_client_of_google() -> None:
    names = [line.partition("==")[0] for line in pinned([], decoders())]
    assert "apache-beam" in names
    assert "google-cloud-storage" not in names


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        (["--runner=FlinkRunner", "--flink_master=localhost:1"], OURS),
        (["--runner=SparkRunner", "--spark_master_url=spark://localhost:1"], OURS),
        (["--runner=DataflowRunner"], OURS),
        ([*DOCKER, "--environment_type=DOCKER"], OURS),
        ([*DOCKER, "--extra_package={}/other-1.0.tar.gz"], OURS | {"other-1.0.tar.gz"}),
        # Given by the user.
        ([*DOCKER, "--extra_package={}/radrecords-7.0.tar.gz"], OURS - {WHEEL}),
        ([*DOCKER, "--sdk_container_image=some/image:1"], set()),
        (["--runner=DataflowRunner", "--sdk_container_image=some/image:1"], set()),
        ([*DOCKER, "--environment_type=DOCKER", "--environment_config=some/image:1"], set()),
        # Workers that install nothing.
        ([*DOCKER, "--environment_type=LOOPBACK"], set()),
        ([*DOCKER, "--environment_type=PROCESS"], set()),
        ([*DOCKER, "--environment_type=EXTERNAL"], set()),
        (["--runner=FlinkRunner"], set()),
        (["--runner=SparkRunner"], set()),
        (["--runner=PrismRunner"], set()),
    ],
)
def test_what_is_staged_depends_on_where_workers_come_from(flags: list[str], names: set[str], tmp_path: Path) -> None:
    for name in ("other-1.0.tar.gz", "radrecords-7.0.tar.gz"):
        (tmp_path / name).touch()
    files = staged([*(flag.format(tmp_path) for flag in flags), SKIP], tmp_path)
    assert set(files) - {"radrecords-7.0.tar.gz"} == names


def test_the_users_own_requirements_are_respected(tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("pillow==12.1.1\n")
    files = staged([*DOCKER, SKIP, f"--requirements_file={mine}"], tmp_path)
    assert files["requirements.txt"] == b"pillow==12.1.1\n"
    assert WHEEL in files


@pytest.mark.workers
def test_the_packages_travel_with_the_job_unless_the_user_says_otherwise(tmp_path: Path) -> None:
    files = staged(DOCKER, tmp_path)
    pins = [line.split("==") for line in files["requirements.txt"].decode().splitlines()[1:]]
    wheels = {tuple(name.split("-")[:2]) for name in set(files) - OURS}
    assert wheels == {(name.replace("-", "_"), version) for name, version in pins}


@pytest.mark.workers
def test_the_users_own_setup_file_is_respected(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "setup.py").write_text(
        "from setuptools import setup\nsetup(name='theirs', version='1.0', py_modules=[])\n"
    )
    files = staged([*DOCKER, SKIP, f"--setup_file={project}/setup.py"], tmp_path)
    assert set(files) == {"requirements.txt", "workflow.tar.gz"}


def test_an_image_is_used_by_every_runner_with_containers() -> None:
    options = PipelineOptions([*DOCKER, "--sdk_container_image=some/image:1"])
    with shipped(options):
        portable = options.view_as(PortableOptions)
    assert (portable.environment_type, portable.environment_config) == ("DOCKER", "some/image:1")
