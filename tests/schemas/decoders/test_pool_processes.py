"""The child processes of a pool: what they inherit, how they start, and when they end."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from schemas.decoders.pool import DecoderPool
from schemas.errors import JobFailed
from schemas.pixels.rejection import Reason
from tests.beam_jobs.standin_words import HANG, HANGS, stand_in_path
from tests.conftest import ROOT, children_of
from tests.schemas.decoders.conftest import SETTINGS, here, said
from tests.schemas.pictures import picture


def test_a_killed_child_is_started_again(pool: DecoderPool, told: Path) -> None:
    good = picture("PNG")
    pool.decode([good], SETTINGS)
    for child in children_of(os.getpid()):
        os.kill(child, signal.SIGKILL)
    assert said(pool.decode([good], SETTINGS)[0]) == here(good)
    answers: list[object] = []
    slow = threading.Thread(target=lambda: answers.extend(pool.decode([good + HANG, good], SETTINGS, timeout=600)))
    slow.start()
    while slow.is_alive():  # the child that is decoding the hanging image, and then the one that decodes it again
        time.sleep(0.02)
        if (told / HANGS).exists():  # a child that is killed too often while it starts would be another error
            (told / HANGS).unlink()
            for child in children_of(os.getpid()):
                os.kill(child, signal.SIGKILL)
    assert said(answers[0]) == (Reason.DECODER_CRASHED, "the decoding process ended with signal 9", "png")
    assert said(answers[1]) == here(good)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_child_inherits_no_secret_and_no_open_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "id key"
    secret.write_text("hush")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(secret))
    with secret.open() as file, DecoderPool(1) as pool:
        os.set_inheritable(file.fileno(), True)
        before = set(children_of(os.getpid()))
        pool.decode([picture("PNG")], SETTINGS)
        (child,) = set(children_of(os.getpid())) - before
        assert b"GOOGLE" not in Path(f"/proc/{child}/environ").read_bytes()
        held = {os.readlink(link) for link in Path(f"/proc/{child}/fd").iterdir()}
    assert {name.partition(":")[0] for name in held} == {"/dev/null", "socket"}


def test_a_child_loads_no_dicom_decoder_before_the_first_dicom_file() -> None:
    code = "import sys, schemas.decoders.pool, schemas.pixels.decode, schemas.dataset; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert "pydicom" not in done.stdout.split()


def test_a_parent_loads_no_decoder() -> None:
    code = "import sys, schemas.decoders.pool, schemas.dataset; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not {"pydicom", "PIL", "simplejpeg"} & set(done.stdout.split())


def test_a_child_that_cannot_start_fails_the_job_and_rejects_no_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text("import os\nos._exit(5)")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with DecoderPool(1) as pool, pytest.raises(JobFailed, match="exit code 5"):
        pool.decode([picture("PNG")], SETTINGS)


def test_a_child_that_is_killed_while_it_starts_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = tmp_path / "started"
    (tmp_path / "sitecustomize.py").write_text(
        f"import os\nopen({str(started)!r}, 'a').write('.')\n"
        f"if os.path.getsize({str(started)!r}) in (1, 2, 4):\n    os.kill(os.getpid(), 9)"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with DecoderPool(1) as pool:
        for _ in range(2):
            assert said(pool.decode([picture("PNG")], SETTINGS)[0]) == here(picture("PNG"))
            for child in children_of(os.getpid()):
                os.kill(child, signal.SIGKILL)
    assert started.read_text() == "....."


def test_a_parent_without_a_free_descriptor_fails_the_job_and_rejects_no_image() -> None:
    code = (
        "import resource; from schemas.decoders.pool import DecoderPool; from schemas.pixels.settings import ImageSettings;"
        "pool = DecoderPool(1); resource.setrlimit(resource.RLIMIT_NOFILE, (4, 4)); pool.decode([b'x'], ImageSettings())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stderr.splitlines()[-1].endswith("JobFailed: the decoding process does not start: Too many open files")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not enforce the limit")
def test_a_lower_existing_memory_limit_is_kept() -> None:
    code = (
        "import resource, sys; from schemas.decoders.pool import DecoderPool;"
        "from schemas.pixels.settings import ImageSettings;"
        "resource.setrlimit(resource.RLIMIT_AS, (900 << 20, 900 << 20)); data = sys.stdin.buffer.read();"
        "print(type(DecoderPool(1).decode([data], ImageSettings())[0]).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], input=picture("PNG"), capture_output=True, cwd=ROOT)
    assert done.stdout.split() == [b"Decoded"], done.stderr


def test_closing_a_pool_ends_the_threads_that_wait_for_it(stand_in: None) -> None:
    failed: list[BaseException] = []

    def decode_for_ever(pool: DecoderPool) -> None:
        try:
            pool.decode([picture("PNG"), picture("PNG") + HANG], SETTINGS, timeout=600)
        except JobFailed as error:
            failed.append(error)

    before = set(children_of(os.getpid()))
    with DecoderPool(2) as pool:
        threads = [threading.Thread(target=decode_for_ever, args=(pool,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(1)
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert len(failed) == 3
    assert not set(children_of(os.getpid())) - before


def test_children_end_with_the_pool_and_with_the_parent(stand_in: None) -> None:
    with DecoderPool(3) as pool:
        before = set(children_of(os.getpid()))
        pool.start()
        end = time.monotonic() + 30  # a process that has just started may have no command line yet
        while len(begun := set(children_of(os.getpid())) - before) < 3 and time.monotonic() < end:
            time.sleep(0.05)
        assert len(begun) == 3
    assert not begun & set(children_of(os.getpid()))
    code = (
        "import os, sys; from schemas.decoders.pool import DecoderPool; from schemas.pixels.settings import ImageSettings;"
        "pool = DecoderPool(1); pool.decode([b'x'], ImageSettings());"
        "print(*open(f'/proc/{os.getpid()}/task/{os.getpid()}/children')); sys.stdout.flush(); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    (child,) = done.stdout.split()
    for _ in range(100):
        if not Path(f"/proc/{child}/cmdline").exists() or not Path(f"/proc/{child}/cmdline").read_bytes():
            return
        time.sleep(0.05)
    pytest.fail("the child outlives its parent")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_decoder_that_hangs_ends_with_its_killed_parent(told: Path) -> None:
    code = (
        "import sys; from schemas.decoders.pool import DecoderPool; from schemas.pixels.settings import ImageSettings;"
        f"sys.path[:0] = {stand_in_path(told).split(os.pathsep)!r};"
        f"DecoderPool(1).decode([{picture('PNG') + HANG!r}], ImageSettings(), timeout=600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    while not (told / HANGS).exists():
        assert parent.poll() is None
        time.sleep(0.05)
    found = children_of(parent.pid)
    parent.kill()
    parent.wait()
    for _ in range(100):
        if not Path(f"/proc/{found[0]}").exists():
            return
        time.sleep(0.05)
    pytest.fail("the decoder outlives its parent")
