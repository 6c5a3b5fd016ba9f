"""Redirects TensorFlow's own gs:// client to the local bucket, without changing code on either side.

That client always calls https://www.googleapis.com/storage/v1/... and https://storage.googleapis.com/BUCKET/OBJECT, but
it obeys `https_proxy` and `CURL_CA_BUNDLE`. So this is a proxy on loopback that answers CONNECT for those two hosts. It
terminates TLS itself, with a certificate from a test authority, and forwards each request as front.py does.
"""

import contextlib
import ssl
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import trustme

from tests.gcs.front import ForwardingHandler, FrontServer, Request, Traffic, serving

HOSTS = ("www.googleapis.com", "storage.googleapis.com")


@dataclass(frozen=True)
class TlsFront:
    """A running front. `environment` is for subprocesses that use TensorFlow, whose client reads it once."""

    environment: dict[str, str]
    traffic: Traffic = field(default_factory=Traffic)

    @property
    def requests(self) -> list[Request]:
        """The requests so far."""
        return self.traffic.requests

    def objects_read(self, bucket: str) -> set[str]:
        """The names of the objects of `bucket` whose content was read."""
        found = {request.reads for request, status in self.traffic.answered if status < 300 and request.reads}
        return {name.removeprefix(f"{bucket}/") for name in found if name.startswith(f"{bucket}/")}


@contextlib.contextmanager
def running_front(address: str, folder: Path) -> Iterator[TlsFront]:
    """Runs the front for the local server at `address`, and writes its certificate authority into `folder`."""
    authority = trustme.CA()
    bundle = folder / "authority.pem"
    authority.cert_pem.write_to_path(str(bundle))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*HOSTS).configure_cert(tls)
    traffic = Traffic()
    with serving(_TlsServer(address, traffic, tls)) as port:
        yield TlsFront(_environment(port, bundle), traffic)


def _environment(port: int, bundle: Path) -> dict[str, str]:
    return {
        "https_proxy": f"http://127.0.0.1:{port}",
        "no_proxy": "127.0.0.1,localhost",
        "CURL_CA_BUNDLE": str(bundle),
        "GOOGLE_AUTH_TOKEN_FOR_TESTING": "test",
        "NO_GCE_CHECK": "true",
        "GCS_RETRY_CONFIG_MAX_RETRIES": "2",
        "GCS_RETRY_CONFIG_INIT_DELAY_TIME_US": "10000",
        "GCS_RETRY_CONFIG_MAX_DELAY_TIME_US": "100000",
    }


class _TlsServer(FrontServer):
    def __init__(self, address: str, traffic: Traffic, tls: ssl.SSLContext) -> None:
        self.tls = tls
        super().__init__(address, traffic, _TlsHandler)


class _TlsHandler(ForwardingHandler):
    """One connection: CONNECT first, then the requests inside the tunnel."""

    server: _TlsServer

    def do_CONNECT(self) -> None:  # noqa: N802 - http.server calls it so
        self.host = self.path.rpartition(":")[0]
        if self.host not in HOSTS:
            self.send_error(403, f"this proxy leads to {' and '.join(HOSTS)} only")
            return
        self.send_response(200)
        self.end_headers()
        self.rfile.close()
        self.request = self.server.tls.wrap_socket(self.connection, server_side=True)
        self.setup()

    def location(self, value: str) -> str:
        """Uploads go to where TensorFlow believes to be."""
        return f"https://{self.host}{urllib.parse.urlsplit(value)._replace(scheme='', netloc='').geturl()}"

    def finish(self) -> None:
        super().finish()
        self.request.close()  # the TLS socket, which the server does not know of
