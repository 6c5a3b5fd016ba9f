"""A proxy in front of the local bucket that refuses uploads, like a bucket over its quota or one that fails briefly."""

import contextlib
import http.client
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_OF_ONE_CONNECTION = ("connection", "content-length", "host", "keep-alive", "transfer-encoding")


@contextlib.contextmanager
def running_front(address: str, answer: Callable[[int], int]) -> Iterator[str]:
    """Runs a proxy in front of the server at `address` and yields the proxy's address. `answer` gives the status for upload
    number 0, 1, 2 ...; 0 forwards the upload."""
    server = _FrontServer(address, answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _FrontServer(ThreadingHTTPServer):
    daemon_threads = False  # so that server_close() waits for them, and no socket is left open

    def __init__(self, address: str, answer: Callable[[int], int]) -> None:
        self.local = urllib.parse.urlsplit(address).netloc
        self.answer = answer
        self.lock = threading.Lock()
        self.uploads = 0
        super().__init__(("127.0.0.1", 0), _FrontHandler)

    def status_of_upload(self) -> int:
        with self.lock:
            self.uploads += 1
            return self.answer(self.uploads - 1)


class _FrontHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60
    server: _FrontServer

    def forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status = self.server.status_of_upload() if self.path.startswith("/upload/") else 0
        if status:
            self.send_error(status)
            return
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _OF_ONE_CONNECTION}
        local = http.client.HTTPConnection(self.server.local, timeout=60)
        with contextlib.closing(local):
            local.request(self.command, self.path, body, headers)
            response = local.getresponse()
            content = response.read()
        self.send_response_only(response.status, response.reason)
        for name, value in response.getheaders():
            if name.lower() not in _OF_ONE_CONNECTION:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = forward  # noqa: N815 - http.server calls them so

    def log_message(self, format: str, *args: object) -> None:
        """Logs nothing."""
