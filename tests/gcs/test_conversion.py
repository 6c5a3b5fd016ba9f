"""The conversion from bucket to bucket, over HTTP, and training that reads the result through TensorFlow's own client."""

import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import pyarrow
import pyarrow.parquet
import pytest

from beam_jobs import show, verify
from beam_jobs.discover.listing import check_input, parts_of
from beam_jobs.discover.prefixes import list_prefix
from beam_jobs.settings.config import ConvertConfig
from beam_jobs.storage import storage
from schemas.dataset import Manifest
from tests.beam_jobs.published_sets import mimic
from tests.conftest import Result, files_of, labelled, write_images
from tests.gcs.bucket import Bucket
from tests.gcs.front import Fault, Request, Traffic, no_faults
from tests.gcs.tls_front import TlsFront

Convert = Callable[..., Result]


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = write_images(tmp_path / "raw", labelled(10, "train", "val", "test", suffix=".jpeg"))
    (folder / "train/NORMAL/copy.jpeg").write_bytes((folder / "train/NORMAL/1.jpeg").read_bytes())
    (folder / "train/NORMAL/broken.jpeg").write_bytes((folder / "train/NORMAL/2.jpeg").read_bytes()[:200])
    return folder


def test_bucket_to_bucket_gives_the_same_data_set_as_disk_to_disk(
    raw: Path, tmp_path: Path, bucket: Bucket, convert: Convert, command: Convert
) -> None:
    bucket.upload_folder(raw, "raw")
    bucket.write({"raw/": b"", "raw/train/": b"", "raw/train/NORMAL/": b""})
    assert convert(raw, tmp_path / "out/1.0.0", "--shards", 2).code == 0
    result = convert(f"{bucket.uri}/raw", f"{bucket.uri}/out/1.0.0", "--shards", 2)
    assert result.code == 0, result.err
    assert (
        "65 listed = 60 written + 1 quarantined (1 truncated) + 1 duplicates + 3 skipped (3 folder_marker)"
        in result.out
    )
    local = files_of(tmp_path / "out/1.0.0")
    remote = {name.removeprefix("out/1.0.0/"): bucket.read(name) for name in bucket.names() if name.startswith("out/")}
    assert remote.keys() == local.keys()
    differing = {name for name in local if local[name] != remote[name]}
    # These files hold counts of folder markers, URIs and versions.
    assert differing == {"manifest.json", "quarantine.jsonl", "reuse.json"}
    assert json.loads(remote["quarantine.jsonl"])["uri"] == f"{bucket.uri}/raw/train/NORMAL/broken.jpeg"
    assert command(verify.main, f"{bucket.uri}/out/1.0.0/").code == 0
    assert command(show.main, f"{bucket.uri}/out/1.0.0", "--count", 2).code == 0


@pytest.mark.parametrize("count", [1_000, 1_001])
def test_a_folder_is_one_part_of_the_listing_if_one_request_lists_it(bucket: Bucket, count: int) -> None:
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda n: bucket.write({f"raw/{'AB'[n % 2]}/{n}.png": b"x"}), range(count)))
    root = f"{bucket.uri}/raw"
    config = ConvertConfig(input=root, output=f"{bucket.uri}/out")
    small = check_input(config)
    assert small == (count == 1_000)
    parts = parts_of(replace(config, small_input=small))
    listed = [file.path for part in parts for block in list_prefix(part, root) for file in block]
    assert sorted(listed) == sorted(f"{'AB'[n % 2]}/{n}.png" for n in range(count))
    divided = [(root, False), (f"{root}/A", True), (f"{root}/B", True)]
    assert sorted(parts) == ([(root, True)] if count == 1_000 else divided)


def first_train_shard_goes_away() -> Callable[[Request], Fault]:
    """It is gone from the work folder when its content is read there."""
    gone = False

    def fault(request: Request) -> Fault:
        nonlocal gone
        name = unquote(request.target).partition("?")[0]
        if request.method != "GET" or "/_work/" not in name or "train.tfrecord-00000" not in name or ".json" in name:
            return None
        gone = gone or request.reads is not None
        return 404 if gone else None

    return fault


