"""Checks what `make demo` left in demo/. `make test-demo` runs these tests after the demo."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from beam_jobs import verify
from schemas.dataset import OUTCOMES
from tests.conftest import manifest_of

DEMO = Path(__file__).parent.parent / "demo"
DATASET = DEMO / "tfrecords/cxr/1.0.0"

pytestmark = pytest.mark.demo


def test_every_sample_image_is_accounted_for() -> None:
    manifest = manifest_of(DATASET)
    inputs = manifest["inputs"]
    images = [path for path in (DEMO / "images").rglob("*") if path.is_file()]
    assert inputs["listed"] == len(images) == sum(inputs[outcome] for outcome in OUTCOMES)
    assert inputs["written"] + inputs["duplicates"] == 600
    assert inputs["quarantined"] == 0
    assert list(manifest["splits"]) == ["train", "validation", "test"]
    verify.main([str(DATASET)])


def test_the_model_learned_and_the_report_is_self_contained() -> None:
    metrics = json.loads((DEMO / "run/metrics.json").read_text())
    assert metrics["split"] == "test"
    assert metrics["examples"] == manifest_of(DATASET)["splits"]["test"]["examples"]
    assert metrics["auroc"] > 0.7
    report = (DEMO / "run/report.html").read_text()
    assert not re.findall(r"""(?:src|href)\s*=\s*["']?(?!data:|#)[^"'\s>]+""", report)
    for name in ("curves.png", "confusion.png", "roc.png"):
        with Image.open(DEMO / "run" / name) as picture:
            picture.verify()
