"""Runs in a bucket: what is published and what reads it; refusals, lost answers and commands that meet."""

import contextlib
import gc
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from schemas.errors import JobFailed, UsageError
from schemas.pixels.settings import ImageSettings
from tests.conftest import Result
from tests.gcs.bucket import Bucket
from tests.gcs.front import LOST, Fault, Traffic, of_uploads, running_front
from tests.gcs.stored_runs import assert_same_run, downloaded, objects_of, pointer_of
from tests.training.conftest import DataSet, write_dataset
from tests.training.untrained_runs import write_run
from training import compare, evaluate, explain, export, predict, train
from training.models.recipes import MODEL1
from training.reading.buckets import google_client
from training.runs.run_bucket import working_copy
from training.runs.run_folder import RESULTS, read_history

SETTINGS = ("--recipe", "model1", "--batch_size", "16", "--epochs", "2", "--balanced", "--seed", "3")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    return write_dataset(tmp_path_factory.mktemp("data") / "toy", {"train": 96, "validation": 40, "test": 30})


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder for temporary files, in which nothing may stay."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert not list(folder.glob("radrecords-*"))


@contextlib.contextmanager
def front(address: str, answer: Callable[[int], Fault]) -> Iterator[str]:
    """Leads the clients of this process through a proxy that answers uploads as `answer` says."""
    with running_front(address, Traffic(of_uploads(answer))) as proxy, pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", proxy)
        google_client.client.cache_clear()
        try:
            yield proxy
        finally:
            gc.collect()  # errors in reference cycles hold connections, for whose end the proxy waits
            google_client.client().close()
            google_client.client.cache_clear()


def flags(data: DataSet, output: object, *more: str) -> list[str]:
    return ["--data", str(data.folder), "--output", str(output), *SETTINGS, *more]


def test_a_run_that_is_there_and_what_reads_it(
    bucket: Bucket, data: DataSet, tmp_path: Path, scratch: Path, command: Callable[..., Result]
) -> None:
    output = f"{bucket.uri}/runs/x"
    bucket.write({"runs/x/notes.txt": b"mine", "runs/x/run-files/notes.txt": b"mine"})
    made = command(train.main, *flags(data, output, "--epochs", "1"))
    assert made.code == 0, made.err
    assert f"run: {output}; next: python -m training.evaluate --run {output}" in made.out
    assert set(pointer_of(bucket)["files"]) >= {"config.json", "model.weights.h5", "history.csv", "backup/state.npz"}
    refused = command(train.main, *flags(data, f"{output}/", "--epochs", "1"))
    assert refused.code == 2
    assert refused.error.startswith(f"error: --output {output} already holds a run; choose another")
    other = command(train.main, *flags(data, output, "--resume", "--seed", "4"))
    assert f"run {output} has a different seed" in other.error

    local, image = downloaded(bucket, tmp_path / "local"), tmp_path / "image.png"
    Image.fromarray(data.examples["test"][0].image[:, :, 0]).save(image)
    before = pointer_of(bucket)["files"]
    results = []
    for run in (output, str(local)):
        results.append([command(evaluate.main, "--run", run, "--data", data.folder)])
        results[-1].append(command(predict.main, "--run", run, image))
        assert [result.code for result in results[-1]] == [0, 0], results
    assert results[0][1].out == results[1][1].out
    after = pointer_of(bucket)["files"]
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == set(RESULTS)
    assert results[0][0].out.endswith(f"report: {output}/{after['report.html']['object']}\n")
    for name in RESULTS:
        assert bucket.read(f"runs/x/{after[name]['object']}") == (local / name).read_bytes()
    elsewhere = tmp_path / "elsewhere"
    assert command(evaluate.main, "--run", output, "--data", data.folder, "--output", elsewhere).code == 0
    assert sorted(path.name for path in elsewhere.iterdir()) == sorted(RESULTS)
    assert command(compare.main, output, local, "--data", data.folder, "--output", tmp_path / "compared").code == 0
    (row,) = json.loads((tmp_path / "compared/compare.json").read_text())["differences"]
    assert (row["run"], row["to"]) == ("local", "x")
    assert {entry["difference"] for entry in row["figures"].values()} == {0}
    assert pointer_of(bucket)["files"] == after

    assert command(train.main, *flags(data, output, "--epochs", "1", "--overwrite")).code == 0
    mine = ["runs/x/notes.txt", "runs/x/run-files/notes.txt"]
    assert bucket.names() == sorted([*objects_of(bucket), *mine])
    assert not {each["object"] for each in after.values()} & set(bucket.names())
    assert not set(RESULTS) & set(pointer_of(bucket)["files"])


