"""`beam_jobs.upload` and `beam_jobs.download` against the local bucket."""

import base64
import fcntl
import gzip
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import google_crc32c
import pytest

from beam_jobs import download, upload
from beam_jobs.transfer.objects import crc32c_of, stored_in
from tests.conftest import Result, files_of
from tests.gcs.bucket import Bucket
from tests.gcs.front import Traffic, running_front

Command = Callable[..., Result]

FILES = {
    "train/NORMAL/1.png": b"one" * 1000,
    "train/NORMAL/leer zeichen & 100%?#[x].png": b"odd",
    "train/PNEUMONIA/größe-肺.dcm": b"\x00\xff" * 50,
    "train/PNEUMONIA/empty.png": b"",
    ".hidden/.file": b"hidden",
    "readme": b"text",
}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def objects(bucket: Bucket, prefix: str = "raw/") -> dict[str, bytes]:
    return {n.removeprefix(prefix): bucket.read(n) for n in bucket.names() if n.startswith(prefix)}


def generations(bucket: Bucket) -> dict[str, int]:
    return {blob.name: blob.generation for blob in bucket.client.list_blobs(bucket.name)}


def test_a_folder_goes_up_and_comes_down_unchanged(tmp_path: Path, bucket: Bucket, command: Command) -> None:
    local = write(tmp_path / "raw", FILES)
    size = sum(map(len, FILES.values()))
    first = command(upload.main, local, f"{bucket.uri}/raw", "--dry_run")
    assert (first.code, bucket.names()) == (0, [])
    assert first.out == f"would upload 6 files ({size:,} bytes) to {bucket.uri}/raw; 0 are there already\n"
    done = command(upload.main, f"{local}//", f"{bucket.uri}/raw/")
    assert done.code == 0, done.err
    assert "uploaded 6 files" in done.out
    assert "the checksums of all 6 are those of the local files" in done.out
    assert objects(bucket) == FILES
    first = command(download.main, f"{bucket.uri}/raw", f"{tmp_path}/copy//", "--dry_run")
    assert first.out == f"would download 6 files ({size:,} bytes) to {tmp_path}/copy; 0 are there already\n"
    assert not (tmp_path / "copy").exists()
    done = command(download.main, f"{bucket.uri}/raw", tmp_path / "copy", "--threads", 3)
    assert done.code == 0, done.err
    assert "downloaded 6 files" in done.out
    assert files_of(tmp_path / "copy") == FILES
    assert not (tmp_path / "copy/.radrecords-download").exists()


def test_what_is_there_is_not_transferred_again(tmp_path: Path, bucket: Bucket, command: Command) -> None:
    local = write(tmp_path / "raw", FILES)
    assert command(upload.main, local, f"{bucket.uri}/raw").code == 0
    before = generations(bucket)
    write(local, {"new.png": b"new"})
    again = command(upload.main, local, f"{bucket.uri}/raw")
    assert again.code == 0, again.err
    assert "uploaded 1 file to" in again.out
    assert "6 were there already" in again.out
    assert {name: found for name, found in generations(bucket).items() if name in before} == before
    bucket.write({"raw/more.png": b"more"})
    stamps = {path: path.stat().st_mtime_ns for path in local.rglob("*") if path.is_file()}
    assert "downloaded 1 file to" in command(download.main, f"{bucket.uri}/raw", local).out
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert (local / "more.png").read_bytes() == b"more"


@pytest.mark.parametrize("stored", [b"lautxet", b"another size"], ids=["same size", "other size"])
def test_other_content_is_refused_unless_overwritten(
    stored: bytes, tmp_path: Path, bucket: Bucket, command: Command
) -> None:
    local = write(tmp_path / "raw", {"a.png": b"textual", "b.png": b"b"})
    bucket.write({"raw/a.png": stored})
    for flags in ([], ["--dry_run"]):
        up = command(upload.main, local, f"{bucket.uri}/raw", *flags)
        assert up.code == 2
        assert f"{bucket.uri}/raw/a.png differs" in up.error
        assert bucket.names() == ["raw/a.png"]
        down = command(download.main, f"{bucket.uri}/raw", local, *flags)
        assert down.code == 2
        assert f"{local}/a.png differs" in down.error
    assert files_of(local) == {"a.png": b"textual", "b.png": b"b"}
    assert command(download.main, f"{bucket.uri}/raw", local, "--overwrite").code == 0
    assert (local / "a.png").read_bytes() == stored
    write(local, {"a.png": b"third"})
    assert command(upload.main, local, f"{bucket.uri}/raw", "--overwrite").code == 0
    assert objects(bucket) == {"a.png": b"third", "b.png": b"b"}


