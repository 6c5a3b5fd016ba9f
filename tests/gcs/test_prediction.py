"""Scores from bucket to bucket, over HTTP, and as a Dataflow template."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime", reason="prediction needs it")

from beam_jobs import predict
from tests.beam_jobs.scoring.tiny_exports import write_export
from tests.conftest import Result, files_of, labelled, write_images
from tests.gcs.bucket import Bucket, fresh_bucket
from tests.gcs.test_template import dataflow, files_in, run_template

Command = Callable[..., Result]


@pytest.fixture
def raw(tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of images, one of them cut, that are also in the bucket, and the model in both."""
    monkeypatch.chdir(tmp_path)  # away from setup.py, from which a package would be built and staged
    folder = write_images(tmp_path / "raw", labelled(20, suffix=".jpeg"))
    (folder / "NORMAL/cut.jpeg").write_bytes((folder / "NORMAL/1.jpeg").read_bytes()[:200])
    bucket.upload_folder(folder, "raw")
    bucket.write({"model.onnx": write_export(tmp_path / "model.onnx").read_bytes()})
    return folder


FLAGS = ("--shards", 3, "--max_reject_fraction", 0.1)


def test_bucket_to_bucket_gives_the_same_scores_as_disk_to_disk(
    raw: Path, tmp_path: Path, bucket: Bucket, bucket_server: str, command: Command
) -> None:
    local = command(predict.main, "--model", "model.onnx", "--input", raw, "--output", tmp_path / "out", *FLAGS)
    assert local.code == 0, local.err
    with fresh_bucket(bucket_server) as scores:
        places = ("--model", f"{bucket.uri}/model.onnx", "--input", f"{bucket.uri}/raw", "--output", scores.uri)
        result = command(predict.main, *places, *FLAGS)
        assert result.code == 0, result.err
        assert "41 listed = 40 written + 1 quarantined (1 truncated) + 0 skipped" in result.out
        remote = {name: scores.read(name) for name in scores.names()}
    files = files_of(tmp_path / "out")
    assert remote.keys() == files.keys()
    assert {name for name in files if files[name] != remote[name]} == {"quarantine.jsonl"}  # it holds the URI
    assert json.loads(remote["quarantine.jsonl"])["uri"] == f"{bucket.uri}/raw/NORMAL/cut.jpeg"


def test_a_template_scores_when_it_is_run(raw: Path, tmp_path: Path, bucket: Bucket, command: Command) -> None:
    places = ("--input", f"{bucket.uri}/raw", "--output", f"{bucket.uri}/out")
    refused = command(predict.main, "--model", "model.onnx", *places, *FLAGS, *dataflow(bucket))
    assert refused.code == 2
    assert "is local, and a template starts later; copy it to a gs:// bucket" in refused.error
    staged = command(predict.main, "--model", f"{bucket.uri}/model.onnx", *places, *FLAGS, *dataflow(bucket))
    assert staged.code == 0, staged.err
    assert f"staged a template at {bucket.uri}/template" in staged.out
    assert not files_in(bucket, "out")
    run_template(bucket)
    local = command(predict.main, "--model", "model.onnx", "--input", raw, "--output", tmp_path / "out", *FLAGS)
    assert local.code == 0, local.err
    published = files_in(bucket, "out")
    for name, content in files_of(tmp_path / "out").items():
        assert name == "quarantine.jsonl" or published[f"out/{name}"] == content
