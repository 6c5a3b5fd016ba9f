"""Dataflow templates: what a job is made of, and that Beam's local engine runs the template that was staged in the
bucket, as Dataflow would later."""

import base64
import importlib.metadata
import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability import python_urns
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

from beam_jobs import verify
from beam_jobs.discover.listing import check_input
from beam_jobs.flags import config_of, parser
from beam_jobs.pipeline import define_pipeline
from beam_jobs.publish.releases import unclaimed
from beam_jobs.settings.pickles import without_paths
from schemas.shard_name import is_shard
from tests.beam_jobs.settings.test_id_key import unpacked
from tests.conftest import ROOT, Result, labelled, write_images
from tests.gcs.bucket import Bucket

Convert = Callable[..., Result]
VERSION = importlib.metadata.version("radrecords")


@pytest.fixture
def raw(tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of images that are also in the bucket."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "setup.py").write_text("raise SystemExit('this is another project')")
    folder = write_images(tmp_path / "raw", labelled(5, "train", "val", "test", suffix=".jpeg"))
    bucket.upload_folder(folder, "raw")
    return folder


def dataflow(bucket: Bucket) -> list[str]:
    places = [f"--{name}_location={bucket.uri}/{name}" for name in ("temp", "staging", "template")]
    # Without the packages, which pip would download: tests/beam_jobs/remote has them.
    places.append("--requirements_cache=skip")
    return ["--runner=DataflowRunner", "--project=some-project", "--region=us-central1", *places]


def run_template(bucket: Bucket) -> None:
    """Runs the staged pipeline, with workers in this process instead of in containers."""
    (name,) = (name for name in bucket.names() if name.endswith("/pipeline.pb"))
    pipeline = beam_runner_api_pb2.Pipeline.FromString(bucket.read(name))
    for environment in pipeline.components.environments.values():
        environment.urn, environment.payload = python_urns.EMBEDDED_PYTHON, b""
    FnApiRunner().run_via_runner_api(pipeline, PipelineOptions([])).wait_until_finish()


def files_in(bucket: Bucket, folder: str) -> dict[str, bytes]:
    return {name: bucket.read(name) for name in bucket.names() if name.startswith(f"{folder}/")}


def test_a_template_is_staged_and_its_job_publishes_once(
    raw: Path, bucket: Bucket, convert: Convert, command: Convert
) -> None:
    places, flags = (f"{bucket.uri}/raw", f"{bucket.uri}/out"), ("--shards", 2)
    staged = convert(*places, *flags, *dataflow(bucket))
    assert staged.code == 0, staged.err
    assert len(staged.out.splitlines()) == 1
    assert f"staged a template at {bucket.uri}/template" in staged.out
    assert f"gcloud dataflow jobs run NAME --gcs-location={bucket.uri}/template --region=us-central1" in staged.out
    assert "template" in bucket.names()
    assert not files_in(bucket, "out")
    packages = {name.rpartition("/")[2] for name in files_in(bucket, "staging")}
    assert packages == {
        "requirements.txt",
        "extra_packages.txt",
        f"radrecords-{VERSION}-py3-none-any.whl",
        "pipeline.pb",
    }
    graph = b"".join(bucket.read(name) for name in bucket.names() if name.endswith(("template", "pipeline.pb")))
    assert not [path for path in (str(raw.parent), tempfile.gettempdir(), sys.prefix) if path.encode() in graph]

    # The job lists the images when it runs.
    bucket.upload_folder(write_images(raw.parent / "new", {"train/NORMAL/new.jpeg": 99}), "raw")
    run_template(bucket)
    assert command(verify.main, f"{bucket.uri}/out").code == 0
    published = {name: content for name, content in files_in(bucket, "out").items() if "/_work/" not in name}
    left = [name.rpartition("/")[2] for name in files_in(bucket, "out") if "/_work/" in name]
    assert "release.json" in left
    # No launcher deletes the folder, so no copies of the shards may stay there.
    assert not [name for name in left if is_shard(name) and not name.endswith(".json")]
    run_template(bucket)
    assert published.items() <= files_in(bucket, "out").items()

    again = convert(*places, *flags)
    assert again.code == 0, again.err
    assert "31 listed = 31 written" in again.out
    assert files_in(bucket, "out") == published


def test_a_template_that_is_run_too_late_changes_nothing(raw: Path, bucket: Bucket, convert: Convert) -> None:
    places = (f"{bucket.uri}/raw", f"{bucket.uri}/out")
    assert convert(*places, *dataflow(bucket)).code == 0
    assert convert(*places).code == 0
    published = files_in(bucket, "out")
    for name in bucket.names():
        if name.startswith("raw/test/"):
            bucket.client.bucket(bucket.name).delete_blob(name)
    with pytest.raises(Exception, match="was published by another run in the meantime; this run changed nothing"):
        run_template(bucket)
    assert published.items() <= files_in(bucket, "out").items()
    assert "already holds a published data set" in convert(*places).error  # and deletes what the job left
    assert files_in(bucket, "out") == published


def test_a_template_is_refused_if_the_conversion_would_be(raw: Path, bucket: Bucket, convert: Convert) -> None:
    places = (f"{bucket.uri}/raw", f"{bucket.uri}/out")
    bucket.write({"out/_work/r1/settings.json": b"of others"})
    assert "unfinished conversion with other settings" in convert(*places, *dataflow(bucket)).error
    bucket.client.bucket(bucket.name).delete_blob("out/_work/r1/settings.json")
    assert convert(*places).code == 0
    assert "already holds a published data set" in convert(*places, *dataflow(bucket)).error
    assert "template" not in bucket.names()


def staged_job(bucket: Bucket) -> tuple[dict[str, Any], beam_runner_api_pb2.Pipeline]:
    """The job of the staged template, and its graph, found where the job says."""
    job = json.loads(bucket.read("template"))
    place = job["environment"]["sdkPipelineOptions"]["options"]["pipelineUrl"]
    return job, beam_runner_api_pb2.Pipeline.FromString(bucket.read(place.removeprefix(f"{bucket.uri}/")))


def test_the_job_gets_our_defaults_and_everything_it_needs_is_staged(
    raw: Path, bucket: Bucket, convert: Convert
) -> None:
    flags = ("--runner=DataflowRunner", "--project=some-project", "--region=us-central1", "--name", "chest_films")
    template = f"--template_location={bucket.uri}/template"
    done = convert(f"{bucket.uri}/raw", f"{bucket.uri}/out/2.1.0", *flags, template, "--no_use_public_ips")
    assert done.code == 0, done.err
    job, graph = staged_job(bucket)
    environment = job["environment"]
    (pool,) = environment["workerPools"]
    assert pool["machineType"] == "n2-standard-4"
    assert pool["autoscalingSettings"] == {"algorithm": "AUTOSCALING_ALGORITHM_BASIC", "maxNumWorkers": 50}
    assert pool["numThreadsPerWorker"] == 2
    assert pool["ipConfiguration"] == "WORKER_IP_PRIVATE"
    assert job["labels"] == {"app": "radrecords", "dataset": "chest-films", "version": "2-1-0"}
    assert job["name"].startswith("radrecords-chest-films-2-1-0-")
    assert environment["tempStoragePrefix"].startswith(f"storage.googleapis.com/{bucket.name}/radrecords-temp/")
    packages = {package["location"] for package in pool.get("packages", [])}
    payloads = [
        beam_runner_api_pb2.ArtifactUrlPayload.FromString(artifact.type_payload).url
        for one in graph.components.environments.values()
        for artifact in one.dependencies
    ]
    staged = {name.removeprefix(f"storage.googleapis.com/{bucket.name}/") for name in packages}
    staged |= {url.removeprefix(f"{bucket.uri}/") for url in payloads}
    assert staged <= set(bucket.names())
    assert all(name.startswith("radrecords-temp/staging/") for name in staged)


def test_options_of_the_user_win(raw: Path, bucket: Bucket, convert: Convert) -> None:
    given = ("--machine_type=c3-standard-8", "--autoscaling_algorithm=NONE", "--num_workers=3", "--job_name=mine")
    more = ("--labels=app=xrays", "--labels=team=r", "--number_of_worker_harness_threads=5")
    done = convert(f"{bucket.uri}/raw", f"{bucket.uri}/out", *dataflow(bucket), *given, *more)
    assert done.code == 0, done.err
    job, _ = staged_job(bucket)
    (pool,) = job["environment"]["workerPools"]
    assert (job["name"], pool["machineType"], pool["numWorkers"], pool["numThreadsPerWorker"]) == (
        ("mine", "c3-standard-8", 3, 5)
    )
    assert pool["autoscalingSettings"] == {"algorithm": "AUTOSCALING_ALGORITHM_NONE"}
    assert job["labels"] == {"app": "xrays", "team": "r", "dataset": "cxr", "version": "1-0-0"}
    assert job["environment"]["tempStoragePrefix"].startswith(f"storage.googleapis.com/{bucket.name}/temp/")


def test_a_job_holds_no_secret_and_no_path_of_the_launcher(raw: Path, bucket: Bucket, convert: Convert) -> None:
    key = "0123456789abcdef0123456789abcdef-of-nobody"
    bucket.write({"keys/ids": key.encode(), "rows.csv": b"image_uri,label\n"})
    flags = ("--id_key_file", f"{bucket.uri}/keys/ids", "--group_pattern", r"/(\d+)")
    done = convert(f"{bucket.uri}/raw", f"{bucket.uri}/out", *flags, *dataflow(bucket))
    assert done.code == 0, done.err
    credentials = Path(os.environ["GOOGLE_APPLICATION_CREDENTIALS"])
    names = [name for name in bucket.names() if name == "template" or name.startswith("staging/")]
    everything = b"".join(unpacked(bucket.read(name)) for name in names if not name.endswith((".whl", ".tar.gz")))
    assert f"{bucket.uri}/keys/ids".encode() in everything  # shows that the test looks inside the pickled functions
    assert b"apache_beam/transforms/core.py" in everything
    for text in (key, base64.b64encode(key.encode()).decode(), str(credentials), '"refresh_token"'):
        assert text.encode() not in everything, text
    folders = {ROOT, Path.home(), Path(sys.prefix), Path(beam.__file__).parents[1], raw, Path.cwd()}
    for folder in folders:
        assert f"{folder}/".encode() not in everything, folder


def graph_of(raw: Path, output: Path) -> beam_runner_api_pb2.Pipeline:
    """The graph of a conversion for a remote runner."""
    config = config_of(parser().parse_args(["--input", str(raw), "--output", str(output)]), local=False)
    config = replace(config, launch="0" * 32)  # otherwise random
    check_input(config)
    pipeline = beam.Pipeline(runner=FnApiRunner())
    define_pipeline(pipeline, config, unclaimed(config), str(output / "status"))
    with without_paths():
        return pipeline.to_runner_api()


def test_the_graph_does_not_grow_with_the_number_of_inputs(tmp_path: Path) -> None:
    raw, graphs = tmp_path / "raw", []
    for label in ("NORMAL", "PNEUMONIA"):
        (raw / label).mkdir(parents=True)
    for numbers in (range(10), range(10, 10_000)):
        for number in numbers:
            open(raw / ("NORMAL", "PNEUMONIA")[number % 2] / f"{number}.png", "x").close()
        graphs.append(graph_of(raw, tmp_path / "out"))
    few, many = graphs
    assert few.components.transforms.keys() == many.components.transforms.keys()
    assert len(few.components.transforms) > 50
    assert abs(few.ByteSize() - many.ByteSize()) <= 8


def test_a_dry_run_for_dataflow_is_done_here_and_writes_nothing(raw: Path, bucket: Bucket, convert: Convert) -> None:
    before = bucket.names()
    done = convert(f"{bucket.uri}/raw", f"{bucket.uri}/out", *dataflow(bucket), "--dry_run")
    assert done.code == 0, done.err
    assert "inputs: 30 listed = 30 to convert" in done.out
    assert "images per CPU second: measured on 28 of these images, on this machine" in done.out
    assert bucket.names() == before