def test_training_whose_run_another_command_changes(
    bucket: Bucket, bucket_server: str, data: DataSet, scratch: Path, command: Callable[..., Result]
) -> None:
    output = f"{bucket.uri}/runs/x"
    taken: list[bytes] = []

    def take_over(_number: int) -> int:
        if not taken and any(name.endswith("state.npz") for name in bucket.names()):
            taken.append(bucket.read("runs/x/run.json"))
            bucket.write({"runs/x/run.json": taken[0]})
        return 0

    with front(bucket_server, take_over):
        result = command(train.main, *flags(data, output))
    assert result.code == 1
    assert f"run {output} was changed by another command in the meantime" in result.error
    assert bucket.read("runs/x/run.json") == taken[0]
    assert set(objects_of(bucket)) < set(bucket.names())
    with working_copy(output, None) as copy:
        copy.publish()
    assert bucket.names() == objects_of(bucket)


def test_a_bucket_that_refuses_training_and_then_does_not(
    bucket: Bucket, bucket_server: str, data: DataSet, tmp_path: Path, scratch: Path, command: Callable[..., Result]
) -> None:
    output = f"{bucket.uri}/runs/x"
    with front(bucket_server, lambda _number: 403):
        result = command(train.main, *flags(data, output))
    assert result.code == 2
    assert f"cannot write to {output}: Forbidden: 403" in result.error
    assert bucket.names() == []

    with front(bucket_server, lambda _number: 403 if "history.csv" in pointer_of(bucket)["files"] else 0):
        result = command(train.main, *flags(data, output))
    assert result.code == 1
    assert (
        f"cannot upload run {output}; the state that was uploaded before is in force: give the same command with --resume "
        "to continue from it (Forbidden: 403" in result.error
    )
    assert len(read_history(str(downloaded(bucket, tmp_path / "refused")))) == 1

    assert command(train.main, *flags(data, output, "--resume")).code == 0
    assert command(train.main, *flags(data, tmp_path / "whole")).code == 0
    assert_same_run(downloaded(bucket, tmp_path / "resumed"), tmp_path / "whole")
    assert bucket.names() == objects_of(bucket)


def test_one_of_two_commands_publishes(bucket: Bucket, tmp_path: Path, scratch: Path) -> None:
    run = f"{bucket.uri}/runs/x"
    with working_copy(run, ()) as first:
        Path(first.folder).mkdir()
        Path(first.folder, "config.json").write_text("first")
        with working_copy(run, ()) as second:
            Path(second.folder).mkdir()
            Path(second.folder, "config.json").write_text("second")
            first.publish()
            with pytest.raises(JobFailed, match="was changed by another"):
                second.publish()
        # A later one takes over, and the earlier one ends.
        with working_copy(run, None) as third:
            assert Path(third.folder, "config.json").read_text() == "first"
            third.publish()
            Path(first.folder, "config.json").write_text("first again")
            with pytest.raises(JobFailed, match="was changed by another"):
                first.publish()
            Path(third.folder, "config.json").write_text("third")
            third.publish()
    assert (downloaded(bucket, tmp_path / "local") / "config.json").read_text() == "third"
    with working_copy(run, None) as fourth:
        fourth.publish()
    assert (downloaded(bucket, tmp_path / "again") / "config.json").read_text() == "third"
    assert bucket.names() == objects_of(bucket)


