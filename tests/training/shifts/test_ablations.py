"""The benchmark of variants of the recipe `best`: the table is that of the suite, and what is there is not trained again."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import ablations
from tests.conftest import ROOT
from tests.training.conftest import DataSet
from training.models.recipes import MODEL1

BRIEF = "model3, as the paper has it"


def test_it_does_not_load_keras_before_it_is_set_up() -> None:
    """Without oneDNN, which training/loading.py switches on, some processors train at less than half the speed."""
    code = "import sys, benchmarks.ablations; sys.exit('keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_the_table_shows_what_the_suite_measured(
    dataset: DataSet, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ablations.VARIANTS, BRIEF, MODEL1)  # the quickest to train
    flags = ["--data", str(dataset.folder), "--runs", str(tmp_path / "runs"), "--epochs", "1", "--variants", BRIEF]
    ablations.main(flags)
    (suite,) = tmp_path.glob("runs/*/shift.json")
    content, written = json.loads(suite.read_text()), suite.stat().st_mtime_ns
    mean, worst = (content["summary"]["corruption"][which] for which in ("mean", "worst"))
    capsys.readouterr()
    ablations.main([*flags, "--output", str(tmp_path)])
    assert suite.stat().st_mtime_ns == written
    (row,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith(f"| {BRIEF} |"))
    assert f"| {mean['auroc']:.3f} ({worst['auroc']:.3f}) |" in row
    assert f"| {mean['sensitivity']:.3f} / {mean['specificity']:.3f} |" in row
    assert row in (tmp_path / "ablations.md").read_text()
    (variant,) = json.loads((tmp_path / "ablations.json").read_text())["variants"].values()
    assert variant["recipe"] == content["recipe"]
    assert variant["mean"] == mean


def test_variants_are_added_to_those_of_the_same_data_epochs_and_seeds(
    dataset: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = list(ablations.VARIANTS)[:3]
    monkeypatch.setattr(ablations, "VARIANTS", dict.fromkeys(names, MODEL1))

    def variants(name: str, epochs: str) -> list[str]:
        flags = ["--data", str(dataset.folder), "--runs", str(tmp_path / name), "--variants", name]
        ablations.main([*flags, "--epochs", epochs, "--output", str(tmp_path)])
        return list(json.loads((tmp_path / "ablations.json").read_text())["variants"])

    assert variants(names[1], "1") == [names[1]]
    assert variants(names[0], "1") == names[:2]
    assert variants(names[2], "2") == names[2:]
