"""The decoding process: `python -m schemas.decoders.child SOCKET MEMORY`. Only pool.py uses it.

It holds no credentials and no key, but a hostile file may take it over. So its answers are frames with a fixed layout,
never pickles, and the pool checks each field. If an image takes too long, a signal ends the process, even if the
interpreter hangs or the parent is dead.
"""

import contextlib
import fcntl
import functools
import importlib
import json
import os
import resource
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

from schemas.pixels.rejection import NOTES, Decoded, ImageRejected, ImageSkipped, Reason, SkipReason
from schemas.pixels.settings import ImageSettings
from schemas.pixels.sniff import FORMATS, reader_of, sniff

READY = b"ready"
# A request is the number of images, the length of the task, the length of each image, the task, and the images. The
# task is the JSON of [MODULE:FUNCTION, fields of the ImageSettings, seconds per image]. A request without images is
# answered with READY once everything that the task needs is loaded.
REQUEST, LENGTH = struct.Struct("<II"), struct.Struct("<Q")
# An answer is its kind, the index of the reason or the notes as bits, the index of the format, and the length of what
# follows: the size in the file (width, height), the processor time in microseconds and the pixels, or a UTF-8 text for
# people.
ANSWER, HEAD = struct.Struct("<BBBI"), struct.Struct("<III")
DECODED, REJECTED, SKIPPED = range(3)
REASONS, SKIP_REASONS, SEEN_FORMATS = tuple(Reason), tuple(SkipReason), (*FORMATS, "unknown")
MOST_DETAIL = 2000  # bytes
_MOST_MICROSECONDS = (1 << 32) - 1


def serve(descriptor: int, memory: int) -> None:
    """Answers each image with its outcome, in order, until the socket is closed."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold an image of a patient
    # Load what most files need while the parent is still starting.
    importlib.import_module("schemas.pixels.decode")
    reader_of("jpeg")
    with socket.socket(fileno=descriptor) as line, line.makefile("rb") as requests:
        fcntl.fcntl(line, fcntl.F_SETOWN, os.getpid())  # if the parent is killed, SIGIO ends a hanging decoder
        while head := requests.read(REQUEST.size):
            count, task_length = REQUEST.unpack(head)
            lengths = [LENGTH.unpack(requests.read(LENGTH.size))[0] for _ in range(count)]
            name, settings, seconds = json.loads(requests.read(task_length))
            decode, image_settings = _decoder(name, memory), ImageSettings(**settings)
            if not count:
                line.sendall(READY)
                continue
            images = [requests.read(length) for length in lengths]
            images.reverse()
            fcntl.fcntl(line, fcntl.F_SETFL, os.O_ASYNC)
            while images:
                _load_decoder_of(images[-1])
                signal.setitimer(signal.ITIMER_REAL, seconds)
                answer = _answer(decode, images.pop(), image_settings)
                signal.setitimer(signal.ITIMER_REAL, 0)
                if not images:  # after the last answer the parent may send more, which would raise the signal too
                    fcntl.fcntl(line, fcntl.F_SETFL, 0)
                line.sendall(answer)


@functools.cache
def _decoder(name: str, memory: int) -> Callable[[bytes, ImageSettings], Decoded]:
    """Calls `module:function` and returns its result, after limiting this process to `memory` bytes beyond what is
    loaded by then."""
    module, _, function = name.partition(":")
    decode: Callable[[bytes, ImageSettings], Decoded] = getattr(importlib.import_module(module), function)()
    if sys.platform == "linux":  # other systems ignore the limit
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit, (_, hard) = pages * resource.getpagesize() + memory, resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    return decode


def _load_decoder_of(data: bytes) -> None:
    """Loads the decoder that this image needs, outside its time limit."""
    with contextlib.suppress(ImageRejected, ImportError, MemoryError):  # `decode` reports them
        reader_of(sniff(data))


def _answer(decode: Callable[[bytes, ImageSettings], Decoded], data: bytes, settings: ImageSettings) -> bytes:
    start = time.process_time_ns()
    try:
        image = decode(data, settings)
    except ImageRejected as error:
        detail = error.detail.encode("utf-8", "replace")[:MOST_DETAIL]
        return _frame(REJECTED, REASONS.index(error.reason), error.format, detail)
    except ImageSkipped as error:
        return _frame(SKIPPED, SKIP_REASONS.index(error.reason), error.format, b"")
    notes = sum(1 << NOTES.index(note) for note in image.notes)
    spent = min((time.process_time_ns() - start) // 1000, _MOST_MICROSECONDS)
    return _frame(DECODED, notes, image.format, HEAD.pack(*image.size, spent) + image.pixels.tobytes())


def _frame(kind: int, what: int, format: str, content: bytes) -> bytes:
    return ANSWER.pack(kind, what, SEEN_FORMATS.index(format), len(content)) + content


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]))
