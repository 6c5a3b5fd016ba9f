"""The pool gives the same results as decoding in this process, and survives images that would end this process."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from schemas.decoders import process
from schemas.decoders.pool import DecoderPool
from schemas.errors import JobFailed
from schemas.pixels.decode import decode
from schemas.pixels.rejection import Decoded, ImageRejected, ImageSkipped, Reason
from schemas.pixels.settings import ImageSettings
from tests.beam_jobs.standin_words import (
    CHATTER,
    COLOUR,
    DRIP,
    EXIT,
    GARBAGE,
    HANG,
    SEGFAULT,
    SWELL,
    stand_in_path,
)
from tests.conftest import ROOT, children_of
from tests.schemas.image_files import GOOD, REJECTED, picture, png_of_size

SETTINGS = ImageSettings(image_size=32, channels=3)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*stand_in_path().split(os.pathsep), *sys.path])


@pytest.fixture
def pool(stand_in: None) -> Iterator[DecoderPool]:
    with DecoderPool(2) as made:
        yield made


def said(answer: object) -> object:
    if isinstance(answer, Decoded):
        return answer.pixels.dtype, answer.pixels.tolist(), answer.format, answer.notes
    if isinstance(answer, ImageRejected):
        return answer.reason, answer.detail, answer.format
    assert isinstance(answer, ImageSkipped)
    return answer.reason


def here(data: bytes, settings: ImageSettings = SETTINGS) -> object:
    try:
        return said(decode(data, settings))
    except (ImageRejected, ImageSkipped) as error:
        return said(error)


def test_every_kind_of_file_has_the_same_outcome_as_in_this_process() -> None:
    files = [make() for make in GOOD.values()] + [make() for make, _ in REJECTED.values()]
    with DecoderPool(1) as pool:
        assert [said(answer) for answer in pool.decode(files, SETTINGS)] == [here(data) for data in files]


def test_each_batch_has_its_own_settings(pool: DecoderPool) -> None:
    data = REJECTED["named.dcm"][0]()
    for allow, size in ((True, 16), (False, 64), (True, 40)):
        settings = ImageSettings(image_size=size, allow_burned_in=allow)
        assert said(pool.decode([data], settings)[0]) == here(data, settings)


@pytest.mark.parametrize(
    ("word", "reason", "detail"),
    [
        (EXIT, Reason.DECODER_CRASHED, "the decoding process ended with exit code 3"),
        (SEGFAULT, Reason.DECODER_CRASHED, "the decoding process ended with signal 11"),
        (HANG, Reason.DECODER_TIMEOUT, "not decoded in 1 s"),
        (GARBAGE, Reason.DECODER_CRASHED, "the decoding process gave an answer that cannot be one"),
        (SWELL, Reason.OUT_OF_MEMORY, "it takes more than --decoder_memory"),
    ],
)
def test_a_bad_image_affects_no_other_image(pool: DecoderPool, word: bytes, reason: Reason, detail: str) -> None:
    good = picture("PNG")
    answers = pool.decode([good, good + word, good], SETTINGS, timeout=1)
    assert [said(answers[0]), said(answers[2])] == [here(good)] * 2
    assert said(answers[1]) == (reason, detail, "png")
    assert said(pool.decode([good + word], SETTINGS, timeout=1)[0]) == (reason, detail, "png")
    assert said(pool.decode([good], SETTINGS)[0]) == here(good)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not enforce the limit")
def test_a_bomb_runs_out_of_memory_but_the_next_image_does_not(pool: DecoderPool) -> None:
    large = png_of_size(9_000, 9_000, rows=9_000)
    with DecoderPool(1, memory=64 << 20) as small:
        answers = small.decode([large, picture("PNG")], SETTINGS)
    assert isinstance(answers[0], ImageRejected)
    assert answers[0].reason is Reason.OUT_OF_MEMORY
    assert said(answers[1]) == here(picture("PNG"))
    assert isinstance(pool.decode([large], SETTINGS)[0], Decoded)


def test_a_thousand_good_and_bad_images_have_the_right_outcomes(pool: DecoderPool) -> None:
    good, bad = picture("PNG"), (picture("PNG")[:40], b"<html>")
    images = [good if number % 2 else bad[number // 2 % 2] for number in range(1000)]
    images[::50] = [good + EXIT] * 20
    batches = [images[at : at + 25] for at in range(0, 1000, 25)]
    with ThreadPoolExecutor(4) as threads:
        answers = [a for batch in threads.map(lambda b: pool.decode(b, SETTINGS), batches) for a in batch]
    crashed = (Reason.DECODER_CRASHED, "the decoding process ended with exit code 3", "png")
    assert [said(answer) for answer in answers] == [crashed if EXIT in image else here(image) for image in images]


def test_a_killed_child_is_started_again(pool: DecoderPool) -> None:
    good = picture("PNG")
    pool.decode([good], SETTINGS)
    for child in children_of(os.getpid()):
        os.kill(child, signal.SIGKILL)
    assert said(pool.decode([good], SETTINGS)[0]) == here(good)
    answers: list[object] = []
    slow = threading.Thread(target=lambda: answers.extend(pool.decode([good + HANG, good], SETTINGS, timeout=600)))
    slow.start()
    while slow.is_alive():  # the child that is decoding the hanging image, and then the one that decodes it again
        time.sleep(0.3)
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


def test_a_decoder_that_does_not_load_fails_the_job_and_rejects_no_image(tmp_path: Path, pool: DecoderPool) -> None:
    with pytest.raises(JobFailed, match="exit code 1"):
        pool.decode([picture("PNG")], SETTINGS, decoder="schemas.no_such_module:decoder")
    assert said(pool.decode([picture("PNG")], SETTINGS)[0]) == here(picture("PNG"))


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


def test_an_answer_that_arrives_byte_by_byte_times_out(pool: DecoderPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "GRACE_SECONDS", 1)
    good, begun = picture("PNG"), time.monotonic()
    answers = pool.decode([good, good + DRIP, good], SETTINGS, timeout=1)
    assert time.monotonic() - begun < 20
    assert said(answers[1]) == (Reason.DECODER_TIMEOUT, "not decoded in 1 s", "png")
    assert [said(answers[0]), said(answers[2])] == [here(good)] * 2


def test_an_unrequested_answer_is_not_taken_for_the_next_one(stand_in: None) -> None:
    good = picture("PNG")
    with DecoderPool(1) as pool:
        pool.decode([good + CHATTER], SETTINGS)
        time.sleep(1)
        assert said(pool.decode([good], SETTINGS)[0]) == here(good)


def test_an_answer_cannot_send_control_characters_to_a_terminal(pool: DecoderPool) -> None:
    (answer,) = pool.decode([picture("PNG") + COLOUR], SETTINGS)
    assert isinstance(answer, ImageRejected)
    assert answer.detail == "?[31mred?"


def test_loading_a_decoder_does_not_count_towards_the_time_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pydicom.py").write_text(
        "import sys, time\ntime.sleep(1)\nsys.path.remove(__file__.rpartition('/')[0])\n"
        "del sys.modules['pydicom']\nimport pydicom"
    )
    data = GOOD["gray.dcm"]()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with DecoderPool(1) as pool:
        assert isinstance(pool.decode([data], SETTINGS, timeout=0.9)[0], Decoded)


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
        thread.join(5)
        assert not thread.is_alive()
    assert len(failed) == 3
    assert not set(children_of(os.getpid())) - before


def test_two_hundred_batches_at_once_have_the_right_outcomes(pool: DecoderPool) -> None:
    files = [b"", b"x", picture("PNG"), *(REJECTED[name][0]() for name in ("one pixel.png", "cut.jpg", "DICOMDIR"))]
    right = [here(data) for data in files]
    with ThreadPoolExecutor(200) as threads:
        for answers in threads.map(lambda _: pool.decode(files, SETTINGS), range(200)):
            assert [said(answer) for answer in answers] == right


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


def test_a_default_socket_timeout_changes_nothing() -> None:
    socket.setdefaulttimeout(60)  # as Beam does when it uses Google Cloud
    try:
        with DecoderPool(1) as pool:
            assert said(pool.decode([picture("PNG")] * 3, SETTINGS)[2]) == here(picture("PNG"))
    finally:
        socket.setdefaulttimeout(None)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_decoder_that_hangs_ends_with_its_killed_parent() -> None:
    code = (
        "import sys; from schemas.decoders.pool import DecoderPool; from schemas.pixels.settings import ImageSettings;"
        f"sys.path[:0] = {stand_in_path().split(os.pathsep)!r};"
        f"DecoderPool(1).decode([{picture('PNG') + HANG!r}], ImageSettings(), timeout=600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    while not (found := children_of(parent.pid)):
        time.sleep(0.05)
    time.sleep(1)  # until it is decoding the image that hangs
    parent.kill()
    parent.wait()
    for _ in range(100):
        if not Path(f"/proc/{found[0]}").exists():
            return
        time.sleep(0.05)
    pytest.fail("the decoder outlives its parent")


def test_pixels_have_the_shape_of_the_settings(pool: DecoderPool) -> None:
    (answer,) = pool.decode([picture("PNG")], SETTINGS)
    assert isinstance(answer, Decoded)
    assert (answer.pixels.shape, answer.pixels.dtype) == ((32, 32, 3), np.dtype(np.uint8))
