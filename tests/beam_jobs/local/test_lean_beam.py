"""What the processes of a local job do about memory."""

import re
import subprocess
import sys

from tests.conftest import ROOT

_HEAPS = """
import ctypes, sys, threading
from beam_jobs.local.lean_beam import load_beam
if sys.argv[1] == "bounded":
    load_beam()
together = threading.Barrier(30)
def allocate():
    kept = ["x" * 1000 for _ in range(1000)]
    together.wait()
threads = [threading.Thread(target=allocate) for _ in range(30)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
out = ctypes.c_void_p(libc.fdopen(1, b"w"))
libc.malloc_info(0, out)
libc.fflush(out)
"""


def heaps(how: str) -> int:
    """The number of heaps that glibc has made in a process in which 30 threads have allocated memory at a time."""
    command = [sys.executable, "-c", _HEAPS, how]
    told = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout
    return len(re.findall("<heap nr=", told))


def test_threads_share_few_heaps() -> None:
    """Each heap keeps what its threads leave free, so with many of them memory would grow with the number of shards."""
    assert heaps("bounded") <= 2 < heaps("as it is")
