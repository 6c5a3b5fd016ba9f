"""A full disk, a read-only folder or a refusing bucket: a clear error, nothing published, and the next run completes."""

import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import files_of
from tests.faults.launch import FLAGS, Place, finish, start
from tests.gcs.bucket import Bucket
from tests.gcs.front import Traffic, of_uploads, running_front

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("limit", [20_000, 60_000], ids=["first shard", "larger shards"])
def test_a_failed_write_is_reported_and_the_next_run_completes(
    tmp_path: Path, raw: Path, undisturbed: dict[str, bytes], limit: int
) -> None:
    place = Place(str(tmp_path / "out"))

    def restrict() -> None:  # writing beyond the limit fails with an OSError, as on a full disk
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    failed = finish(start(raw, place.uri, prepare=restrict))
    assert failed.code == 1, failed
    assert f"cannot write {place.uri}/_work/r1" in failed.error
    assert "manifest.json" not in place.names()
    assert finish(start(raw, place.uri)).code == 0
    assert place.files().keys() == undisturbed.keys()


MOUNTED = """
mount -t tmpfs -o size=300k none "$1" || exit 99
shift 1; "$@"; echo "first: $?"; ls "$OUT/manifest.json"
mount -o remount,size=64m "$OUT"; "$@"; echo "second: $?"
cp -r "$OUT/." "$COPY"
"""


def test_a_full_disk_is_reported_and_the_next_run_completes(
    tmp_path: Path, raw: Path, undisturbed: dict[str, bytes]
) -> None:
    output, copy = tmp_path / "1.0.0", tmp_path / "copy"
    output.mkdir()
    copy.mkdir()
    words = [sys.executable, "-m", "beam_jobs.convert", "--input", str(raw), "--output", str(output), *FLAGS]
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", MOUNTED, "sh", str(output), *words],
        env={**os.environ, "OUT": str(output), "COPY": str(copy)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    if "first: " not in done.stdout:
        pytest.skip(f"cannot mount a small disk here: {done.stderr.strip()}")
    assert "first: 1\n" in done.stdout
    assert f"error: cannot write {output}/_work/r1" in done.stderr
    assert "No space left on device; nothing was published" in done.stderr
    assert "No such file" in done.stderr  # ls does not find the manifest
    assert "second: 0" in done.stdout
    assert files_of(copy) == undisturbed


@pytest.mark.parametrize("begun", [False, True], ids=["from the start", "half-way"])
def test_a_read_only_folder_is_reported_and_the_next_run_completes(
    tmp_path: Path, raw: Path, undisturbed: dict[str, bytes], begun: bool
) -> None:
    place = Place(str(tmp_path / "1.0.0"))
    # Root may write anywhere, unless it drops that capability.
    unprivileged = ["setpriv", "--bounding-set=-dac_override"] if os.geteuid() == 0 else []
    if unprivileged and not shutil.which("setpriv"):
        pytest.skip("root without setpriv may write anywhere")
    locked = tmp_path / "1.0.0"
    locked.mkdir()
    if begun:
        assert finish(start(raw, place.uri, "--max_reject_fraction", "0", prepare=_half_way)).code == 1
        locked = tmp_path / "1.0.0/_work/r1"
    locked.chmod(0o555)
    before = place.names()
    failed = finish(start(raw, place.uri, before=unprivileged))
    assert failed.code == 2, failed
    assert "Permission denied" in failed.error
    assert place.names() == before
    locked.chmod(0o755)
    assert finish(start(raw, place.uri)).code == 0
    assert place.files() == undisturbed


def _half_way() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))


@pytest.mark.parametrize("uploads", [0, 1, 9, 40])
def test_a_refusing_bucket_is_reported_and_the_next_run_completes(
    bucket: Bucket, bucket_server: str, raw: Path, undisturbed: dict[str, bytes], uploads: int
) -> None:
    place = Place(f"{bucket.uri}/out/1.0.0", bucket)
    with running_front(bucket_server, Traffic(of_uploads(lambda number: None if number < uploads else 403))) as address:
        failed = finish(start(raw, place.uri, environment={"STORAGE_EMULATOR_HOST": address}))
    assert failed.code == 1, failed
    assert f"cannot read or write {place.uri}" in failed.error
    assert "permission denied" in failed.error
    assert "manifest.json" not in place.names()
    assert finish(start(raw, place.uri)).code == 0
    assert place.files() == undisturbed


def test_brief_bucket_errors_do_not_fail_the_job(
    bucket: Bucket, bucket_server: str, raw: Path, undisturbed: dict[str, bytes]
) -> None:
    place = Place(f"{bucket.uri}/out/1.0.0", bucket)
    with running_front(bucket_server, Traffic(of_uploads(lambda number: 503 if number % 9 == 4 else None))) as address:
        result = finish(start(raw, place.uri, environment={"STORAGE_EMULATOR_HOST": address}))
    assert result.code == 0, result
    assert place.files() == undisturbed
