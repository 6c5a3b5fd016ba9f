"""Decoding in a child process gives what decoding here gives, and survives what this process would not."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from beam_jobs.isolation import IsolatedDecoder, attempt, attempts
from schemas.errors import JobFailed
from schemas.image import ImageRejected, ImageSettings, ImageSkipped, Reason, decode
from tests.beam_jobs.standin_words import EXIT, HANG, SEGFAULT, stand_in_path
from tests.conftest import Result, files_of, labelled, write_images
from tests.schemas.image_files import GOOD, REJECTED, picture

Convert = Callable[..., Result]
SETTINGS = ImageSettings(image_size=32, channels=3)


def outcome(of: Callable[[bytes], object], data: bytes) -> object:
    try:
        image = of(data)
    except ImageRejected as error:
        return error.reason, error.detail, error.format
    except ImageSkipped as error:
        return error.reason
    pixels, format, notes = image  # type: ignore[misc]
    return pixels.dtype, pixels.tolist(), format, notes


def test_every_kind_of_file_has_the_same_outcome_in_a_child() -> None:
    files = [make() for make in GOOD.values()] + [make() for make, _ in REJECTED.values()]
    with IsolatedDecoder(SETTINGS, "pydicom", 60) as isolated:
        for data in files:
            assert outcome(isolated, data) == outcome(lambda data: decode(data, SETTINGS), data)


def test_settings_reach_the_child() -> None:
    data = REJECTED["named.dcm"][0]()
    with IsolatedDecoder(ImageSettings(allow_burned_in=True), "pydicom", 60) as isolated:
        assert isolated(data).format == "dicom"


def test_crashes_and_hangs_are_rejected_and_the_next_image_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", stand_in_path())
    good = picture("PNG")
    with IsolatedDecoder(SETTINGS, "pydicom", 1) as isolated:
        for word, reason, detail in (
            (EXIT, Reason.DECODER_CRASHED, "the decoding process ended with exit code 3"),
            (HANG, Reason.DECODER_TIMEOUT, "not decoded in 1 s"),
            (SEGFAULT, Reason.DECODER_CRASHED, "the decoding process ended with signal 11"),
        ):
            with pytest.raises(ImageRejected) as caught:
                isolated(good + word)
            assert (caught.value.reason, caught.value.detail, caught.value.format) == (reason, detail, "png")
            assert np.array_equal(isolated(good).pixels, decode(good, SETTINGS).pixels)


def test_a_child_that_cannot_start_fails_the_job_and_no_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text("import os\nos._exit(5)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with IsolatedDecoder(SETTINGS, "pydicom", 60) as isolated, pytest.raises(JobFailed, match="exit code 5"):
        isolated(picture("PNG"))


def test_an_attempt_that_ends_leaves_no_mark_whatever_its_end(tmp_path: Path) -> None:
    work = str(tmp_path / "_work")
    with attempt(work, "train-0") as lost:
        assert not lost
        assert attempts(work) == {"attempt-train-0"}
        with attempt(work, "train-0") as lost_again:  # as a second process would see it
            assert lost_again

    def interrupted() -> None:
        with attempt(work, "train-0") as lost:
            assert not lost
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not attempts(work)


def test_isolated_shards_have_the_same_bytes(tmp_path: Path, convert: Convert) -> None:
    raw = write_images(tmp_path / "raw", labelled(20, suffix=".jpeg"))
    for kind in ("page.jpg", "damaged.jpg", "named.dcm", "report.dcm", "no file meta.dcm"):
        make = GOOD[kind] if kind in GOOD else REJECTED[kind][0]
        (raw / "NORMAL" / kind).write_bytes(make())
    flags = ("--shards", 2, "--max_reject_fraction", 0.2)
    assert convert(raw, tmp_path / "threads", *flags).code == 0
    (tmp_path / "child/_work/r1").mkdir(parents=True)
    for split in ("train", "validation"):
        for index in range(2):
            (tmp_path / f"child/_work/r1/attempt-{split}-{index}").write_bytes(b"")
    assert convert(raw, tmp_path / "child", *flags).code == 0
    assert files_of(tmp_path / "threads") == files_of(tmp_path / "child")
    assert not os.path.exists(tmp_path / "child/_work")
