"""The storage of conversions, uploads and downloads behind a network that fails: what is asked again, and what it costs."""

import contextlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from beam_jobs import download, upload
from beam_jobs.storage import client as storage_client
from beam_jobs.storage import storage
from schemas.errors import JobFailed
from tests.conftest import Result, files_of, labelled, write_images
from tests.gcs.bucket import Bucket
from tests.gcs.front import (
    CUT,
    EVERY_RETRYABLE,
    FLIPPED,
    LOST,
    RESET,
    Fault,
    Faults,
    Request,
    Traffic,
    no_faults,
    random_faults,
)

Command = Callable[..., Result]
KINDS = len(EVERY_RETRYABLE)


def first_fails(fault: Fault) -> Faults:
    """The first request of each kind fails; nothing of the client's own requests about the bucket."""
    return lambda request: fault if request.number == 0 and "/o" in request.target else None


def of_reads(fault: Fault) -> Faults:
    """Every read of an object fails."""
    return lambda request: fault if request.reads else None


def use(uri: str) -> Iterator[object]:
    """Every way in which a conversion uses a bucket, and what it sees."""
    with contextlib.suppress(storage.AlreadyExistsError):  # of an attempt whose answer was cut; releases.py compares
        storage.write_bytes(f"{uri}/a/one", b"one" * 100, create_only=True)
    with storage.new_file(f"{uri}/a") as file:
        file.write(b"two" * 100)
        storage.keep(file, f"{uri}/a/two")
    yield [(file.path, file.size, file.checksum) for file in storage.list_files(f"{uri}/a", uri)]
    yield storage.subfolders(uri, uri)
    found = storage.stat(f"{uri}/a/one", "one")
    assert found
    yield storage.read_bytes(f"{uri}/a/one", found.version)
    storage.put_in_place(f"{uri}/a/two", f"{uri}/b")
    with storage.open_binary(f"{uri}/b") as content:
        yield content.read()
    with storage.open_text(f"{uri}/b") as text:
        yield text.read()
    yield storage.exists(f"{uri}/a/two")
    storage.delete(f"{uri}/b")
    storage.delete_folder(f"{uri}/a")
    yield list(storage.list_files(uri, uri))


@pytest.mark.parametrize("fault", EVERY_RETRYABLE)
def test_every_request_is_repeated(fault: Fault, bucket: Bucket, front: Traffic) -> None:
    undisturbed = list(use(f"{bucket.uri}/x"))
    front.clear()
    front.faults = first_fails(fault)
    assert list(use(f"{bucket.uri}/x")) == undisturbed
    assert len({request.target for request, _ in front.failed}) > 10


def test_a_read_is_one_request_of_the_listed_generation(bucket: Bucket, front: Traffic) -> None:
    bucket.write({"raw/a.png": b"a" * 5000})
    found = storage.stat(f"{bucket.uri}/raw/a.png", "a.png")
    assert found
    front.clear()
    assert storage.read_bytes(found.uri, found.version) == b"a" * 5000
    assert [f"generation={found.version}" in request.target for request in front.requests if request.reads] == [True]


@pytest.mark.parametrize("fault", [FLIPPED, CUT, RESET, 503])
def test_an_image_is_read_again_as_a_whole(fault: Fault, bucket: Bucket, front: Traffic) -> None:
    """Because the client checks no checksum of a body with which it goes on."""
    content = os.urandom(100_000)
    bucket.write({"a.png": content})
    front.faults = lambda request: fault if request.reads and request.number < 3 else None
    assert storage.read_bytes(f"{bucket.uri}/a.png") == content
    asked = [request for request in front.requests if request.reads]
    assert [(request.range, request.number) for request in asked] == [("", number) for number in range(4)]


