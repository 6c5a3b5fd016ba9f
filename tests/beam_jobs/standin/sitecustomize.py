"""A stand-in for a faulty decoder, in every Python process that has this folder in its PYTHONPATH.

Python imports a module of this name when it starts, so the decoding children load it and the product needs no hook for
tests. An image whose bytes contain one of the words below makes the decoder crash, hang or misbehave.
"""

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import schemas.pixels.decode
from tests.beam_jobs.standin_words import (
    CHATTER,
    COLOUR,
    DRIP,
    EXIT,
    GARBAGE,
    HANG,
    HANGS,
    SEGFAULT,
    SWELL,
    TOLD,
)

_read = schemas.pixels.decode._read


def answer(frame: bytes) -> None:
    os.write(int(sys.argv[1]), frame)


def rejection(detail: bytes) -> bytes:
    from schemas.decoders import child

    return child.ANSWER.pack(child.REJECTED, 0, 0, len(detail)) + detail


def tell() -> None:
    for folder in map(Path, sys.path):
        if folder.name.startswith(TOLD):
            (folder / HANGS).touch()


def _stand_in(data: bytes, *rest: Any, **named: Any) -> Any:
    if EXIT in data:
        os._exit(3)
    if SEGFAULT in data:
        os.kill(os.getpid(), signal.SIGSEGV)
    if HANG in data:
        tell()
        time.sleep(100_000)
    if GARBAGE in data:
        answer(os.urandom(1 << 16))
    if DRIP in data:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for byte in rejection(b"x" * 1000):
            answer(bytes([byte]))
            time.sleep(0.1)
    if CHATTER in data:
        threading.Timer(0.3, answer, [rejection(b"not asked")]).start()
    if COLOUR in data:
        answer(rejection(b"\x1b[31mred\x07"))
        time.sleep(1000)
    held = []
    while SWELL in data:
        held.append(bytes(1 << 24))
    return _read(data, *rest, **named)


schemas.pixels.decode._read = _stand_in
