"""The pool gives the same results as decoding in this process, and survives images that would end this process."""

import io
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from schemas.decoders import process
from schemas.decoders.pool import DecoderPool
from schemas.errors import JobFailed
from schemas.pixels.rejection import Decoded, ImageRejected, Reason
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
)
from tests.schemas.decoders.conftest import SETTINGS, here, said
from tests.schemas.dicom_files import dicom_file, encapsulated
from tests.schemas.image_files import GOOD, REJECTED, oriented, png_of_size
from tests.schemas.pictures import picture, saved, scene


def test_every_kind_of_file_has_the_same_outcome_as_in_this_process() -> None:
    files = [make() for make in GOOD.values()] + [make() for make, _ in REJECTED.values()]
    with DecoderPool(1) as pool:
        assert [said(answer) for answer in pool.decode(files, SETTINGS)] == [here(data) for data in files]


def test_the_size_of_a_file_comes_back_with_its_pixels() -> None:
    image = Image.fromarray(scene(30, 50))
    files = [saved(image, format) for format in ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")]
    files += [oriented("JPEG", 6), dicom_file(scene(30, 50)), encapsulated(saved(image, "JPEG"), Rows=30, Columns=50)]
    with DecoderPool(1) as pool:
        answers = pool.decode(files, SETTINGS)
    sizes = [answer.size for answer in answers if isinstance(answer, Decoded)]
    with Image.open(io.BytesIO(oriented("JPEG", 6))) as turned:
        assert sizes == [(50, 30)] * 6 + [turned.size] + [(50, 30)] * 2


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
    images[::200] = [good + EXIT] * 5  # each ends three children
    batches = [images[at : at + 25] for at in range(0, 1000, 25)]
    with ThreadPoolExecutor(4) as threads:
        answers = [a for batch in threads.map(lambda b: pool.decode(b, SETTINGS), batches) for a in batch]
    crashed = (Reason.DECODER_CRASHED, "the decoding process ended with exit code 3", "png")
    assert [said(answer) for answer in answers] == [crashed if EXIT in image else here(image) for image in images]


def test_a_decoder_that_does_not_load_fails_the_job_and_rejects_no_image(tmp_path: Path, pool: DecoderPool) -> None:
    with pytest.raises(JobFailed, match="exit code 1"):
        pool.decode([picture("PNG")], SETTINGS, decoder="schemas.no_such_module:decoder")
    assert said(pool.decode([picture("PNG")], SETTINGS)[0]) == here(picture("PNG"))


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


def test_two_hundred_batches_at_once_have_the_right_outcomes(pool: DecoderPool) -> None:
    files = [b"", b"x", picture("PNG"), *(REJECTED[name][0]() for name in ("one pixel.png", "cut.jpg", "DICOMDIR"))]
    right = [here(data) for data in files]
    with ThreadPoolExecutor(200) as threads:
        for answers in threads.map(lambda _: pool.decode(files, SETTINGS), range(200)):
            assert [said(answer) for answer in answers] == right


def test_a_default_socket_timeout_changes_nothing() -> None:
    socket.setdefaulttimeout(60)  # as Beam does when it uses Google Cloud
    try:
        with DecoderPool(1) as pool:
            assert said(pool.decode([picture("PNG")] * 3, SETTINGS)[2]) == here(picture("PNG"))
    finally:
        socket.setdefaulttimeout(None)


def test_pixels_have_the_shape_of_the_settings(pool: DecoderPool) -> None:
    (answer,) = pool.decode([picture("PNG")], SETTINGS)
    assert isinstance(answer, Decoded)
    assert (answer.pixels.shape, answer.pixels.dtype) == ((32, 32, 3), np.dtype(np.uint8))
