"""Keyed pseudonyms, and checks that the key itself is written nowhere."""

import base64
import bz2
import contextlib
import hashlib
import hmac
import re
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path

import apache_beam as beam
import grpc
import pytest
from google.cloud import secretmanager
from google.cloud.secretmanager_v1.services.secret_manager_service.transports import SecretManagerServiceGrpcTransport

from beam_jobs.flags import config_of, parser
from beam_jobs.pipeline import define_pipeline
from beam_jobs.publish import releases
from beam_jobs.reading.manifest import require_manifest
from beam_jobs.reading.shards import read_examples
from beam_jobs.settings import id_key
from schemas.errors import JobFailed, UsageError
from tests.beam_jobs.made import config
from tests.conftest import Result, convert_command, files_of, labelled, manifest_of, write_images
from tests.gcs.bucket import Bucket

Convert = Callable[..., Result]
KEY = "kumquat-5f21c0de-lantern"


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "the.key"
    path.write_text(KEY + "\n")
    return path


def ids_of(folder: Path) -> dict[str, str]:
    """id -> group of every record."""
    manifest = require_manifest(str(folder))
    return {e.id: e.group for split in manifest.splits for e in read_examples(str(folder), manifest, split)}


def keyed(kind: str, name: str) -> str:
    return hmac.new(KEY.encode(), f"{kind}\0{name}".encode(), hashlib.sha256).hexdigest()[:32]


def test_ids_and_groups_are_keyed_and_the_manifest_says_so(tmp_path: Path, key_file: Path, convert: Convert) -> None:
    names = labelled(6)
    raw = write_images(tmp_path / "raw", names)
    assert convert(raw, tmp_path / "keyed", "--id_key_file", key_file).code == 0
    assert convert(raw, tmp_path / "plain").code == 0
    assert ids_of(tmp_path / "keyed") == {keyed("id", name): keyed("group", name) for name in names}
    assert not ids_of(tmp_path / "keyed").keys() & ids_of(tmp_path / "plain").keys()
    assert manifest_of(tmp_path / "keyed")["settings"]["keyed_ids"] is True
    assert manifest_of(tmp_path / "plain")["settings"]["keyed_ids"] is False
    key_file.write_bytes(KEY.encode() + b"\r\n")  # editors add a line break, which is not part of the key
    assert convert(raw, tmp_path / "again", "--id_key_file", key_file).code == 0
    assert files_of(tmp_path / "again") == files_of(tmp_path / "keyed")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "does not exist"),
        (b"", "holds 0 bytes"),
        (b"\n" * 40, "holds 0 bytes"),
        (b"fifteen bytes..\n", "holds 15 bytes"),
    ],
)
def test_a_bad_key_is_reported_in_one_line(tmp_path: Path, convert: Convert, content: bytes | None, says: str) -> None:
    raw = write_images(tmp_path / "raw", labelled(2))
    if content is not None:
        (tmp_path / "key").write_bytes(content)
    result = convert(raw, tmp_path / "out", "--id_key_file", tmp_path / "key")
    assert result.code == 2
    assert says in result.error
    assert content is None or content.strip() == b"" or content.strip().decode() not in result.error
    assert not (tmp_path / "out").exists()


def test_a_folder_is_not_accepted_as_a_key(tmp_path: Path, convert: Convert) -> None:
    raw = write_images(tmp_path / "raw", labelled(2))
    result = convert(raw, tmp_path / "out", "--id_key_file", raw)
    assert result.code == 2
    assert "cannot be read" in result.error


def test_a_remote_runner_needs_a_key_that_its_workers_can_read(key_file: Path) -> None:
    with pytest.raises(UsageError, match="gs:// object or projects/P/secrets/S/versions/V"):
        id_key.check_place(str(key_file), local=False)
    for place in ("gs://bucket/key", "projects/p/secrets/s/versions/1"):
        id_key.check_place(place, local=False)


def test_an_unfinished_conversion_is_not_finished_with_another_key(
    tmp_path: Path, key_file: Path, convert: Convert
) -> None:
    raw = write_images(tmp_path / "raw", labelled(10))
    (raw / "NORMAL/0.png").write_bytes(b"")
    flags = ("--id_key_file", key_file, "--max_reject_fraction")
    assert convert(raw, tmp_path / "out", *flags, 0).code == 1
    key_file.write_text("another key, as long as needed")
    other = convert(raw, tmp_path / "out", *flags, 1)
    assert other.code == 2
    assert "unfinished conversion with other settings" in other.error
    key_file.rename(tmp_path / "moved.key")
    (tmp_path / "moved.key").write_text(KEY)  # the same key in another file continues the conversion
    assert convert(raw, tmp_path / "out", "--id_key_file", tmp_path / "moved.key", "--max_reject_fraction", 1).code == 0


def test_a_worker_notices_a_different_key(key_file: Path) -> None:
    made = config(id_key_file=str(key_file), id_key_check=id_key.check_value(KEY.encode()))
    assert id_key.id_key(made) == KEY.encode()
    other = config(id_key_file=str(key_file), id_key_check=id_key.check_value(b"x" * 16))
    with pytest.raises(JobFailed, match="a different key than when the job started"):
        id_key.id_key(other)
    assert id_key.id_key(config()) == b""


