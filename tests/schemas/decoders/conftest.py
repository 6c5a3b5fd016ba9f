"""A pool whose decoders are stand-ins, and what its answers say."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.decoders.pool import DecoderPool
from schemas.pixels.decode import decode
from schemas.pixels.rejection import Decoded, ImageRejected, ImageSkipped
from schemas.pixels.settings import ImageSettings
from tests.beam_jobs.standin_words import TOLD, stand_in_path

SETTINGS = ImageSettings(image_size=32, channels=3)


@pytest.fixture
def told(tmp_path: Path) -> Path:
    """Where the stand-in decoder leaves a file HANGS when it begins to hang."""
    folder = tmp_path / f"{TOLD}here"
    folder.mkdir()
    return folder


@pytest.fixture
def stand_in(told: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*stand_in_path(told).split(os.pathsep), *sys.path])


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
