"""Data sets of several classes, and of several findings per image, from training to report and prediction."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn import metrics as sk

from schemas.errors import run_command
from schemas.labels import UNCERTAIN
from tests.training.conftest import DataSet, write_dataset
from training import evaluate, predict, train
from training.decisions.calibration import calibrated
from training.decisions.operating_points import operating_point
from training.fitting import fit
from training.models.objective import compile_model
from training.runs.run_folder import load_run, read_config, read_history


def of_three(index: int) -> int:
    return index % 3


def of_findings(index: int) -> tuple[int, ...]:
    """Bright or not; every third uncertain; never there in the second hundred, which validation is."""
    return index % 2, UNCERTAIN if index % 3 == 0 else int(index % 5 == 0), int(index < 96 and index % 4 == 0)


@pytest.fixture(scope="module", params=["classes", "findings"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[DataSet, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    label = of_three if request.param == "classes" else of_findings
    sizes = {"train": 96, "validation": 42, "test": 30}
    data = write_dataset(folder / "data", sizes, size=24, classes=("A", "B", "C"), label=label)
    flags = ["--data", str(data.folder), "--output", str(folder / "run"), "--recipe", "model1", "--epochs", "2"]
    assert run_command(train.main, [*flags, "--balanced", "--operating_point", "youden"]) == 0
    return data, folder / "run"


def test_a_balanced_loss_does_not_count_uncertain_findings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_dataset(
        tmp_path / "data", {"train": 96, "validation": 42}, size=24, classes=("A", "B", "C"), label=of_findings
    )
    losses = []

    def compiled(model: Any, *arguments: Any) -> None:
        compile_model(model, *arguments)
        losses.append(model.loss)

    monkeypatch.setattr(fit, "compile_model", compiled)
    flags = ["--data", str(data.folder), "--output", str(tmp_path / "run"), "--recipe", "model1", "--epochs", "1"]
    assert run_command(train.main, [*flags, "--balanced"]) == 0
    (loss,) = losses
    labels = np.array([example.label for example in data.examples["train"]])
    for index in range(3):
        sums = []
        for value in (0, 1):
            some = np.full(labels.shape, UNCERTAIN, np.float32)
            some[labels[:, index] == value, index] = value
            sums.append(float(loss(some, np.full(labels.shape, 0.5, np.float32))))
        assert sums[0] == pytest.approx(sums[1], rel=1e-5)
        assert sums[0] > 0


def test_thresholds_are_those_of_the_validation_split(trained: tuple[DataSet, Path]) -> None:
    data, run = trained
    model, config = load_run(str(run))
    assert config.threshold is not None
    examples = data.examples["validation"]
    probabilities = np.asarray(model(np.stack([e.image for e in examples]), training=False), float)
    assert probabilities.shape == (42, 3)
    for index, value in enumerate(config.threshold["values"]):
        labels = np.array([e.label[index] if isinstance(e.label, tuple) else e.label == index for e in examples], int)
        certain = labels != UNCERTAIN
        if 0 < labels[certain].sum() < certain.sum():
            assert value == pytest.approx(
                operating_point("youden").threshold(labels[certain], probabilities[certain, index]), abs=1e-6
            )
        else:
            assert value is None
            assert config.thresholds[index] == 0.5
    assert set(read_history(str(run))[0]) == {"epoch", "loss", "accuracy", "auc", "val_loss", "val_accuracy", "val_auc"}


def test_evaluation(trained: tuple[DataSet, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, run = trained
    output = tmp_path / "out"
    command = ["--run", str(run), "--data", str(data.folder), "--output", str(output)]
    assert run_command(evaluate.main, command) == 0
    printed = capsys.readouterr().out
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics["examples"] == 30
    assert f"macro auroc  {metrics['macro']['auroc']:.4f}  (" in printed
    examples = data.examples["test"]
    model, config = load_run(str(run))
    probabilities = np.asarray(model(np.stack([e.image for e in examples]), training=False), float)
    labels = np.array([e.label for e in examples])
    if config.label_kind == "class":
        assert metrics["confusion_matrix"] == sk.confusion_matrix(labels, probabilities.argmax(1)).tolist()
        assert "accuracy" in printed
    else:
        assert metrics["notes"] == ["no area for C: the split has only positive or only negative examples of it"]
        certain = labels[:, 1] != UNCERTAIN
        matrix = sk.confusion_matrix(labels[certain, 1], probabilities[certain, 1] >= config.thresholds[1])
        assert metrics["per_class"]["B"]["figures"]["confusion_matrix"] == matrix.tolist()
    assert set(metrics["calibration"]) == {"temperature", "before", "after"}
    page = (output / "report.html").read_text()
    assert page.count("<figure>") >= 1
    assert "the parts of it that count" in page
    assert re.search(r'aria-label="precision-recall curve".*>A, 0\.\d{3}<', page, re.DOTALL)
    for name in "ABC":
        assert f'<tr><th scope="row">{name}</th>' in page
    for name in ("confusion.png", "roc.png"):
        assert (output / name).read_bytes().startswith(b"\x89PNG")


def test_subgroups(trained: tuple[DataSet, Path], tmp_path: Path, fails: Callable[..., str]) -> None:
    data, run = trained
    table = tmp_path / "table.csv"
    table.write_text("id,view\n" + "".join(f"{e.id},AP\n" for e in data.examples["test"][:12]))
    flags = ["--run", str(run), "--data", str(data.folder), "--output", str(tmp_path / "out")]
    assert run_command(evaluate.main, [*flags, "--subgroups", str(table)]) == 0
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert metrics["subgroups"]["view"]["AP"]["examples"] == 12
    assert set(metrics["subgroups"]["view"]["AP"]["per_class"]) == {"A", "B", "C"}
    assert "--prevalence is for two classes" in fails(2, evaluate.main, *flags, "--prevalence", "0.1")


def test_prediction(trained: tuple[DataSet, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, run = trained
    pixels = data.examples["test"][0].image
    Image.fromarray(pixels[:, :, 0]).save(tmp_path / "x.png")
    model, config = load_run(str(run))
    (row,) = np.asarray(model(pixels[np.newaxis], training=False), float).tolist()
    assert run_command(predict.main, ["--run", str(run), "--json", str(tmp_path / "x.png")]) == 0
    said = json.loads(capsys.readouterr().out)
    assert list(said["probabilities"]) == ["A", "B", "C"]
    assert list(said["probabilities"].values()) == pytest.approx(row, abs=1e-5)
    assert run_command(predict.main, ["--run", str(run), str(tmp_path / "x.png")]) == 0
    path, probability, name, calibrated_probability, *_ = capsys.readouterr().out.strip().split("\t")
    assert path == str(tmp_path / "x.png")
    assert float(probability) == pytest.approx(max(row), abs=1e-5)
    after = calibrated(np.array([row]), config)[0].tolist()
    assert said["calibrated_probabilities"] == pytest.approx(dict(zip("ABC", after, strict=True)), abs=1e-5)
    assert float(calibrated_probability) == pytest.approx(max(after), abs=1e-5)
    if config.label_kind == "class":
        assert said["class"] == name == "ABC"[int(np.argmax(row))]
    else:
        found = [c for c, p, least in zip("ABC", row, config.thresholds, strict=True) if p >= least]
        assert said["findings"] == found
        assert name == ("|".join(found) or "No Finding")


def test_another_prior(
    trained: tuple[DataSet, Path], tmp_path: Path, fails: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = trained
    for number, example in enumerate(data.examples["test"]):
        Image.fromarray(example.image[:, :, 0]).save(tmp_path / f"{number}.png")
    flags = ["--run", str(run), "--adapt_prior", str(tmp_path), str(tmp_path / "0.png")]
    if data.manifest.label_kind != "class":
        assert "is for classes" in fails(2, predict.main, *flags)
        return
    assert run_command(predict.main, [*flags, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    corrected = said["corrected_probabilities"]
    assert sum(corrected.values()) == pytest.approx(1)
    assert said["class"] == max(corrected, key=corrected.get)


def test_a_run_and_a_set_of_another_kind_do_not_go_together(
    trained: tuple[DataSet, Path], make_dataset: Callable[..., DataSet], fails: Callable[..., str]
) -> None:
    _, run = trained
    classes = read_config(str(run)).label_kind == "class"
    other = make_dataset(
        examples={"test": 6}, size=24, classes=("A", "B", "C"), label=of_findings if classes else of_three
    )
    line = fails(2, evaluate.main, "--run", run, "--data", other.folder)
    assert ("has labels A, B, C; " in line) == classes
    assert ("classifies A, B, C" in line) == classes


def test_a_finding_that_validation_lacks_is_warned_of(
    make_dataset: Callable[..., DataSet], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_dataset(
        examples={"train": 12, "validation": 12},
        size=24,
        classes=("A", "B"),
        label=lambda n: (n % 2, int(n < 12 and n % 4 == 0)),
    )
    flags = ["--data", str(data.folder), "--output", str(tmp_path / "run"), "--recipe", "model1", "--epochs", "1"]
    assert run_command(train.main, flags) == 0
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert warnings == [f"warning: split validation of {data.folder} has no example of B; its metrics are undefined"]


def test_findings_that_are_present_or_uncertain_only_are_warned_of(
    make_dataset: Callable[..., DataSet], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_dataset(
        examples={"train": 12, "validation": 12},
        size=24,
        classes=("A", "B", "C"),
        # Which of B is certainly absent only in the first split, and of C only in the second.
        label=lambda n: (n % 2, n % 2 or (UNCERTAIN if n >= 12 else 0), n % 2 or (UNCERTAIN if n < 12 else 0)),
    )
    flags = ["--data", str(data.folder), "--output", str(tmp_path / "run"), "--recipe", "model1", "--epochs", "1"]
    assert run_command(train.main, flags) == 0
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert warnings == [
        f"warning: split {split} of {data.folder} has no example that is certainly without {name}; its metrics are undefined"
        for split, name in (("train", "C"), ("validation", "B"))
    ]
