"""What a Dataflow job stages is enough: Beam's worker runs its graph in an environment that holds Beam, like its image, and
what the job staged, and nothing else of ours."""

import json
import subprocess
import venv
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2, endpoints_pb2
from apache_beam.runners.portability.flink_runner import FlinkRunner

from beam_jobs.sample import SampleConfig, write_sample
from tests.beam_jobs.remote.pool import worker_pool
from tests.conftest import Result, files_of
from tests.engines import downloads
from tests.gcs.bucket import Bucket

pytestmark = pytest.mark.flink

Convert = Callable[..., Result]
# Beam makes the requirements of its images from these extras, `test` and some packages for profiling, which take minutes to
# install and are left out here (sdks/python/container/generate_pip_requirements_list.sh). No package of Beam has the list.
EXTRAS = "gcp,dataframe"


def image_of_beam(folder: Path) -> Path:
    """The Python of an environment with Beam as its images for Dataflow have it, and nothing of ours."""
    venv.create(folder, with_pip=True)
    python = folder / "bin/python"
    downloads.run(python, "-m", "pip", "install", "-q", f"apache-beam[{EXTRAS}]=={version('apache-beam')}")
    return python


def install_as_boot_does(python: Path, staged: Path) -> None:
    """Installs what was staged in the order of the program that starts Beam's containers (sdks/python/container/boot.go):
    the requirements, then the extra packages without what they need."""
    pip = (python, "-m", "pip", "install", "-q", "--disable-pip-version-check")
    downloads.run(*pip, "-r", staged / "requirements.txt", "--find-links", staged)
    for name in (staged / "extra_packages.txt").read_text().split():
        downloads.run(*pip, "--no-index", "--no-deps", staged / name)


def test_what_a_dataflow_job_stages_runs_alone_and_gives_the_same_bytes(
    tmp_path: Path, bucket: Bucket, convert: Convert, monkeypatch: pytest.MonkeyPatch
) -> None:
    jar = downloads.job_server()
    monkeypatch.chdir(tmp_path)
    write_sample(SampleConfig(str(tmp_path / "raw"), 60, 0))
    bucket.upload_folder(tmp_path / "raw", "raw")
    flags = ("--preset", "kermany", "--shards", "2")
    cloud = ("--runner=DataflowRunner", "--project=some-project", "--region=us-central1", "--requirements_cache=skip")
    places = (f"{bucket.uri}/raw", f"{bucket.uri}/out/1.0.0")
    done = convert(*places, *flags, *cloud, f"--template_location={bucket.uri}/template")
    assert done.code == 0, done.err

    options = json.loads(bucket.read("template"))["environment"]["sdkPipelineOptions"]["options"]
    folder = options["staging_location"].removeprefix(f"{bucket.uri}/")
    staged = tmp_path / "staged"
    staged.mkdir()
    for name in bucket.names():
        if name.startswith(f"{folder}/"):
            (staged / name.rpartition("/")[2]).write_bytes(bucket.read(name))
    python = image_of_beam(tmp_path / "venv")
    install_as_boot_does(python, staged)
    alone = subprocess.run([python, "-c", "import beam_jobs; print(beam_jobs.__file__)"], capture_output=True, cwd="/")
    assert alone.stdout.decode().startswith(f"{tmp_path}/venv/")

    graph = beam_runner_api_pb2.Pipeline.FromString((staged / "pipeline.pb").read_bytes())
    with worker_pool(python) as pool:
        (address,) = (flag.partition("=")[2] for flag in pool if flag.startswith("--environment_config"))
        for environment in graph.components.environments.values():
            del environment.dependencies[:]  # they are installed
            environment.urn = common_urns.environments.EXTERNAL.urn
            endpoint = endpoints_pb2.ApiServiceDescriptor(url=address)
            environment.payload = beam_runner_api_pb2.ExternalPayload(endpoint=endpoint).SerializeToString()
        here = PipelineOptions(["--flink_master=[local]", f"--flink_job_server_jar={jar}", "--parallelism=2"])
        assert FlinkRunner().run_portable_pipeline(graph, here).wait_until_finish() == "DONE"

    assert convert(tmp_path / "raw", tmp_path / "out/1.0.0", *flags).code == 0
    published = {
        name.removeprefix("out/1.0.0/"): bucket.read(name)
        for name in bucket.names()
        if name.startswith("out/1.0.0/") and "/_work/" not in name
    }
    ours = files_of(tmp_path / "out/1.0.0")
    assert published.keys() == ours.keys()
    shards = [name for name in ours if ".tfrecord-" in name]
    assert len(shards) == 6
    assert [name for name in shards if published[name] != ours[name]] == []
