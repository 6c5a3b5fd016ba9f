"""The fixtures `bucket`, `front` and `tls_front`; tests/conftest.py makes them available to all tests."""

import os
from collections.abc import Iterator

import pytest

from beam_jobs.storage.client import client
from tests.gcs.bucket import Bucket, bucket_environment, fresh_bucket, running_server
from tests.gcs.front import Traffic, running_front
from tests.gcs.tls_front import TlsFront
from tests.gcs.tls_front import running_front as running_tls_front


@pytest.fixture(scope="session")
def bucket_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the local server, which this process and its children use for gs:// while the tests run."""
    with running_server() as address, pytest.MonkeyPatch.context() as patch:
        for name, value in bucket_environment(address, tmp_path_factory.mktemp("gcs")).items():
            patch.setenv(name, value)
        yield address


@pytest.fixture
def bucket(bucket_server: str) -> Iterator[Bucket]:
    """A fresh bucket for one test."""
    with fresh_bucket(bucket_server) as made:
        yield made


@pytest.fixture
def front(bucket_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Traffic]:
    """What this process and its children ask of gs:// passes a front."""
    traffic = Traffic()
    with running_front(bucket_server, traffic) as address:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
        client.cache_clear()
        yield traffic
        client().close()  # the front waits until its connections end
        client.cache_clear()


@pytest.fixture
def tls_front(bucket_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsFront]:
    """Connects TensorFlow's own client to the bucket. Run TensorFlow in a subprocess with `tls_front.environment`."""
    with running_tls_front(bucket_server, tmp_path_factory.mktemp("tls")) as front:
        yield TlsFront({**os.environ, **front.environment}, front.traffic)
