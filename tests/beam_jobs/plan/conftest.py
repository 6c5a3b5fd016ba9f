"""Data sets with copies, for the tests of `--near_duplicates_of`."""

import itertools
from pathlib import Path
from typing import Any

import pytest

from tests.beam_jobs.leakage.test_near_duplicates import cropped, phantom

KEY = b"0123456789abcdef"


def draw(folder: Path, name: str, seed: int, **options: Any) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    phantom(seed, 96).save(folder / name, **options)


@pytest.fixture
def carved(tmp_path: Path) -> Path:
    """Patients p10 to p29 with two images each. Every second patient also has a copy of an image of the next one: p10 of
    p11, ... p28 of p29. p10, p11 and p12 form a chain, because p12 has a cropped copy of the same image of p11."""
    raw = tmp_path / "raw"
    for patient, k in itertools.product(range(10, 30), range(2)):
        draw(raw, f"{label(patient)}/p{patient}_{k}.png", 2 * patient + k)
    for patient in range(10, 30, 2):
        draw(raw, f"{label(patient)}/p{patient}_copy.jpg", 2 * (patient + 1), quality=90)
    cropped(phantom(22, 96)).save(raw / label(12) / "p12_crop.png")
    return raw


def label(patient: int) -> str:
    return "NORMAL" if patient < 20 else "PNEUMONIA"


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """Images in each split and class. Two images of train have copies in test and one has a copy in val; one image of val
    has a copy in test."""
    raw = tmp_path / "raw"
    for n, (split, name) in enumerate(itertools.product(("train", "val", "test"), ("NORMAL", "PNEUMONIA"))):
        for k in range(6):
            draw(raw, f"{split}/{name}/{k}.png", 10 * n + k)
    draw(raw, "test/NORMAL/copy0.jpg", 0, quality=90)
    draw(raw, "test/NORMAL/copy1.jpg", 1, quality=80)
    draw(raw, "val/NORMAL/copy2.jpg", 2, quality=80)
    draw(raw, "test/PNEUMONIA/copy30.jpg", 30, quality=80)
    return raw
