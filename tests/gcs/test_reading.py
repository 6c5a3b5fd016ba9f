"""Reading a data set from a bucket, with each client: the requests that it costs, and the same batches whatever fails."""

import contextlib
import hashlib
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from tests.gcs.bucket import Bucket
from tests.gcs.front import (
    CUT,
    FLIPPED,
    RESET,
    RETRYABLE,
    Fault,
    Request,
    Traffic,
    no_faults,
    random_faults,
    running_front,
)
from tests.gcs.tls_front import running_front as running_tls_front
from tests.training.conftest import DataSet, write_dataset
from training.reading.array_batches import epoch_rows
from training.reading.records import open_split

ROOT = Path(__file__).parents[2]
SHARDS = 6
SHARD_BYTES = 16 * 4300  # about


@dataclass(frozen=True)
class Reader:
    """A process that reads from the bucket through a front."""

    process: "subprocess.Popen[str]"
    traffic: Traffic
    backend: str

    def open(
        self,
        folder: str,
        cache: str = "none",
        disk: Path | None = None,
        read_ahead_bytes: int = 2 * SHARD_BYTES,
        at_once: int = 16,
    ) -> None:
        """Opens a data set. By default, each shard is a window. `at_once`: shards that are read at a time."""
        settings = {
            "cache": cache,
            "disk": disk and str(disk),
            "read_ahead_bytes": read_ahead_bytes,
            "at_once": at_once,
        }
        assert self._ask({"do": "open", "folder": folder, **settings}) == "opened"

    def close(self) -> None:
        """Ends the reading ahead."""
        assert self._ask({"do": "close"}) == "closed"

    def epoch(self) -> list[str]:
        """The hash of each batch of the next epoch."""
        found = self._ask({"do": "epoch"})
        assert isinstance(found, list), found
        return found

    def images(self) -> list[str]:
        """The hash of each image of the next epoch."""
        found = self._ask({"do": "images"})
        assert isinstance(found, list), found
        return found

    def failure(self) -> str:
        """What the next epochs fail with. What is read ahead may last for an epoch; none may be short."""
        for _ in range(3):
            found = self._ask({"do": "epoch"})
            if not isinstance(found, list):
                return cast(str, found["error"])
            assert len(found) == 5
        raise AssertionError("nothing failed")

    def _ask(self, what: Any) -> Any:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


@pytest.fixture(scope="module", params=["jax", "tensorflow"])
def running(
    request: pytest.FixtureRequest, bucket_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Reader]:
    """A reader with the client that this backend of Keras gets."""
    with contextlib.ExitStack() as stack:
        if request.param == "tensorflow":
            front = stack.enter_context(running_tls_front(bucket_server, tmp_path_factory.mktemp("tls")))
            # Its retries are those that training sets.
            environment = {name: value for name, value in front.environment.items() if "RETRY" not in name}
            traffic = front.traffic
        else:
            traffic = Traffic()
            environment = {"STORAGE_EMULATOR_HOST": stack.enter_context(running_front(bucket_server, traffic))}
        process = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-m", "tests.gcs.reading_worker"],
                env={**os.environ, **environment, "KERAS_BACKEND": request.param},
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        )
        yield Reader(process, traffic, request.param)


@pytest.fixture
def reader(running: Reader) -> Iterator[Reader]:
    """The reader, with a front at which nothing fails yet."""
    running.traffic.clear()
    yield running
    running.close()
    running.traffic.faults, running.traffic.latency = no_faults, 0.0


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    """96 examples in six shards."""
    return write_dataset(tmp_path_factory.mktemp("bucket") / "data", {"train": 96, "validation": 4}, shards=SHARDS)


@pytest.fixture
def folder(bucket: Bucket, dataset: DataSet) -> str:
    """The data set in a bucket of its own."""
    bucket.upload_folder(dataset.folder, "data")
    return f"{bucket.uri}/data"


def shards_read(reader: Reader) -> list[int]:
    """How often each shard of `train` was asked for."""
    return sorted(count for name, count in reader.traffic.reads().items() if "-train." in name)


def test_one_request_a_shard_and_epoch(reader: Reader, folder: str, tmp_path: Path) -> None:
    reader.open(folder)
    reader.traffic.clear()
    streamed = [reader.epoch() for _ in range(5)]
    # The sixth epoch may have begun: a window is read ahead, and batches are made ahead.
    counts = shards_read(reader)
    assert set(counts) <= {5, 6}
    assert len(counts) == SHARDS
    assert sum(counts) <= 5 * SHARDS + 4
    assert reader.traffic.others() == []

    reader.close()
    reader.traffic.clear()
    reader.open(folder, "memory")
    assert [reader.epoch() for _ in range(5)] == streamed
    assert shards_read(reader) == [1] * SHARDS

    reader.open(folder, disk=tmp_path)
    assert [reader.epoch() for _ in range(5)] == streamed
    assert shards_read(reader) == [2] * SHARDS
    reader.open(folder, disk=tmp_path)  # a later run
    assert [reader.epoch() for _ in range(5)] == streamed
    assert shards_read(reader) == [2] * SHARDS
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) > 90 * 64 * 64


