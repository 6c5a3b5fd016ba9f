"""Files on disk and in a bucket, read with each client."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from tests.gcs.bucket import Bucket
from tests.gcs.tls_front import TlsFront
from training.reading import files

ROOT = Path(__file__).parents[3]
CONTENT = {"data/a.bin": b"0123456789", "data/b c+ü.bin": b"", "data/deep/er/c.bin": b"three", "other.bin": b"x"}

LOOK = """
import json, sys
import numpy as np
from training.reading import files

def outcome(call, *arguments):
    try:
        return call(*arguments)
    except OSError as error:
        return type(error).__name__

root, names = sys.argv[1], ("data/a.bin", "data/b c+ü.bin", "data/no")
buffers = [np.zeros(size, np.uint8) for size in (10, 7)]
print(json.dumps({
    "read": [outcome(lambda name: files.read(f"{root}/{name}").decode(), name) for name in names],
    "read_into": [files.read_into(f"{root}/data/a.bin", buffer).size for buffer in buffers],
    "buffer": buffers[0].tobytes().decode(),
    "missing": outcome(files.read_into, f"{root}/data/no", buffers[0]),
    "size": [outcome(files.size, f"{root}/{name}") for name in ("data/a.bin", "data/no")],
    "names": [outcome(files.names, f"{root}/data"), outcome(files.names, f"{root}/data/")],
    "is_folder": [files.is_folder(f"{root}/{name}") for name in ("data", "data/", "data/a.bin", "dat", "none")],
    "walk": [(folder.removeprefix(root), names) for folder, names in files.walk(f"{root}/data/")],
    "tensorflow": "tensorflow" in sys.modules,
}))
"""
FOUND = {
    "read": ["0123456789", "", "FileNotFoundError"],
    "read_into": [10, 10],
    "buffer": "0123456789",
    "missing": "FileNotFoundError",
    "size": [10, "FileNotFoundError"],
    "names": [["a.bin", "b c+ü.bin", "deep"]] * 2,
    "is_folder": [True, True, False, False, False],
}
# Of a folder that holds only folders, there may be a line without files.
WALK = [["/data", ["a.bin", "b c+ü.bin"]], ["/data/deep/er", ["c.bin"]]]


def look(root: str, environment: dict[str, str]) -> dict[str, object]:
    """What `files` finds below `root`, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", LOOK, root], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, object] = json.loads(done.stdout)
    walk = found.pop("walk")
    assert isinstance(walk, list)
    assert [part for part in walk if part[1]] == WALK
    return found


def test_a_folder_on_disk(tmp_path: Path) -> None:
    for name, content in CONTENT.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    assert look(str(tmp_path), dict(os.environ)) == {**FOUND, "tensorflow": False}


def test_a_bucket_without_tensorflow(bucket: Bucket) -> None:
    bucket.write(CONTENT)
    assert look(bucket.uri, {**os.environ, "KERAS_BACKEND": "jax"}) == {**FOUND, "tensorflow": False}


@pytest.mark.skipif(find_spec("tensorflow") is None, reason="of TensorFlow")
def test_a_bucket_with_tensorflow(bucket: Bucket, tls_front: TlsFront) -> None:
    bucket.write(CONTENT)
    assert look(bucket.uri, {**tls_front.environment, "KERAS_BACKEND": "tensorflow"}) == {**FOUND, "tensorflow": True}


def test_a_missing_client_is_named(bucket_server: str) -> None:
    code = (
        "import sys; sys.modules['google.cloud.storage'] = None\n"
        "from schemas.errors import run_command; from training.reading.files import read\n"
        "sys.exit(run_command(lambda _: read('gs://a/b')))"
    )
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == (
        "error: gs:// paths need google-cloud-storage where TensorFlow is not the backend; in a clone, run: "
        "pip install '.[gcp]'\n"
    )


def test_a_local_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        files.read(str(tmp_path))
    with pytest.raises(IsADirectoryError):
        files.read_into(str(tmp_path), np.zeros(1, np.uint8))
