"""Redirects TensorFlow's own gs:// client to the local bucket, without changing code on either side.

That client always calls https://www.googleapis.com/storage/v1/... and https://storage.googleapis.com/BUCKET/OBJECT, but
it obeys `https_proxy` and `CURL_CA_BUNDLE`. So this is a proxy on loopback that answers CONNECT for those two hosts. It
terminates TLS itself, with a certificate from a test authority, and forwards each request to the local server.
"""

import contextlib
import http.client
import ssl
import threading
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import trustme

HOSTS = ("www.googleapis.com", "storage.googleapis.com")

_IDLE_SECONDS = 60
# These headers belong to one connection and are not forwarded. TensorFlow sends `Transfer-Encoding: identity`, which
# servers written in Go refuse.
_HOP_BY_HOP = ("connection", "content-length", "expect", "host", "keep-alive", "proxy-connection", "transfer-encoding")


@dataclass(frozen=True)
class Request:
    """One forwarded request. `target` is its path with the query, and `range` is its Range header, or empty."""

    method: str
    host: str
    target: str
    range: str
    status: int


@dataclass(frozen=True)
class TlsFront:
    """A running front. `environment` is for subprocesses that use TensorFlow, whose client reads it once."""

    environment: dict[str, str]
    requests: list[Request] = field(default_factory=list)

    def objects_read(self, bucket: str) -> set[str]:
        """The names of the objects of `bucket` whose content was read."""
        prefix = f"/{bucket}/"
        return {
            urllib.parse.unquote(request.target.removeprefix(prefix))
            for request in self.requests
            if request.host == "storage.googleapis.com" and request.target.startswith(prefix) and request.status < 300
        }


@contextlib.contextmanager
def running_front(address: str, folder: Path) -> Iterator[TlsFront]:
    """Runs the front for the local server at `address`, and writes its certificate authority into `folder`."""
    authority = trustme.CA()
    bundle = folder / "authority.pem"
    authority.cert_pem.write_to_path(str(bundle))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*HOSTS).configure_cert(tls)
    server = _FrontServer(address, tls)
    front = TlsFront(_environment(server.server_port, bundle), server.requests)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield front
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


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


class _FrontServer(ThreadingHTTPServer):
    daemon_threads = False  # so that server_close() waits for them, and no socket is left open

    def __init__(self, address: str, tls: ssl.SSLContext) -> None:
        self.local = urllib.parse.urlsplit(address).netloc
        self.tls = tls
        self.requests: list[Request] = []
        super().__init__(("127.0.0.1", 0), _FrontHandler)


class _FrontHandler(BaseHTTPRequestHandler):
    """One connection: CONNECT first, then the requests inside the tunnel."""

    protocol_version = "HTTP/1.1"
    timeout = _IDLE_SECONDS
    server: _FrontServer
    host = ""

    def do_CONNECT(self) -> None:
        self.host = self.path.rpartition(":")[0]
        if self.host not in HOSTS:
            self.send_error(403, f"this proxy leads to {' and '.join(HOSTS)} only")
            return
        self.send_response(200)
        self.end_headers()
        self.rfile.close()
        self.request = self.server.tls.wrap_socket(self.connection, server_side=True)
        self.setup()

    def forward(self) -> None:
        body = self._body()
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
        local = http.client.HTTPConnection(self.server.local, timeout=_IDLE_SECONDS)
        with contextlib.closing(local):
            local.request(self.command, self.path, body, headers)
            response = local.getresponse()
            content = response.read()
        request = Request(self.command, self.host, self.path, self.headers.get("Range") or "", response.status)
        self.server.requests.append(request)
        self.send_response_only(response.status, response.reason)
        for name, value in response.getheaders():
            if name.lower() == "location":  # where TensorFlow is to send an upload
                value = f"https://{self.host}{urllib.parse.urlsplit(value)._replace(scheme='', netloc='').geturl()}"
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_DELETE = forward  # noqa: N815 - http.server calls them so

    def _body(self) -> bytes:
        """The body of the request. TensorFlow's uploads state a length and are chunked all the same."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def finish(self) -> None:
        super().finish()
        self.request.close()  # the TLS socket, which the server does not know of

    def log_message(self, format: str, *args: object) -> None:
        """Logs nothing; TlsFront.requests holds the requests."""