def test_what_stays_wrong_is_an_error_of_one_line(
    bucket: Bucket, front: Traffic, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.write({"a.png": b"content"})
    monkeypatch.setattr(storage_client, "_GIVE_UP", 0.2)
    storage_client.patience.cache_clear()
    for fault, said in ((FLIPPED, "checksum"), (503, "503"), (RESET, "Connection")):
        front.faults = of_reads(fault)
        with pytest.raises(JobFailed, match=said):
            storage.read_bytes(f"{bucket.uri}/a.png")
    front.clear()
    front.faults = of_reads(403)
    with pytest.raises(JobFailed, match="permission denied"):
        storage.read_bytes(f"{bucket.uri}/a.png")
    assert len(front.failed) == 1
    storage_client.patience.cache_clear()


def replaced_when_read(bucket: Bucket, name: str, content: bytes | None) -> Faults:
    """Replaces or deletes an object when it is read for the first time, after it has been listed."""

    def fault(request: Request) -> Fault:
        if request.reads == f"{bucket.name}/{name}" and request.number == 0:
            if content is None:
                bucket.client.bucket(bucket.name).blob(name).delete()
            else:
                bucket.write({name: content})
        return None

    return fault


@pytest.mark.parametrize("table", [False, True], ids=["folders", "table"])
def test_an_object_replaced_since_it_was_listed_is_quarantined(
    table: bool, tmp_path: Path, bucket: Bucket, front: Traffic, convert: Command
) -> None:
    raw = write_images(tmp_path / "raw", labelled(10, "train"))
    bucket.upload_folder(raw, "raw")
    name = "train/NORMAL/3.png"
    (raw / name).write_bytes((write_images(tmp_path / "new", {"x.png": 77}) / "x.png").read_bytes())
    front.faults = replaced_when_read(bucket, f"raw/{name}", (raw / name).read_bytes())
    flags = ["--max_reject_fraction", "1"]
    if table:
        rows = [f"{p.relative_to(raw)},{p.parent.name}" for p in sorted(raw.rglob("*.png"))]
        bucket.write({"rows.csv": "\n".join(["image_uri,label", *rows]).encode()})
        flags += ["--manifest", f"{bucket.uri}/rows.csv"]
    result = convert(f"{bucket.uri}/raw", tmp_path / "out/1.0.0", *flags)
    assert result.code == 0, result.err
    assert "1 quarantined (1 changed_since_listing)" in result.out
    (line,) = (tmp_path / "out/1.0.0/quarantine.jsonl").read_text().splitlines()
    found = json.loads(line)
    assert (found["uri"], found["stage"], found["reason"]) == (
        f"{bucket.uri}/raw/{name}",
        "read",
        "changed_since_listing",
    )
    if table:
        return
    again = convert(f"{bucket.uri}/raw", tmp_path / "out/1.0.1", *flags, "--retry_quarantine", tmp_path / "out/1.0.0")
    assert again.code == 0, again.err
    assert convert(f"{bucket.uri}/raw", tmp_path / "whole/1.0.1", *flags).code == 0
    assert files_of(tmp_path / "out/1.0.1") == files_of(tmp_path / "whole/1.0.1")


def test_an_object_deleted_since_it_was_listed_is_missing(
    tmp_path: Path, bucket: Bucket, front: Traffic, convert: Command
) -> None:
    bucket.upload_folder(write_images(tmp_path / "raw", labelled(4, "train")), "raw")
    front.faults = replaced_when_read(bucket, "raw/train/NORMAL/3.png", None)
    result = convert(f"{bucket.uri}/raw", tmp_path / "out", "--max_reject_fraction", "1")
    assert result.code == 0, result.err
    assert "1 quarantined (1 missing)" in result.out


@pytest.mark.faults
def test_a_folder_goes_up_and_down_through_faults(
    tmp_path: Path, bucket: Bucket, front: Traffic, command: Command
) -> None:
    files = {f"{n % 7}/{n}.png": os.urandom(n * 13) for n in range(150)} | {"large": os.urandom(9_000_000)}
    for name, content in files.items():
        (tmp_path / "raw" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "raw" / name).write_bytes(content)
    for kinds in (EVERY_RETRYABLE, (LOST, FLIPPED)):
        front.clear()
        front.faults = random_faults(3, 0.05 * len(kinds), kinds)
        prefix = f"raw{len(kinds)}"
        up = command(upload.main, tmp_path / "raw", f"{bucket.uri}/{prefix}")
        assert up.code == 0, up.err
        assert "uploaded 151 files" in up.out
        down = command(download.main, f"{bucket.uri}/{prefix}", tmp_path / prefix)
        assert down.code == 0, down.err
        assert files_of(tmp_path / prefix) == files
        assert {fault for _, fault in front.failed} == set(kinds)
        front.faults = no_faults


def test_an_upload_that_a_bucket_refuses_ends_at_once(
    tmp_path: Path, bucket: Bucket, front: Traffic, command: Command
) -> None:
    write_images(tmp_path / "raw", labelled(40))
    front.faults = lambda request: 403 if request.method == "POST" else None
    refused = command(upload.main, tmp_path / "raw", f"{bucket.uri}/raw")
    assert refused.code == 1
    assert "permission denied" in refused.error
    bucket.write({"raw/a.png": b"a"})
    front.faults = of_reads(403)
    refused = command(download.main, f"{bucket.uri}/raw", tmp_path / "copy")
    assert refused.code == 1
    assert "permission denied" in refused.error


@pytest.mark.faults
def test_a_conversion_through_faults_and_latency_is_byte_identical(
    tmp_path: Path, bucket: Bucket, front: Traffic, convert: Command
) -> None:
    bucket.upload_folder(write_images(tmp_path / "raw", labelled(167, "train", "val", "test")), "raw")

    def converted(folder: str) -> dict[str, bytes]:
        result = convert(f"{bucket.uri}/raw", f"{bucket.uri}/{folder}/1.0.0")
        assert result.code == 0, result.err
        assert "1,002 listed = 1,002 written" in result.out
        return {n.removeprefix(folder): bucket.read(n) for n in bucket.names() if n.startswith(f"{folder}/")}

    undisturbed = converted("undisturbed")
    front.clear()
    front.latency, front.faults = 0.05, random_faults(1, 0.05 * KINDS, EVERY_RETRYABLE)
    assert converted("disturbed") == undisturbed
    assert {fault for _, fault in front.failed} == set(EVERY_RETRYABLE)
    failed = Counter(request.reads for request, _ in front.failed if request.reads)
    reads = front.reads(f"{bucket.name}/raw/")
    assert len(reads) == 1002
    assert all(count == 1 + failed[name] for name, count in reads.items())


def test_a_large_file_is_read_in_parts_and_never_mixed_with_its_replacement(bucket: Bucket, front: Traffic) -> None:
    content = os.urandom(10_000_001)
    bucket.write({"large": content})
    front.faults = random_faults(3, 0.05 * KINDS, EVERY_RETRYABLE)
    with storage.open_binary(f"{bucket.uri}/large") as file:
        assert file.read(5) == content[:5]
        assert file.seek(-7, os.SEEK_END) == len(content) - 7
        assert (file.read(), file.read()) == (content[-7:], b"")
        file.seek(4_194_300)  # the end of the first part
        assert file.read(20) == content[4_194_300:4_194_320]
        file.seek(0)
        assert file.read() == content
    front.faults = no_faults
    with storage.open_binary(f"{bucket.uri}/large") as file:
        assert file.read(5) == content[:5]
        bucket.write({"large": b"x" * 100})
        with pytest.raises(FileNotFoundError, match=f"{bucket.uri}/large"):
            file.read()
