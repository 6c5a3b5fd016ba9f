"""A proxy in front of the local bucket, which counts the requests and can make them fail as a network does.

`running_front` speaks plain HTTP, for google-cloud-storage and Beam (STORAGE_EMULATOR_HOST). tls_front.py puts TLS before
the same, for TensorFlow. What fails is decided by a function of the request alone, so it does not depend on which of several
threads comes first.
"""

import contextlib
import http.client
import itertools
import random
import re
import socket
import struct
import sys
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_IDLE_SECONDS = 60
# These headers belong to one connection and are not forwarded. TensorFlow sends `Transfer-Encoding: identity`, which
# servers written in Go refuse.
_HOP_BY_HOP = ("connection", "content-length", "expect", "host", "keep-alive", "proxy-connection", "transfer-encoding")

RESET, CUT, FLIPPED, LOST = "reset", "cut", "flipped", "lost"
# What the clients and the readers retry. FLIPPED is added by the tests of readers that check what they get.
RETRYABLE = (429, 503, RESET, CUT)
EVERY_RETRYABLE = (408, 429, 500, 502, 503, 504, RESET, CUT)  # of the storage of conversions
# The same, if the four 5xx count as one kind and all kinds are as frequent.
EACH_RETRYABLE = (*(408, 429, RESET, CUT) * 4, 500, 502, 503, 504)


@dataclass(frozen=True)
class Request:
    """One request. `target` is its path with the query, `range` its Range header, or empty. `number` counts the requests of
    this method and target, from 0."""

    method: str
    host: str
    target: str
    range: str
    number: int

    @property
    def reads(self) -> str | None:
        """The object whose content is asked for, as bucket/name; None for other requests."""
        path, _, query = self.target.partition("?")
        if self.method != "GET":
            return None
        if path.startswith(("/download/storage/v1/b/", "/storage/v1/b/")):
            if "alt=media" not in query:
                return None
            bucket, _, name = path.partition("/b/")[2].partition("/o/")
            return f"{bucket}/{urllib.parse.unquote(name)}"
        return urllib.parse.unquote(path[1:])


# RESET: the connection is reset instead of an answer; CUT: it ends in the middle of the content; FLIPPED: a bit of the
# content is flipped; LOST: it is forwarded, and 503 is answered. A status: answered instead of forwarding. None: nothing
# fails.
Fault = int | str | None
Faults = Callable[[Request], Fault]


def no_faults(request: Request) -> Fault:
    """Everything works."""
    return None


def random_faults(seed: int, fraction: float, kinds: tuple[Fault, ...] = RETRYABLE) -> Faults:
    """A fraction of the requests fails, with one of `kinds`; the same ones for the same seed, whatever the bucket's name."""

    def fault(request: Request) -> Fault:
        target = re.sub(r"test-[0-9a-f]{12}", "", request.target)  # of fresh_bucket
        drawn = random.Random(f"{seed} {request.method} {target} {request.range} {request.number}")
        return drawn.choice(kinds) if drawn.random() < fraction else None

    return fault


def of_uploads(answer: Callable[[int], Fault]) -> Faults:
    """What becomes of upload number 0, 1, 2 ...; nothing happens to other requests."""
    numbers = itertools.count()
    return lambda request: answer(next(numbers)) or None if request.target.startswith("/upload/") else None


@dataclass
class Traffic:
    """What a front has seen, and what it makes of it. `faults` and `latency` (seconds before each answer) may be changed
    while it runs."""

    faults: Faults = no_faults
    latency: float = 0.0
    requests: list[Request] = field(default_factory=list)
    failed: list[tuple[Request, Fault]] = field(default_factory=list)
    answered: list[tuple[Request, int]] = field(default_factory=list)
    _counts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def arrived(self, method: str, host: str, target: str, range: str) -> tuple[Request, Fault]:
        """The request, and what is to become of it."""
        with self._lock:
            key = (method, target, range)
            request = Request(method, host, target, range, self._counts[key])
            self._counts[key] += 1
            self.requests.append(request)
            fault = self.faults(request)
            if fault:
                self.failed.append((request, fault))
            return request, fault

    def reads(self, prefix: str = "") -> Counter[str]:
        """How often the content of each object below `prefix` (bucket/folder) was asked for."""
        return Counter(name for request in self.requests if (name := request.reads) and name.startswith(prefix))

    def others(self) -> list[Request]:
        """The requests that did not ask for content."""
        return [request for request in self.requests if not request.reads]

    def clear(self) -> None:
        """Forgets the requests so far, and counts from 0 again."""
        with self._lock:
            self._counts.clear()
            self.requests.clear()
            self.failed.clear()
            self.answered.clear()


@contextlib.contextmanager
def running_front(address: str, traffic: Traffic) -> Iterator[str]:
    """Runs a proxy in front of the server at `address` and yields the proxy's address."""
    with serving(FrontServer(address, traffic, ForwardingHandler)) as port:
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def serving(server: "FrontServer") -> Iterator[int]:
    """Runs a server and yields its port."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.end_connections()
        server.server_close()


class FrontServer(ThreadingHTTPServer):
    """Forwards to the server at `address`."""

    daemon_threads = False  # so that server_close() waits for them, and no socket is left open

    def __init__(self, address: str, traffic: Traffic, handler: type["ForwardingHandler"]) -> None:
        self.local = urllib.parse.urlsplit(address).netloc
        self.traffic = traffic
        self.connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), handler)

    def end_connections(self) -> None:
        """Ends the connections that clients keep open."""
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client may go away whenever it likes."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class ForwardingHandler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    timeout = _IDLE_SECONDS
    disable_nagle_algorithm = True  # it holds the content back for 40 ms, until the client confirms the headers
    server: FrontServer
    host = ""

    def setup(self) -> None:
        """Begins a connection."""
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        """Ends a connection."""
        self.server.connections.discard(self.connection)
        super().finish()

    def forward(self) -> None:
        """Answers with what the local server says, unless the request is to fail."""
        body = self._body()
        traffic = self.server.traffic
        request, fault = traffic.arrived(self.command, self.host, self.path, self.headers.get("Range") or "")
        time.sleep(traffic.latency)
        if fault == RESET:
            self._reset()
            return
        if isinstance(fault, int):
            self._refuse(fault)
            return
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
        local = http.client.HTTPConnection(self.server.local, timeout=_IDLE_SECONDS)
        with contextlib.closing(local):
            local.request(self.command, self.path, body, headers)
            response = local.getresponse()
            content = response.read()
        traffic.answered.append((request, response.status))
        if fault == LOST:
            self._refuse(503)
            return
        self.send_response_only(response.status, response.reason)
        for name, value in response.getheaders():
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, self.location(value) if name.lower() == "location" else value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if fault == CUT and content:
            self.wfile.write(content[: len(content) // 2])
            self._reset()
        else:
            self.wfile.write(_flipped(content) if fault == FLIPPED and request.reads else content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = forward  # noqa: N815 - http.server calls them so

    def location(self, value: str) -> str:
        """Where the client is to send an upload."""
        return value

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

    def _refuse(self, status: int) -> None:
        """Answers with a status and keeps the connection, as Google's servers do."""
        self.send_response_only(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _reset(self) -> None:
        """Ends the connection with RST."""
        self.close_connection = True
        self.wfile.flush()
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.request.close()

    def log_message(self, format: str, *args: object) -> None:
        """Logs nothing; Traffic has the requests."""


def _flipped(content: bytes) -> bytes:
    at = len(content) // 2
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :] if content else content
