"""beam_jobs.predict gives the numbers of training.predict, for the same run and the same images."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("tensorflow", reason="exports need it")

from beam_jobs import predict as scoring
from schemas.errors import run_command
from schemas.labels import MULTI_HOT
from schemas.pixels.settings import ImageSettings
from tests.training.untrained_runs import write_run
from training import export, predict
from training.models.recipes import MODEL1
from training.runs.run_folder import CONFIG

Numbers = dict[str, Any]


def write_pictures(folder: Path) -> Path:
    """Noise of several contrasts, sizes and formats."""
    folder.mkdir()
    random = np.random.default_rng(3)
    for n in range(40):
        levels = random.integers(0, 40 + 5 * n, (40 + n, 60)).astype(np.uint8)
        Image.fromarray(levels).save(folder / f"{n}.{('png', 'jpeg', 'bmp')[n % 3]}")
    return folder


def by_name(lines: list[str], name: Callable[[Numbers], str]) -> dict[str, Numbers]:
    rows = [json.loads(line) for line in lines]
    return {Path(name(row)).name: row for row in rows}


def said(run: Path, images: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> dict[str, Numbers]:
    """What training.predict prints."""
    capsysbinary.readouterr()
    assert run_command(predict.main, ["--run", str(run), "--json", str(images)]) == 0
    return by_name(capsysbinary.readouterr().out.decode().splitlines(), lambda row: row["path"])


def scored(run: Path, images: Path, folder: Path) -> dict[str, Numbers]:
    """What beam_jobs.predict writes."""
    model = folder / "model.onnx"
    assert run_command(export.main, ["--run", str(run), "--format", "onnx", "--output", str(model)]) == 0
    places = ["--model", str(model), "--input", str(images), "--output", str(folder / "scores")]
    assert run_command(scoring.main, [*places, "--include_source_uri", "--shards", "2"]) == 0
    lines = [line for path in (folder / "scores").glob("*.jsonl") for line in path.read_text().splitlines()]
    return by_name([line for line in lines if '"id"' in line], lambda row: row["uri"])


def check_same(there: dict[str, Numbers], here: dict[str, Numbers]) -> None:
    assert there.keys() == here.keys()
    assert len(here) == 40
    spread = []
    for name, row in here.items():
        assert set(row) - {"id", "uri"} == set(there[name]) - {"path", "out_of_scope", "scope_score", "run"}
        for column in set(row) - {"id", "uri"}:
            expected = there[name][column]
            if "probabilit" not in column:
                assert row[column] == expected
            elif isinstance(expected, dict):
                assert list(row[column]) == list(expected)
                np.testing.assert_allclose(list(row[column].values()), list(expected.values()), atol=1e-5, rtol=0)
            else:
                assert abs(row[column] - expected) <= 1e-5
                spread.append(expected)
    assert not spread or np.ptp(spread) > 1e-3


def test_two_classes_with_calibration(run: Path, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    assert json.loads((run / CONFIG).read_text())["calibration"]
    images = write_pictures(tmp_path / "images")
    check_same(said(run, images, capsysbinary), scored(run, images, tmp_path))


@pytest.mark.parametrize("kind", ["class", MULTI_HOT])
def test_several_classes_and_findings(kind: str, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    settings = ImageSettings(image_size=24, resize_mode="letterbox", crop=0.9, contrast=1.3)
    write_run(tmp_path / "run", MODEL1, settings, ("Mass", "Nodule", "Edema"), kind)
    images = write_pictures(tmp_path / "images")
    check_same(said(tmp_path / "run", images, capsysbinary), scored(tmp_path / "run", images, tmp_path))