def test_names_that_lead_elsewhere_are_left_out(tmp_path: Path, bucket: Bucket, command: Command) -> None:
    bad = [
        "../up.png",
        "a/../../up.png",
        "/abs.png",
        "a//b.png",
        "./dot.png",
        "both",
        ".radrecords-download/x",
        "x" * 300,
    ]
    bucket.write({f"raw/{name}": b"x" for name in [*bad, "both/c.png", "good.png"]})
    bucket.write({"raw/": b"", "raw/marker/": b"", "raw/filled/": b"content"})
    done = command(download.main, f"{bucket.uri}/raw", tmp_path / "in/copy")
    assert done.code == 1
    assert "9 of 11 files" in done.error
    for name in [*bad, "filled/"]:
        assert f"not downloaded: {name}: " in done.out
    assert files_of(tmp_path) == {"in/copy/both/c.png": b"x", "in/copy/good.png": b"x"}


def test_links_out_of_the_target_and_folders_in_the_way_are_not_touched(
    tmp_path: Path, bucket: Bucket, command: Command
) -> None:
    bucket.write({"raw/out/a.png": b"x", "raw/in/b.png": b"x", "raw/taken": b"x", "raw/file/c.png": b"x"})
    outside = tmp_path / "outside"
    outside.mkdir()
    copy = write(tmp_path / "copy", {"taken/d.png": b"d", "file": b"a file", "real/e.png": b"e"})
    (copy / "out").symlink_to(outside)
    (copy / "in").symlink_to(copy / "real")
    done = command(download.main, f"{bucket.uri}/raw", copy)
    assert done.code == 1
    assert "not downloaded: out/a.png: its folder is a link that leads out of the target" in done.out
    assert "not downloaded: taken: there is a folder of this name" in done.out
    assert "not downloaded: file/c.png: " in done.out
    assert not list(outside.iterdir())
    assert (copy / "real/b.png").read_bytes() == b"x"
    assert (copy / "file").read_bytes() == b"a file"


def test_files_that_cannot_be_objects_are_left_out_and_links_are_followed(
    tmp_path: Path, bucket: Bucket, command: Command
) -> None:
    local = write(tmp_path / "raw", {"a.png": b"a", "line\nbreak.png": b"x", ".radrecords-download/x": b"left"})
    (tmp_path / "else").mkdir()
    write(tmp_path / "else", {"b.png": b"b"})
    (local / "linked").symlink_to(tmp_path / "else")
    (local / "again.png").symlink_to(local / "a.png")
    (local / "broken.png").symlink_to(tmp_path / "nothing")
    os.mkfifo(local / "pipe")
    (Path(os.fsdecode(os.fsencode(local) + b"/\xff.png"))).write_bytes(b"x")
    done = command(upload.main, local, f"{bucket.uri}/raw")
    assert done.code == 1
    assert "4 of 7 files" in done.error
    assert "not uploaded: broken.png: not a file, or a broken link" in done.out
    assert objects(bucket) == {"a.png": b"a", "linked/b.png": b"b", "again.png": b"a"}


@pytest.mark.parametrize(
    ("main", "words", "said"),
    [
        (upload.main, ["LOCAL", "elsewhere"], "'elsewhere' is not in a bucket"),
        (upload.main, ["LOCAL", "gs:///x"], "names no bucket"),
        (upload.main, ["LOCAL/none", "BUCKET/raw"], "does not exist"),
        (upload.main, ["LOCAL/file", "BUCKET/raw"], "is a file, not a folder"),
        (upload.main, ["LOCAL/empty", "BUCKET/raw"], "contains no files"),
        (upload.main, ["gs://a/b", "gs://c/d"], "'gs://a/b' is not a local folder"),
        (upload.main, ["LOCAL", "BUCKET/raw", "--threads", "0"], "--threads 0"),
        (download.main, ["BUCKET/none", "LOCAL"], "holds no objects"),
        (download.main, ["LOCAL", "BUCKET"], "is not in a bucket"),
        (download.main, ["BUCKET/some", "LOCAL/file"], "is a file, not a folder"),
    ],
)
def test_wrong_usage_is_one_line(
    main: Callable[..., None], words: list[str], said: str, tmp_path: Path, bucket: Bucket, command: Command
) -> None:
    bucket.write({"some/a": b"a"})
    write(tmp_path, {"file": b"x"})
    (tmp_path / "empty").mkdir()
    result = command(main, *(word.replace("LOCAL", str(tmp_path)).replace("BUCKET", bucket.uri) for word in words))
    assert result.code == 2
    assert said in result.error