def unpacked(graph: bytes) -> bytes:
    """The bytes of a pipeline and of all that Beam packs in it: pickles, compressed with bz2 or zlib, in base64."""
    found, waiting = graph, [graph]
    while waiting:
        for word in set(re.findall(rb"(?:QlpoO|eJ)[A-Za-z0-9+/]{20,}=*", waiting.pop())):
            with contextlib.suppress(ValueError, OSError, zlib.error):
                packed = base64.b64decode(word)
                content = bz2.decompress(packed) if packed.startswith(b"BZh") else zlib.decompress(packed)
                found += content
                waiting.append(content)
    return found


def test_the_key_is_not_in_the_job_graph(tmp_path: Path, key_file: Path) -> None:
    raw = write_images(tmp_path / "raw", labelled(2))
    flags = parser().parse_args(
        ["--input", str(raw), "--output", str(tmp_path / "out"), "--id_key_file", str(key_file)]
    )
    made = config_of(flags, local=True)
    id_key.id_key(made)  # a process that has read the key must not pickle it either
    pipeline = beam.Pipeline()
    define_pipeline(pipeline, made, releases.release_of(made, 1), str(tmp_path))
    graph = unpacked(pipeline.to_runner_api().SerializeToString())
    assert str(key_file).encode() in graph  # shows that the test looks inside the pickled functions
    assert KEY.encode() not in graph
    assert base64.b64encode(KEY.encode()) not in graph
    assert KEY not in repr(made)


@pytest.mark.parametrize("beam_flags", [(), ("--direct_running_mode=multi_processing", "--direct_num_workers=2")])
def test_the_key_is_not_in_any_output_or_log(tmp_path: Path, key_file: Path, beam_flags: tuple[str, ...]) -> None:
    raw = write_images(tmp_path / "raw", labelled(10))
    (raw / "NORMAL/0.png").write_bytes(b"")
    command = convert_command(
        raw, tmp_path / "out", "--debug", "--id_key_file", key_file, *beam_flags, "--max_reject_fraction"
    )
    for fraction, code in (("0", 1), ("1", 0)):  # the first run leaves its work folder, the second publishes
        done = subprocess.run([*command, fraction], capture_output=True, timeout=300)
        assert done.returncode == code, done.stderr.decode()
        written = files_of(tmp_path / "out")
        assert any(name.startswith("_work/") for name in written) == (code == 1)
        for where, content in {**written, "stdout": done.stdout, "stderr": done.stderr}.items():
            assert KEY.encode() not in content, where
            assert KEY.encode().hex().encode() not in content, where
            assert base64.b64encode(KEY.encode())[:30] not in content, where


def test_a_key_is_read_from_a_bucket(tmp_path: Path, bucket: Bucket, convert: Convert) -> None:
    names = labelled(3)
    raw = write_images(tmp_path / "raw", names)
    bucket.write({"keys/ids": KEY.encode()})
    assert convert(raw, tmp_path / "out", "--id_key_file", f"{bucket.uri}/keys/ids").code == 0
    assert ids_of(tmp_path / "out").keys() == {keyed("id", name) for name in names}
    missing = convert(raw, tmp_path / "other", "--id_key_file", f"{bucket.uri}/keys/none")
    assert missing.code == 2
    assert "does not exist" in missing.error


SECRET = "projects/p/secrets/ids/versions/3"


@contextlib.contextmanager
def secret_manager(secrets: dict[str, tuple[bytes, int]]) -> Iterator[secretmanager.SecretManagerServiceClient]:
    """A client of a small local server that speaks Secret Manager's protocol: name -> (payload, checksum)."""

    def access(request: secretmanager.AccessSecretVersionRequest, context: grpc.ServicerContext) -> object:
        if request.name not in secrets:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "Permission denied\non two lines")
        data, checksum = secrets[request.name]
        return secretmanager.AccessSecretVersionResponse(
            name=request.name, payload=secretmanager.SecretPayload(data=data, data_crc32c=checksum)
        )

    handler = grpc.unary_unary_rpc_method_handler(
        access,
        request_deserializer=secretmanager.AccessSecretVersionRequest.deserialize,
        response_serializer=secretmanager.AccessSecretVersionResponse.serialize,
    )
    server = grpc.server(futures.ThreadPoolExecutor(1))
    service = "google.cloud.secretmanager.v1.SecretManagerService"
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"AccessSecretVersion": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            transport = SecretManagerServiceGrpcTransport(channel=channel)
            yield secretmanager.SecretManagerServiceClient(transport=transport)
    finally:
        server.stop(None).wait()


def test_a_secret_is_read_from_secret_manager() -> None:
    import google_crc32c

    data = b"sixteen bytes or more"
    with secret_manager({SECRET: (data, google_crc32c.value(data))}) as client:
        assert id_key.secret_payload(SECRET, client) == data
        with pytest.raises(UsageError, match=r"PermissionDenied; .*secretAccessor") as caught:
            id_key.secret_payload("projects/p/secrets/other/versions/1", client)
        assert "\n" not in str(caught.value)
    with secret_manager({SECRET: (data, 12345)}) as client, pytest.raises(UsageError, match="damaged in transit"):
        id_key.secret_payload(SECRET, client)


def test_a_secret_without_the_gcp_extra_is_reported_in_one_line(
    tmp_path: Path, convert: Convert, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = write_images(tmp_path / "raw", labelled(2))
    monkeypatch.delattr("google.cloud.secretmanager")
    monkeypatch.setitem(sys.modules, "google.cloud.secretmanager", None)
    result = convert(raw, tmp_path / "out", "--id_key_file", SECRET)
    assert result.code == 2
    assert ".[gcp]" in result.error
