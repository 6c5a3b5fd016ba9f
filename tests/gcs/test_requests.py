"""The estimate of --dry_run counts the requests of a conversion as they are."""

import logging
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from beam_jobs.settings.costs import Usage
from tests.conftest import Result, labelled, write_images
from tests.gcs.bucket import Bucket


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
    usage = Usage(images=20, listed=20, shards=12, read_bytes=0, written_bytes=0, images_per_cpu_second=1)
    assert len(listed) + len(written) == pytest.approx(usage.class_a, abs=5)
    assert len(read) == pytest.approx(usage.class_b, abs=10)