def test_shards_that_were_moved_already_give_the_same_files(
    raw: Path, bucket: Bucket, convert: Convert, front: Traffic
) -> None:
    """By a run that was stopped while it published, and by another run while their first images are read."""
    bucket.upload_folder(raw, "raw")

    def publish(number: int) -> Result:
        return convert(f"{bucket.uri}/raw", f"{bucket.uri}/{number}/1.0.0", "--shards", 2)

    assert publish(0).code == 0
    front.faults = lambda request: 403 if "train.tfrecord-00001" in request.target.partition("/copyTo/")[2] else None
    assert publish(1).code == 1
    assert any(name.startswith("1/1.0.0/cxr-train.tfrecord-00000") for name in bucket.names())
    front.faults = no_faults
    assert publish(1).code == 0
    front.faults = first_train_shard_goes_away()
    assert publish(2).code == 0
    undisturbed, *others = (
        {name.partition("/")[2]: bucket.read(name) for name in bucket.names() if name.startswith(f"{number}/")}
        for number in range(3)
    )
    assert others == [undisturbed, undisturbed]


def test_a_csv_in_a_bucket_is_read(raw: Path, bucket: Bucket, convert: Convert) -> None:
    bucket.upload_folder(raw, "raw")
    rows = [f"{bucket.uri}/raw/{p.relative_to(raw)},{p.parent.name}" for p in sorted(raw.rglob("?.jpeg"))]
    rows[0] = rows[0].removeprefix(f"{bucket.uri}/raw/")
    bucket.write({"rows.csv": "\n".join(["image_uri,label", *rows]).encode()})
    output = f"{bucket.uri}/out"
    result = convert(f"{bucket.uri}/raw", output, "--manifest", f"{bucket.uri}/rows.csv")
    assert result.code == 0, result.err
    assert f"{len(rows)} listed = {len(rows)} written" in result.out


def test_compressed_tables_in_a_bucket_give_the_same_records(tmp_path: Path, bucket: Bucket, convert: Convert) -> None:
    mimic(tmp_path / "raw")
    bucket.upload_folder(tmp_path / "raw", "some/prefix")
    assert convert(tmp_path / "raw", tmp_path / "local", "--preset", "mimic-cxr").code == 0
    result = convert(f"{bucket.uri}/some/prefix", tmp_path / "remote", "--preset", "mimic-cxr")
    assert result.code == 0, result.err
    local, remote = files_of(tmp_path / "local"), files_of(tmp_path / "remote")
    assert {name for name in local if local[name] != remote[name]} <= {"reuse.json"}


def test_a_preset_with_a_parquet_table_is_read_from_a_bucket(tmp_path: Path, bucket: Bucket, convert: Convert) -> None:
    names = [f"images_001/images/{n:08d}_000.png" for n in range(12)]
    bucket.upload_folder(write_images(tmp_path / "raw", names), "nih")
    rows = pyarrow.table(
        {
            "Image Index": [name.rsplit("/", 1)[1] for name in names],
            "Finding Labels": ["Mass|Nodule" if n % 2 else "No Finding" for n in range(12)],
            "Patient ID": list(range(12)),
        }
    )
    pyarrow.parquet.write_table(rows, tmp_path / "rows.parquet")
    bucket.write(
        {
            "rows.parquet": (tmp_path / "rows.parquet").read_bytes(),
            "nih/test_list.txt": names[0].rsplit("/", 1)[1].encode(),
        }
    )
    flags = ("--preset", "nih14", "--manifest", f"{bucket.uri}/rows.parquet")
    result = convert(f"{bucket.uri}/nih", tmp_path / "out", *flags)
    assert result.code == 0, result.err
    assert "13 listed = 12 written + 0 quarantined + 0 duplicates + 1 skipped" in result.out
    assert json.loads((tmp_path / "out/manifest.json").read_text())["splits"]["test"]["examples"] == 1


