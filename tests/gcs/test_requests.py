"""The requests of commands: of a conversion, as the estimate of --dry_run counts them, and of training."""

import logging
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from beam_jobs.settings.costs import CONVERSION, Usage
from tests.conftest import Result, labelled, write_images
from tests.gcs.bucket import Bucket
from tests.gcs.tls_front import TlsFront
from tests.training.conftest import write_dataset


def test_the_estimated_requests_are_those_of_a_conversion(
    tmp_path: Path, bucket: Bucket, convert: Callable[..., Result], caplog: pytest.LogCaptureFixture
) -> None:
    bucket.upload_folder(write_images(tmp_path / "raw", labelled(5, "train", "val", suffix=".jpeg")), "raw")
    with caplog.at_level(logging.DEBUG, "urllib3.connectionpool"):
        caplog.clear()
        result = convert(f"{bucket.uri}/raw", f"{bucket.uri}/out", "--shards", 6)
    assert result.code == 0, result.err
    requests = re.findall(r'"(GET|POST|PUT|DELETE) (/\S+)', caplog.text)
    listed = [path for how, path in requests if how == "GET" and path.partition("?")[0].endswith("/o")]
    written = [path for how, path in requests if how in ("POST", "PUT")]
    read = [path for how, path in requests if how == "GET" and path not in listed]
    assert len([path for path in read if "raw%2F" in path]) == 20
    usage = Usage(CONVERSION, images=20, listed=20, shards=12, read_bytes=0, written_bytes=0, images_per_cpu_second=1)
    assert len(listed) + len(written) == pytest.approx(usage.class_a, abs=5)
    assert len(read) == pytest.approx(usage.class_b, abs=10)


TRAINING = """
import sys
from schemas.errors import run_command
from training import train
sys.exit(run_command(train.main, sys.argv[1:]))
"""


@pytest.mark.parametrize(("cache", "expected"), [("none", 3), ("memory", 1)])
def test_training_asks_for_each_shard_once_an_epoch_and_once_more_at_its_end(
    tmp_path: Path, bucket: Bucket, tls_front: TlsFront, cache: str, expected: int
) -> None:
    data = write_dataset(tmp_path / "data", {"train": 96, "validation": 40}, shards=3)
    bucket.upload_folder(data.folder, "data")
    words = ["--data", f"{bucket.uri}/data", "--recipe", "model1", "--epochs", "2", "--batch_size", "16"]
    command = [sys.executable, "-c", TRAINING, *words, "--output", str(tmp_path / "run"), "--cache", cache]
    done = subprocess.run(command, env=tls_front.environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    reads = tls_front.traffic.reads(f"{bucket.name}/data/toy-")
    # The end chooses the threshold and fits the calibration and the scope, from the splits as they are kept.
    assert reads == {
        f"{bucket.name}/data/{shard.file}": expected for some in data.manifest.splits.values() for shard in some
    }