def test_the_order_is_a_function_of_seed_and_epoch_everywhere(
    reader: Reader, folder: str, dataset: DataSet, tmp_path: Path
) -> None:
    """By both clients, from both places, with each cache, and whatever number of shards is read at a time."""
    ids = {hashlib.sha256(each.image.tobytes()).hexdigest(): each.id for each in dataset.examples["train"]}
    stored = [each.id for each in dataset.examples["train"]]
    split = open_split(str(dataset.folder), dataset.manifest, "train", read_ahead_bytes=2 * SHARD_BYTES)
    expected = [[stored[row] for row in epoch_rows(split, 5, epoch)] for epoch in (0, 1)]
    assert sorted(expected[0]) == sorted(stored) != expected[0] != expected[1]
    caches = ["none", "memory", "disk", *(["device"] if reader.backend == "tensorflow" else [])]  # needs the backend
    for place, cache, at_once in itertools.product((folder, str(dataset.folder)), caches, (1, 16)):
        if cache == "disk":
            reader.open(place, disk=tmp_path, at_once=at_once)
        else:
            reader.open(place, cache, at_once=at_once)
        assert [[ids[image] for image in reader.images()] for _ in range(2)] == expected, (place, cache, at_once)
        reader.close()


def test_a_damaged_file_of_the_disk_cache_is_fetched_again(reader: Reader, folder: str, tmp_path: Path) -> None:
    reader.open(folder, disk=tmp_path)
    expected = [reader.epoch(), reader.epoch()]
    reader.close()
    cut, flipped, gone, *_ = sorted(tmp_path.iterdir())
    content = flipped.read_bytes()
    cut.write_bytes(cut.read_bytes()[:-1])
    flipped.write_bytes(content[:-50] + bytes([content[-50] ^ 1]) + content[-49:])
    gone.unlink()
    reader.open(folder, disk=tmp_path)
    reader.traffic.clear()
    assert [reader.epoch(), reader.epoch()] == expected
    assert shards_read(reader) == [1, 1, 1]
    assert flipped.read_bytes() == content


def test_opening_survives_what_fails_briefly(reader: Reader, folder: str) -> None:
    reader.traffic.faults = random_faults(2, 0.3)
    reader.open(folder)
    assert reader.traffic.failed


@pytest.mark.faults
def test_what_fails_briefly_changes_nothing(reader: Reader, folder: str) -> None:
    reader.open(folder)
    expected = [reader.epoch(), reader.epoch()]
    reader.traffic.latency = 0.05
    for kind in (*RETRYABLE, FLIPPED):
        reader.close()
        reader.traffic.faults = no_faults
        reader.open(folder)  # a manifest has no checksum
        reader.traffic.clear()
        reader.traffic.faults = random_faults(1, 0.3, (kind,))
        assert [reader.epoch(), reader.epoch()] == expected
        assert {fault for request, fault in reader.traffic.failed if request.reads} == {kind}


@pytest.mark.faults
@pytest.mark.parametrize("kind", [503, RESET, CUT, FLIPPED])
def test_what_fails_longer_is_an_error_that_names_the_shard(reader: Reader, folder: str, kind: Fault) -> None:
    reader.open(folder)
    reader.epoch()

    def fault(request: Request) -> Fault:
        return kind if "train.tfrecord-00004" in (request.reads or "") else None

    reader.traffic.faults = fault
    error = reader.failure()
    assert error.startswith(f"JobFailed: {folder}: "), error
    assert "toy-train.tfrecord-00004-of-00006" in error


@pytest.mark.faults
@pytest.mark.parametrize("what", ["vanishes", "is cut", "is longer", "changes"])
@pytest.mark.parametrize("cache", ["none", "disk"])
def test_a_shard_that_is_not_what_it_was(
    reader: Reader, bucket: Bucket, folder: str, dataset: DataSet, tmp_path: Path, what: str, cache: str
) -> None:
    reader.open(folder, disk=tmp_path if cache == "disk" else None)
    expected = [reader.epoch(), reader.epoch()]
    reader.close()
    reader.open(folder, disk=tmp_path if cache == "disk" else None)
    assert reader.epoch() == expected[0]
    shard = dataset.shard("train", 2)
    content, name = shard.read_bytes(), f"data/{shard.name}"
    if what == "vanishes":
        bucket.client.bucket(bucket.name).blob(name).delete()
    elif what == "is cut":
        bucket.write({name: content[: len(content) // 2]})
    elif what == "is longer":
        bucket.write({name: content + content[:500]})
    else:
        bucket.write({name: dataset.shard("train", 1).read_bytes()})
    if cache == "disk":
        assert reader.epoch() == expected[1]
        return
    error = reader.failure()
    assert error.startswith("JobFailed: "), error
    assert f"{shard.name} " in error
    assert what != "vanishes" or "is missing" in error