def test_a_published_bucket_folder_is_left_alone_unless_overwritten(
    raw: Path, bucket: Bucket, convert: Convert
) -> None:
    output = f"{bucket.uri}/out"
    assert convert(raw, output, "--max_reject_fraction", 0.5).code == 0
    before = {name: bucket.read(name) for name in bucket.names()}
    again = convert(raw, output)
    assert again.code == 2
    assert "published" in again.error
    assert {name: bucket.read(name) for name in bucket.names()} == before
    assert convert(raw, output, "--overwrite", "--shards", 2, "--max_reject_fraction", 0.5).code == 0
    names = [name for name in bucket.names() if ".tfrecord-" in name]
    assert len(names) == 6
    assert all("cxr-r2-" in name for name in names)


def test_a_write_over_another_generation_is_refused(bucket: Bucket) -> None:
    target = f"{bucket.uri}/file"
    storage.write_bytes(target, b"first", create_only=True)
    found = storage.stat(target, "")
    assert found
    storage.write_bytes(target, b"second", over=found.version)
    for version in (0, found.version):
        with pytest.raises(storage.AlreadyExistsError):
            storage.write_bytes(target, b"third", over=version)
    assert bucket.read("file") == b"second"


@pytest.mark.parametrize("where", ["missing bucket", "empty bucket", "missing folder"])
def test_an_input_that_cannot_be_listed_is_reported_in_one_line(
    where: str, tmp_path: Path, bucket: Bucket, convert: Convert
) -> None:
    source = {"missing bucket": "gs://no-such-bucket/raw", "empty bucket": bucket.uri}.get(where, f"{bucket.uri}/none")
    result = convert(source, tmp_path / "out")
    assert result.code == 2
    assert source in result.error
    assert not (tmp_path / "out").exists()


def test_a_missing_output_bucket_is_reported_in_one_line(raw: Path, convert: Convert, bucket: Bucket) -> None:
    result = convert(raw, "gs://no-such-bucket/out")
    assert result.code in (1, 2)
    assert "no-such-bucket" in result.error


def test_training_reads_the_bucket_through_tensorflows_own_client(
    raw: Path, tmp_path: Path, bucket: Bucket, tls_front: TlsFront, convert: Convert
) -> None:
    data = f"{bucket.uri}/out/1.0.0"
    assert convert(raw, data, "--max_reject_fraction", 0.5, "--shards", 2).code == 0
    run = str(tmp_path / "run")
    words = ["--data", data, "--recipe", "model1", "--output", run, "--epochs", "1", "--cache", "disk", "--overwrite"]
    code = f"""
from schemas.errors import run_command
from training import evaluate, train
assert run_command(train.main, {words}) == 0
print("again", flush=True)
assert run_command(train.main, {words}) == 0
assert run_command(evaluate.main, ["--run", {run!r}, "--data", {data!r}, "--split", "test"]) == 0
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**tls_front.environment, "XDG_CACHE_HOME": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "cache: disk (as asked" in done.stdout
    manifest = Manifest.from_json(bucket.read("out/1.0.0/manifest.json").decode(), data)
    kept = [shard for split in ("train", "validation") for shard in manifest.splits[split] if shard.examples]
    assert {path.name for path in (tmp_path / "cache/radrecords").iterdir()} == {shard.sha256 for shard in kept}
    # The second run has read no shard, and neither has the choice of the threshold.
    asked = tls_front.traffic.reads(f"{bucket.name}/out/1.0.0/")
    names = [f"{bucket.name}/out/1.0.0/{shard.file}" for shard in kept]
    assert {name: asked[name] for name in names} == dict.fromkeys(names, 1)
    assert json.loads((tmp_path / "run/metrics.json").read_text())["examples"] == 20
    assert any(".tfrecord-" in str(request) for request in tls_front.requests)
