"""Shards kept on the disk: whole or not at all, the oldest go first, and trouble with the disk costs a warning."""

import hashlib
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from training.reading.disk_cache import DiskCache, default_folder

ROOT = Path(__file__).parents[3]


def content(number: int, size: int = 100) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(number).integers(0, 256, size, np.uint8)


def kept(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def age(folder: Path, *names: str) -> None:
    """Makes files old, the first the oldest."""
    for place, name in enumerate(names):
        os.utime(folder / name, (1000 + place, 1000 + place))


def test_what_is_stored_is_read_by_others_and_by_the_user_only(tmp_path: Path) -> None:
    folder = tmp_path / "a/b"
    DiskCache(str(folder)).store("one", content(1))
    buffer = np.zeros(100, np.uint8)
    cache = DiskCache(str(folder))
    assert cache.read_into("one", buffer)
    np.testing.assert_array_equal(buffer, content(1))
    assert not cache.read_into("two", buffer)
    assert not cache.read_into("one", np.zeros(99, np.uint8))
    assert kept(folder) == ["one"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    before = DiskCache(str(tmp_path))
    for number in range(4):
        before.store(f"{number}", content(number))
    age(tmp_path, "2", "0", "3", "1")
    cache = DiskCache(str(tmp_path), limit_bytes=450)
    assert cache.read_into("2", np.zeros(100, np.uint8))  # used now
    cache.store("4", content(4))
    assert kept(tmp_path) == ["1", "2", "3", "4"]
    cache.store("5", content(5, 200))
    assert kept(tmp_path) == ["2", "4", "5"]


def test_what_is_in_use_is_not_pushed_out_by_a_set_that_is_too_large(tmp_path: Path) -> None:
    cache = DiskCache(str(tmp_path), limit_bytes=350)
    for number in range(6):
        cache.store(f"{number}", content(number))
    assert kept(tmp_path) == ["0", "1", "2"]


def test_unfinished_files_of_killed_processes_are_deleted(tmp_path: Path) -> None:
    (tmp_path / "a.1.part").write_bytes(b"old")
    (tmp_path / "b.2.part").write_bytes(b"of a running process")
    age(tmp_path, "a.1.part")
    DiskCache(str(tmp_path)).store("one", content(1))
    assert kept(tmp_path) == ["b.2.part", "one"]


SHARING = """
import hashlib, random, sys
import numpy as np
from training.reading.disk_cache import DiskCache
cache, draw, hits = DiskCache(sys.argv[1], 250_000), random.Random(sys.argv[2]), 0
cache._since = 2e9  # as if a later run: everything may be pushed out
for _ in range(600):
    seed = draw.randrange(10)
    content = np.random.default_rng(seed).integers(0, 256, 50_000, np.uint8)
    name, buffer = hashlib.sha256(content).hexdigest(), np.zeros(50_000, np.uint8)
    if cache.read_into(name, buffer):
        assert (buffer == content).all()
        hits += 1
    else:
        cache.store(name, content)
print(hits)
"""


def test_two_processes_share_a_folder_and_never_read_half_a_file(tmp_path: Path) -> None:
    running = [
        subprocess.Popen(
            [sys.executable, "-c", SHARING, str(tmp_path), seed],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for seed in "12"
    ]
    outputs = [process.communicate(timeout=60) for process in running]
    for out, err in outputs:
        assert int(out) > 100
        assert err == b""
    for path in tmp_path.iterdir():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name


FULL = """
import resource, signal, sys
import numpy as np
from training.reading.disk_cache import DiskCache
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then writing beyond the limit is an OSError, as on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (150, 150))
cache, buffer = DiskCache(sys.argv[1]), np.zeros(100, np.uint8)
cache.store("small", buffer)
for name in ("large", "large", "later"):
    cache.store(name, np.zeros(200 if name == "large" else 100, np.uint8))
assert cache.read_into("small", buffer)
"""


def test_a_full_disk_ends_the_writing_with_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0
    assert done.stderr == f"warning: shards are no longer kept in {tmp_path}: File too large; training goes on\n"
    assert kept(tmp_path) == ["small"]


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    cache = DiskCache(str(tmp_path / "file/cache"))
    for _ in range(2):
        assert not cache.read_into("one", np.zeros(100, np.uint8))
        cache.store("one", content(1))
    assert capsys.readouterr().err.splitlines() == [
        f"warning: shards are no longer kept in {tmp_path}/file/cache: Not a directory; training goes on"
    ]


def test_the_folder_follows_the_standard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert default_folder() == "/home/someone/.cache/radrecords"
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/caches")
    assert default_folder() == "/var/caches/radrecords"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # the standard says to ignore it
    assert default_folder() == "/home/someone/.cache/radrecords"


def test_a_use_is_remembered(tmp_path: Path) -> None:
    cache = DiskCache(str(tmp_path))
    cache.store("one", content(1))
    age(tmp_path, "one")
    assert cache.read_into("one", np.zeros(100, np.uint8))
    assert (tmp_path / "one").stat().st_mtime > time.time() - 60
