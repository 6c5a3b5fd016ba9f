"""Dataflow templates: Beam's local engine runs the template that was staged in the bucket, as Dataflow would later."""

import importlib.metadata
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability import python_urns
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

from beam_jobs import verify
from tests.conftest import Result, labelled, write_images
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
