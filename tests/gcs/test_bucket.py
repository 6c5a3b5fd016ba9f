"""The local bucket behaves as the other tests assume, and TensorFlow's own client reads from it."""

import json
import os
import subprocess
import sys
import time
import urllib.request

import pytest
from google.api_core.exceptions import NotFound, PreconditionFailed

from schemas.example import frame_record
from tests.gcs.bucket import Bucket, running_server
from tests.gcs.tls_front import TlsFront

USE_TENSORFLOW = """
import json, sys
import tensorflow as tf

uri = sys.argv[1]
with tf.io.gfile.GFile(f"{uri}/data/head.txt") as file:
    file.seek(6)
    tail = file.read()
names = sorted(tf.io.gfile.glob(f"{uri}/data/*.tfrecord"))
found = {
    "exists": [tf.io.gfile.exists(f"{uri}/{name}") for name in ("data/head.txt", "data", "data/missing.txt")],
    "isdir": [tf.io.gfile.isdir(f"{uri}/{name}") for name in ("data", "data/head.txt")],
    "size": tf.io.gfile.stat(f"{uri}/data/head.txt").length,
    "listdir": sorted(tf.io.gfile.listdir(f"{uri}/data")),
    "names": names,
    "tail": tail,
    "records": [record.numpy().hex() for record in tf.data.TFRecordDataset(names, buffer_size=1024)],
}
print(json.dumps(found))

tf.io.gfile.makedirs(f"{sys.argv[1]}/run")
with tf.io.gfile.GFile(f"{sys.argv[1]}/run/history.csv", "w") as file:
    file.write("epoch,loss" * 1000)
tf.io.gfile.rename(f"{sys.argv[1]}/run/history.csv", f"{sys.argv[1]}/run/final.csv")
"""


def run_python(code: str, *arguments: str, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def answers(address: str) -> bool:
    """Whether a server listens at `address`."""
    try:
        urllib.request.urlopen(f"{address}/storage/v1/b", timeout=5).close()
    except OSError:
        return False
    return True


def test_objects_are_written_listed_and_read(bucket: Bucket) -> None:
    bucket.write({"raw/b.txt": b"two", "raw/a b+ü.txt": b"one", "other/c.txt": b""})
    assert bucket.names() == ["other/c.txt", "raw/a b+ü.txt", "raw/b.txt"]
    assert bucket.read("raw/a b+ü.txt") == b"one"
    listed = bucket.client.list_blobs(bucket.name, prefix="raw/")
    assert [(blob.name, blob.size, bool(blob.md5_hash), bool(blob.crc32c)) for blob in listed] == [
        ("raw/a b+ü.txt", 3, True, True),
        ("raw/b.txt", 3, True, True),
    ]
    with pytest.raises(NotFound):
        bucket.read("raw/missing.txt")


def test_every_test_has_its_own_bucket(bucket: Bucket) -> None:
    assert bucket.names() == []


def test_create_only_writes_are_refused_the_second_time(bucket: Bucket) -> None:
    bucket.client.bucket(bucket.name).blob("manifest.json").upload_from_string(b"first", if_generation_match=0)
    with pytest.raises(PreconditionFailed):
        bucket.client.bucket(bucket.name).blob("manifest.json").upload_from_string(b"second", if_generation_match=0)
    assert bucket.read("manifest.json") == b"first"


def test_a_pinned_generation_is_not_replaced_by_a_newer_one(bucket: Bucket) -> None:
    blob = bucket.client.bucket(bucket.name).blob("image.png")
    blob.upload_from_string(b"old")
    old = blob.generation
    bucket.write({"image.png": b"new"})
    with pytest.raises(NotFound):
        bucket.client.bucket(bucket.name).blob("image.png", generation=old).download_as_bytes()


def test_media_links_point_to_the_local_server(bucket: Bucket) -> None:
    bucket.write({"a/b.txt": b"content"})
    blob = bucket.client.bucket(bucket.name).get_blob("a/b.txt")
    assert blob is not None
    with urllib.request.urlopen(blob.media_link) as response:
        assert response.read() == b"content"


def test_a_client_configured_only_by_the_environment_uses_the_bucket(bucket: Bucket) -> None:
    bucket.write({"a.txt": b"content"})
    code = "import sys; from google.cloud import storage; print(list(storage.Client().list_blobs(sys.argv[1]))[0].name)"
    assert run_python(code, bucket.name) == "a.txt\n"


def test_beam_opens_objects_without_waiting_for_credentials(bucket: Bucket) -> None:
    bucket.write({"a.txt": b"content"})
    code = """
import sys, time
from apache_beam.io.filesystems import FileSystems
start = time.monotonic()
print(FileSystems.open(sys.argv[1]).read(), time.monotonic() - start < 10)
"""
    assert run_python(code, f"{bucket.uri}/a.txt") == "b'content' True\n"


def test_the_server_ends_with_the_process_that_started_it() -> None:
    code = """
import os, signal
from tests.gcs.bucket import running_server
with running_server() as address:
    print(address, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    address = done.stdout.strip()
    assert address.startswith("http://127.0.0.1:"), done.stderr
    deadline = time.monotonic() + 10
    while answers(address) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not answers(address)


def test_the_server_ends_with_its_context() -> None:
    with running_server() as address:
        assert answers(address)
    assert not answers(address)


def test_tensorflow_reads_the_same_records_and_writes_and_renames_an_object(
    bucket: Bucket, tls_front: TlsFront
) -> None:
    records = [os.urandom(size) for size in (1, 900, 4096, 0, 20_000)]
    bucket.write(
        {
            "data/head.txt": b"hello radiograph",
            "data/a-0 of 2.tfrecord": b"".join(map(frame_record, records[:3])),
            "data/b.tfrecord": b"".join(map(frame_record, records[3:])),
        }
    )
    found = json.loads(run_python(USE_TENSORFLOW, bucket.uri, environment=tls_front.environment))
    names = [f"{bucket.uri}/data/a-0 of 2.tfrecord", f"{bucket.uri}/data/b.tfrecord"]
    assert found == {
        "exists": [True, True, False],
        "isdir": [True, False],
        "size": 16,
        "listdir": ["a-0 of 2.tfrecord", "b.tfrecord", "head.txt"],
        "names": names,
        "tail": "radiograph",
        "records": [record.hex() for record in records],
    }
    assert tls_front.objects_read(bucket.name) == {"data/head.txt", "data/a-0 of 2.tfrecord", "data/b.tfrecord"}
    assert any(request.range for request in tls_front.requests)
    assert bucket.read("run/final.csv") == b"epoch,loss" * 1000
    assert "run/history.csv" not in bucket.names()


def test_the_tls_front_refuses_other_hosts(tls_front: TlsFront) -> None:
    proxy = urllib.request.ProxyHandler({"https": tls_front.environment["https_proxy"]})
    with pytest.raises(OSError, match="403"):
        urllib.request.build_opener(proxy).open("https://example.org/", timeout=10)
    assert tls_front.requests == []
