"""The command, against figures that are computed from the examples themselves."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from schemas.errors import run_command
from tests.training.conftest import DataSet
from training import shift
from training.models.recipes import recipe
from training.runs.run_folder import load_run, read_config
from training.shifts.corruptions import CORRUPTIONS, corrupt

RECIPE = """
from dataclasses import replace
from training.models.recipes import RECIPES
RECIPE = replace(RECIPES["model1"], name="brief", epochs=1)
"""


def suite(*flags: object) -> dict[str, Any]:
    """The content of the shift.json that the command writes into its --output."""
    words = [str(flag) for flag in flags]
    assert run_command(shift.main, words) == 0
    content: dict[str, Any] = json.loads(Path(words[words.index("--output") + 1], "shift.json").read_text())
    return content


def test_a_run_on_corruptions(dataset: DataSet, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = suite("--data", dataset.folder, "--run", run, "--output", tmp_path / "out")
    examples = dataset.examples["validation"]
    images, labels = np.stack([each.image for each in examples]), np.array([each.label for each in examples])
    model, config = load_run(str(run))
    proxies = {(each["name"], each["severity"]): each for each in content["proxies"]}
    assert len(proxies) == 1 + 5 * len(CORRUPTIONS)
    for name, severity in (("validation", 0), ("rotation", 4)):
        shown = images if not severity else corrupt(images, name, severity, config.seed)
        found = np.asarray(model(shown))[:, 0]
        figures = proxies[name, severity]["mean"]
        assert figures["auroc"] == pytest.approx(roc_auc_score(labels, found), abs=2e-3)
        called = found >= config.thresholds[0]
        assert figures["accuracy"] == pytest.approx((called == labels).mean())
        assert figures["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, called))
        assert figures["sensitivity_at_0.5"] == pytest.approx((found >= 0.5)[labels == 1].mean())
        assert figures["specificity_at_0.5"] == pytest.approx((found < 0.5)[labels == 0].mean())
    place = next(n for n, each in enumerate(content["proxies"]) if (each["name"], each["severity"]) == ("rotation", 4))
    with np.load(tmp_path / "out" / "predictions.npz") as stored:
        assert (stored[f"{place}/{config.seed}"][0] == labels).all()
        np.testing.assert_allclose(stored[f"{place}/{config.seed}"][1], found, atol=2e-6)
    table = capsys.readouterr().out
    assert (tmp_path / "out" / "shift.md").read_text() in table
    (row,) = (line for line in table.splitlines() if line.startswith("| rotation "))
    aurocs = [proxies["rotation", severity]["mean"]["auroc"] for severity in range(1, 6)]
    assert f" {np.mean(aurocs):.3f} ({min(aurocs):.3f}) |" in row
    every = [proxies[name, severity]["mean"]["auroc"] for name in CORRUPTIONS for severity in range(1, 6)]
    summary = content["summary"]["corruption"]
    assert summary["mean"]["auroc"] == pytest.approx(np.mean(every))
    assert summary["worst"]["auroc"] == min(every)


def test_what_is_left_out_is_not_trained_on(dataset: DataSet, tmp_path: Path) -> None:
    (tmp_path / "brief.py").write_text(RECIPE)
    first = [each for split in ("train", "validation") for each in dataset.examples[split] if int(each.id, 16) < 50]
    rows = [f"{each.id},{'a' if int(each.id, 16) < 50 else 'b'}" for each in dataset.examples["train"]]
    (tmp_path / "sites.csv").write_text("\n".join(["id,site", *rows]))
    output = tmp_path / "out"
    flags = ("--data", dataset.folder, "--recipe", tmp_path / "brief.py", "--subgroups", tmp_path / "sites.csv")
    content = suite(*flags, "--output", output, "--only", "site=a", "--seeds", 2)
    unchanged, proxy = content["proxies"]
    assert (unchanged["name"], sum(unchanged["examples"].values())) == ("validation without site=a", 40)
    assert (proxy["kind"], proxy["name"]) == ("left out", "site=a")
    assert proxy["examples"] == {"NORMAL": 25, "PNEUMONIA": 25}
    runs = sorted(path for path in (output / "runs").iterdir() if path.is_dir())
    assert [read_config(str(path)).seed for path in runs] == [0, 1]
    assert read_config(str(runs[0])).data["examples"] == {"train": 46, "validation": 40}
    own = recipe(str(tmp_path / "brief.py"))
    images = np.stack([each.image for each in first])
    labels = np.array([each.label for each in first])
    for number, path in enumerate(runs):
        found = np.asarray(load_run(str(path), own)[0](images))[:, 0]
        assert proxy["seeds"][str(number)]["auroc"] == pytest.approx(roc_auc_score(labels, found), abs=2e-3)
    aurocs = [each["auroc"] for each in proxy["seeds"].values()]
    assert proxy["mean"]["auroc"] == pytest.approx(np.mean(aurocs))
    assert proxy["sd"]["auroc"] == pytest.approx(np.std(aurocs, ddof=1))
    before = (output / "shift.json").read_text()
    suite(*flags, "--output", output, "--only", "site=a", "--seeds", 2, "--resume")
    assert (output / "shift.json").read_text() == before


def test_files_are_measured_by_a_model_that_has_not_seen_them(dataset: DataSet, run: Path, tmp_path: Path) -> None:
    (tmp_path / "brief.py").write_text(RECIPE)
    copied = dataset.examples["train"][:48]
    for each in (*copied, *dataset.examples["test"][:2]):
        path = tmp_path / "raw" / dataset.manifest.classes[int(str(each.label))] / f"{each.id}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(each.image[..., 0]).save(path)
    flags = ("--data", dataset.folder, "--raw", tmp_path / "raw", "--only", "raw", "--output", tmp_path / "out")
    content = suite(*flags, "--recipe", tmp_path / "brief.py")
    _, files, records = content["proxies"]
    assert list(content["summary"]) == ["raw"]
    assert (files["name"], sum(files["examples"].values())) == ("files", 50)
    assert (records["name"], sum(records["examples"].values())) == ("records of raw files", 48)
    (trained,) = (path for path in (tmp_path / "out" / "runs").iterdir() if path.is_dir())
    groups = {each.group for each in copied}
    left = {split: [e for e in dataset.examples[split] if e.group not in groups] for split in ("train", "validation")}
    assert read_config(str(trained)).data["examples"] == {split: len(rest) for split, rest in left.items()}


def test_wrong_flags(
    dataset: DataSet, run: Path, make_dataset: Callable[..., DataSet], tmp_path: Path, fails: Callable[..., str]
) -> None:
    flags = ("--data", dataset.folder, "--output", tmp_path / "out")
    assert "give --recipe, to train it, or --run" in fails(2, shift.main, *flags)
    assert "needs training; give --recipe" in fails(2, shift.main, *flags, "--run", run, "--subgroups", "x.csv")
    assert "--seeds 0: must be 1 or more" in fails(2, shift.main, *flags, "--recipe", "model1", "--seeds", 0)
    assert "a run has one seed" in fails(2, shift.main, *flags, "--run", run, "--seeds", 2)
    assert "must be a local folder" in fails(
        2, shift.main, "--data", dataset.folder, "--output", "gs://a/b", "--run", run
    )
    assert "--only fog: no such proxy; there are corruptions, gamma_down" in fails(
        2, shift.main, *flags, "--run", run, "--only", "fog"
    )
    several = make_dataset(examples={"train": 9, "validation": 9}, size=16, classes=("A", "B", "C"))
    assert "has 3 classes or findings; the suite is for two classes" in fails(
        2, shift.main, "--data", several.folder, "--output", tmp_path / "out", "--recipe", "model1"
    )
    (tmp_path / "file").write_text("")
    assert "cannot write to --output" in fails(2, shift.main, *flags[:3], tmp_path / "file" / "out", "--run", run)
    (tmp_path / "out").mkdir(exist_ok=True)
    (tmp_path / "out" / "shift.json").write_text("{}")
    assert "already holds a shift.json; give --resume or --overwrite" in fails(2, shift.main, *flags, "--run", run)