def test_a_missing_bucket_is_one_line(tmp_path: Path, bucket: Bucket, command: Command) -> None:
    write(tmp_path, {"file": b"x"})
    for main, *words in (
        (upload.main, tmp_path, "gs://no-such-bucket/x"),
        (download.main, "gs://no-such-bucket/x", tmp_path),
    ):
        result = command(main, *words)
        assert result.code == 1
        assert "no such bucket" in result.error


def test_only_one_download_writes_into_a_folder(tmp_path: Path, bucket: Bucket, command: Command) -> None:
    bucket.write({"raw/a.png": b"a"})
    folder = write(tmp_path, {".radrecords-download/left": b"of a killed one"}) / ".radrecords-download"
    with (folder / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = command(download.main, f"{bucket.uri}/raw", tmp_path)
        assert refused.code == 2
        assert "another download" in refused.error
    assert command(download.main, f"{bucket.uri}/raw", tmp_path).code == 0
    assert files_of(tmp_path) == {"a.png": b"a"}


def test_compressed_objects_arrive_as_readers_get_them(tmp_path: Path, bucket: Bucket, command: Command) -> None:
    blob = bucket.client.bucket(bucket.name).blob("raw/table.csv")
    blob.content_encoding = "gzip"
    blob.upload_from_string(gzip.compress(b"a,b\n" * 100))
    for _ in range(2):
        done = command(download.main, f"{bucket.uri}/raw", tmp_path / "copy")
        assert done.code == 0, done.err
        assert (tmp_path / "copy/table.csv").read_bytes() == b"a,b\n" * 100
    write(tmp_path / "copy", {"table.csv": b"other"})
    assert "--overwrite replaces it" in command(download.main, f"{bucket.uri}/raw", tmp_path / "copy").error


@pytest.mark.faults
def test_an_interrupted_transfer_says_how_to_go_on_and_goes_on(
    tmp_path: Path, bucket: Bucket, bucket_server: str
) -> None:
    files = {f"{n}.png": os.urandom(200) for n in range(150)}
    local = write(tmp_path / "raw", files)
    traffic = Traffic(latency=0.1)
    with running_front(bucket_server, traffic) as proxy:
        environment = {**os.environ, "STORAGE_EMULATOR_HOST": proxy}
        up = [sys.executable, "-m", "beam_jobs.upload", str(local), f"{bucket.uri}/raw", "--threads", "4"]
        down = [
            sys.executable,
            "-m",
            "beam_jobs.download",
            f"{bucket.uri}/raw",
            str(tmp_path / "copy"),
            "--threads",
            "4",
        ]
        for words in (up, down):
            traffic.clear()
            process = subprocess.Popen(
                words,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            while len(traffic.answered) < 60:
                assert process.poll() is None
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
            assert process.returncode == 130
            assert err.splitlines() == ["interrupted; run the same command again: it goes on where it stopped"]
            traffic.latency = 0.0
            arrived = set(traffic.reads()) if words is down else set(objects(bucket))
            traffic.clear()
            done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, done.stderr
            assert len(arrived) >= 50
            sent = [request for request in traffic.requests if request.method == "POST" or request.reads]
            assert len(sent) <= 150 - len(arrived) + 4  # those on their way
            traffic.latency = 0.1
    assert objects(bucket) == files
    assert files_of(tmp_path / "copy") == files


def test_the_listing_has_the_checksum_that_is_computed_here(tmp_path: Path, bucket: Bucket) -> None:
    content = os.urandom(3_000_000)
    write(tmp_path, {"x": content})
    bucket.write({"raw/x": content})
    (stored,) = stored_in(f"{bucket.uri}/raw")
    assert stored.crc32c == crc32c_of(str(tmp_path / "x"))
    assert int.from_bytes(base64.b64decode(stored.crc32c), "big") == google_crc32c.value(content)
