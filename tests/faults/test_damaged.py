"""Damage to a published data set: `verify` and the training reader each name the damaged shards and no others."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from beam_jobs import verify
from tests.conftest import Result
from tests.faults.launch import Place
from tests.gcs.tls_front import TlsFront
from training import train

pytestmark = pytest.mark.faults

NAME, OTHER = "cxr-train.tfrecord-00001-of-00006", "cxr-train.tfrecord-00002-of-00006"


@pytest.fixture
def dataset(place: Place, undisturbed: dict[str, bytes]) -> Place:
    """A copy of the undisturbed data set."""
    if place.bucket is None:
        Path(place.uri).mkdir(parents=True)
    for name, content in undisturbed.items():
        place.write(name, content)
    return place


def cut(place: Place) -> set[str]:
    """Removes the last record; what is left looks like a complete file."""
    data = place.read(NAME)
    record = 16 + int.from_bytes(data[:8], "little")
    place.write(NAME, data[: len(data) - record])
    return {NAME}


def flip(place: Place) -> set[str]:
    data = bytearray(place.read(NAME))
    data[len(data) // 2] ^= 1
    place.write(NAME, bytes(data))
    return {NAME}


def lose(place: Place) -> set[str]:
    if place.bucket is None:
        Path(place.uri, NAME).unlink()
    else:
        place.bucket.client.bucket(place.bucket.name).delete_blob(f"out/1.0.0/{NAME}")
    return {NAME}


def swap(place: Place) -> set[str]:
    ours, theirs = place.read(NAME), place.read(OTHER)
    place.write(NAME, theirs)
    place.write(OTHER, ours)
    return {NAME, OTHER}


def swap_equal_sizes(place: Place) -> set[str]:
    """Swaps two records of the same length, so that sizes and counts still match the manifest."""
    data = place.read(NAME)
    record = 16 + int.from_bytes(data[:8], "little")
    place.write(NAME, data[record : 2 * record] + data[:record] + data[2 * record :])
    return {NAME}


DAMAGES = [cut, flip, lose, swap, swap_equal_sizes]


@pytest.mark.parametrize("damage", DAMAGES)
def test_verify_names_the_damaged_shards(
    dataset: Place, damage: Callable[[Place], set[str]], command: Callable[..., Result]
) -> None:
    damaged = damage(dataset)
    result = command(verify.main, dataset.uri)
    assert result.code == 1
    assert {line.split(": ")[1] for line in result.out.splitlines() if line.startswith("damaged: ")} == damaged


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("place", ["disk"], indirect=True)
def test_training_names_the_damaged_shards_before_it_starts(
    dataset: Place, damage: Callable[[Place], set[str]], command: Callable[..., Result], tmp_path: Path
) -> None:
    damaged = damage(dataset)
    run = tmp_path / "run"
    result = command(train.main, "--data", dataset.uri, "--recipe", "model1", "--output", run, "--verify_data")
    assert result.code == 1
    assert {name for name in (NAME, OTHER) if name in result.error} == damaged
    assert not run.exists()
    if damage in (cut, lose):  # sizes and counts are checked even without --verify_data
        assert command(train.main, "--data", dataset.uri, "--recipe", "model1", "--output", run).code == 1
        assert not run.exists()


@pytest.mark.parametrize("damage", [cut, flip])
@pytest.mark.parametrize("place", ["bucket"], indirect=True)
def test_training_from_a_bucket_names_the_damaged_shard_before_it_starts(
    dataset: Place, damage: Callable[[Place], set[str]], tls_front: TlsFront, tmp_path: Path
) -> None:
    damage(dataset)
    done = subprocess.run(
        [sys.executable, "-m", "training.train", "--data", dataset.uri, "--recipe", "model1", "--verify_data"]
        + ["--output", str(tmp_path / "run")],
        env={**os.environ, **tls_front.environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert f"1 shard(s) do not match manifest.json: {NAME} has " in done.stderr
    assert not (tmp_path / "run").exists()


def test_an_unlisted_shard_is_reported_but_not_read(dataset: Place, command: Callable[..., Result]) -> None:
    dataset.write("cxr-train.tfrecord-00006-of-00007", dataset.read(NAME))
    result = command(verify.main, dataset.uri)
    assert result.code == 0
    assert "not in the manifest: cxr-train.tfrecord-00006-of-00007" in result.out
    assert f"{json.loads(dataset.read('manifest.json'))['inputs']['written']} examples" in result.out


@pytest.mark.parametrize("place", ["bucket"], indirect=True)
def test_training_from_a_bucket_reports_an_unlisted_shard_and_damage_in_the_test_split(
    dataset: Place, tls_front: TlsFront, tmp_path: Path
) -> None:
    def run() -> "subprocess.CompletedProcess[str]":
        words = ["--data", dataset.uri, "--recipe", "model1", "--epochs", "1", "--output", str(tmp_path / "run")]
        return subprocess.run(
            [sys.executable, "-m", "training.train", *words],
            env={**os.environ, **tls_front.environment},
            capture_output=True,
            text=True,
            timeout=120,
        )

    dataset.write("cxr-train.tfrecord-00006-of-00007", dataset.read(NAME))
    done = run()
    assert done.returncode == 0, done.stderr
    assert f"warning: {dataset.uri}: cxr-train.tfrecord-00006-of-00007 is not in the manifest" in done.stderr
    test = "cxr-test.tfrecord-00004-of-00006"
    dataset.write(test, dataset.read(test)[:-1])
    done = run()
    assert done.returncode == 1
    assert f"1 shard(s) do not match manifest.json: {test} has " in done.stderr