def test_uploads_that_fail_for_the_moment_or_whose_answer_is_lost(
    bucket: Bucket, bucket_server: str, tmp_path: Path, scratch: Path
) -> None:
    content = os.urandom(9 << 20)  # is uploaded in another way than small files
    answers = iter((503, None, LOST, None, LOST, *[None] * 100))
    with front(bucket_server, lambda _number: next(answers)), working_copy(f"{bucket.uri}/x", ()) as copy:
        Path(copy.folder, "backup").mkdir(parents=True)
        Path(copy.folder, "a.txt").write_text("a")
        Path(copy.folder, "b.txt").write_text("b")
        copy.publish()  # the answers for b.txt and run.json are lost
        Path(copy.folder, "backup/state.npz").write_bytes(content)
        copy.publish()
    local = downloaded(bucket, tmp_path / "local", "x")
    assert (local / "a.txt").read_text() + (local / "b.txt").read_text() == "ab"
    assert (local / "backup/state.npz").read_bytes() == content
    assert bucket.names() == objects_of(bucket, "x")


def test_a_run_in_a_bucket_is_explained_and_exported(
    bucket: Bucket, scratch: Path, command: Callable[..., Result], tmp_path: Path
) -> None:
    run, local, image = f"{bucket.uri}/runs/x", tmp_path / "local", tmp_path / "image.png"
    written = write_run(local, MODEL1, ImageSettings(image_size=24))
    with working_copy(run, ()) as copy:
        shutil.copytree(local, copy.folder)
        copy.publish()
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (30, 40), np.uint8)).save(image)
    results = [command(explain.main, "--run", each, "--output", tmp_path / "out", image) for each in (run, local)]
    assert [result.code for result in results] == [0, 0], results
    assert results[0].out == results[1].out
    if find_spec("tensorflow"):
        result = command(export.main, "--run", run, "--format", "savedmodel", "--output", tmp_path / "model")
        assert result.code == 0, result
        about = json.loads((tmp_path / "model/assets.extra/radrecords.json").read_text())
        assert about["run"]["weights_sha256"] == written.weights_sha256

    weights = next(name for name in bucket.names() if name.endswith("model.weights.h5"))
    bucket.write({weights: bucket.read(weights)[:-1]})
    result = command(explain.main, "--run", run, "--output", tmp_path / "out", image)
    assert (result.code, result.error.startswith(f"error: {bucket.uri}/{weights} is not what was uploaded")) == (
        2,
        True,
    )


def test_runs_that_cannot_be_read(
    bucket: Bucket, data: DataSet, scratch: Path, command: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = f"{bucket.uri}/runs/x"
    for missing in (run, "gs://no-such-bucket/runs/x"):
        result = command(predict.main, "--run", missing, "x.png")
        assert result.code == 2
        assert f"run {missing} has no config.json; train one with" in result.error
    result = command(train.main, *flags(data, "gs://no-such-bucket/runs/x"))
    assert (result.code, result.error) == (2, "error: cannot write to gs://no-such-bucket/runs/x: no such bucket")

    head = {"format": "radrecords-run-in-bucket", "format_version": 1}
    named = {"object": f"run-files/{'0' * 32}/1/config.json", "sha256": "0" * 64}
    for content, expected in (
        (b"[]", "run.json of run .* is damaged"),
        (json.dumps({**head, "files": {"../config.json": named}}).encode(), "run.json of run .* is damaged"),
        (json.dumps({**head, "format_version": 9, "files": {}}).encode(), "format version 9.*upgrade radrecords"),
        (json.dumps({**head, "files": {"config.json": named}}).encode(), f"objects of run {run} are missing"),
    ):
        bucket.write({"runs/x/run.json": content})
        with pytest.raises(UsageError, match=expected), working_copy(run, None):
            pass
    with working_copy(run, ()) as copy:  # as for --overwrite
        Path(copy.folder).mkdir()
        copy.publish()
    assert pointer_of(bucket)["files"] == {}

    monkeypatch.setitem(sys.modules, "google.cloud.storage", None)
    assert "run: pip install '.[gcp]'" in command(predict.main, "--run", run, "x.png").error


def test_an_ensemble_is_the_local_one(
    bucket: Bucket, data: DataSet, tmp_path: Path, scratch: Path, command: Callable[..., Result]
) -> None:
    for output in (f"{bucket.uri}/runs/x", tmp_path / "local"):
        made = command(train.main, *flags(data, output, "--epochs", "1", "--ensemble", "2"))
        assert made.code == 0, made.err
    assert_same_run(downloaded(bucket, tmp_path / "ensemble"), tmp_path / "local")
    assert_same_run(downloaded(bucket, tmp_path / "member", "runs/x/members/1"), tmp_path / "local/members/1")
