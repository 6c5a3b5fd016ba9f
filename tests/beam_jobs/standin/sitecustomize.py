"""A stand-in for a decoder with a bug, in every Python process that finds this folder in PYTHONPATH.

Python imports a module of this name when it starts, so the decoding children have it, and the product
needs no way in. An image whose bytes hold one of the words below ends the process, or hangs.
"""

import os
import signal
import sys
import time

import schemas.image
from tests.beam_jobs.standin_words import EXIT, GARBAGE, HANG, SEGFAULT, SWELL

_read = schemas.image._read


def _stand_in(data, *rest):
    if EXIT in data:
        os._exit(3)
    if SEGFAULT in data:
        os.kill(os.getpid(), signal.SIGSEGV)
    while HANG in data:
        time.sleep(1000)
    if GARBAGE in data:
        os.write(int(sys.argv[1]), os.urandom(1 << 16))
    held = []
    while SWELL in data:
        held.append(bytes(1 << 24))
    return _read(data, *rest)


schemas.image._read = _stand_in
