"""metrics.json, the pictures and the report, against the same figures computed from the examples themselves."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as sk

from schemas.errors import run_command
from tests.training.conftest import DataSet
from training import evaluate
from training.assessment.mistakes import SHOWN, Mistakes, keep_worst
from training.assessment.predictions import Scored
from training.runs.run_folder import RESULTS, load_run, read_config


@pytest.fixture(scope="module")
def evaluated(dataset: DataSet, run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("evaluated")
    flags = ["--run", str(run), "--data", str(dataset.folder), "--output", str(output)]
    assert run_command(evaluate.main, flags) == 0
    return output


@pytest.fixture(scope="module")
def truth(dataset: DataSet, run: Path) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Labels and probabilities of the test split in one call of the model, no input pipeline between."""
    examples = dataset.examples["test"]
    model, _ = load_run(str(run))
    probabilities = np.asarray(model(np.stack([example.image for example in examples]), training=False))[:, 0]
    return np.array([example.label for example in examples]), probabilities


def test_metrics(evaluated: Path, truth: tuple[NDArray[np.int64], NDArray[np.float32]], run: Path) -> None:
    labels, probabilities = truth
    metrics = json.loads((evaluated / "metrics.json").read_text())
    threshold = json.loads((run / "config.json").read_text())["threshold"]
    predicted = probabilities >= threshold["value"]
    assert metrics["split"] == "test"
    assert metrics["examples"] == 30
    assert metrics["threshold"] == threshold
    assert metrics["loss"] == pytest.approx(sk.log_loss(labels, probabilities.astype(float)), rel=1e-4)
    assert metrics["accuracy"] == pytest.approx((predicted == labels).mean())
    assert metrics["auroc"] == pytest.approx(sk.roc_auc_score(labels, probabilities))
    assert metrics["auprc"] == pytest.approx(sk.average_precision_score(labels, probabilities))
    assert metrics["classes"] == ["NORMAL", "PNEUMONIA"]
    assert metrics["confusion_matrix"] == sk.confusion_matrix(labels, predicted).tolist()
    assert metrics["majority_class_accuracy"] == 0.5
    assert metrics["notes"] == []
    half = metrics["at_threshold_0.5"]
    assert half["confusion_matrix"] == sk.confusion_matrix(labels, probabilities >= 0.5).tolist()
    for name in ("accuracy", "sensitivity", "specificity"):
        low, high = metrics["intervals"][name]
        assert 0 <= low <= metrics[name] <= high <= 1


def test_calibration_and_patients(
    evaluated: Path, truth: tuple[NDArray[np.int64], NDArray[np.float32]], run: Path
) -> None:
    labels, probabilities = truth
    metrics = json.loads((evaluated / "metrics.json").read_text())
    assert metrics["patients"] == 15
    assert "bootstrap" in metrics["intervals"]["methods"]["accuracy, sensitivity, specificity"]
    calibration = metrics["calibration"]
    assert calibration["temperature"] == json.loads((run / "config.json").read_text())["calibration"]["temperature"]
    assert (
        calibration["before"]["brier"] == metrics["brier"] == pytest.approx(sk.brier_score_loss(labels, probabilities))
    )
    assert calibration["before"]["ece"] == metrics["ece"]
    logits = np.log(probabilities / (1 - probabilities)) / calibration["temperature"]
    assert calibration["after"]["brier"] == pytest.approx(
        sk.brier_score_loss(labels, 1 / (1 + np.exp(-logits))), rel=1e-3
    )
    for state in ("before", "after"):
        assert sum(entry["count"] for entry in calibration[state]["bins"]) == 30


class TestSubgroups:
    def test_figures_of_each_value(
        self, dataset: DataSet, run: Path, truth: tuple[NDArray[np.int64], NDArray[np.float32]], tmp_path: Path
    ) -> None:
        labels, probabilities = truth
        table = tmp_path / "table.csv"
        rows = [
            f"{e.id},{'old' if n % 5 else ''},{e.label}\n" for n, e in enumerate(dataset.examples["test"]) if n % 3 == 0
        ]
        table.write_text("id,age,class\n" + "".join(rows))
        flags = ["--run", str(run), "--data", str(dataset.folder), "--output", str(tmp_path / "out")]
        assert run_command(evaluate.main, [*flags, "--subgroups", str(table), "--prevalence", "0.1"]) == 0
        metrics = json.loads((tmp_path / "out/metrics.json").read_text())
        threshold = metrics["threshold"]["value"]
        assert set(metrics["subgroups"]) == {"age", "class"}
        some = np.array([n for n in range(30) if n % 3 == 0 and n % 5])
        old = metrics["subgroups"]["age"]["old"]
        assert old["confusion_matrix"] == sk.confusion_matrix(labels[some], probabilities[some] >= threshold).tolist()
        ill = metrics["subgroups"]["class"]["1"]
        assert ill["auroc"] is None
        against = np.array([n for n in range(30) if labels[n] == 0 or n % 3 == 0])
        expected = sk.roc_auc_score(labels[against], probabilities[against])
        assert ill["against_the_other_class"]["auroc"] == pytest.approx(expected)
        hits, alarms = metrics["sensitivity"] * 0.1, (1 - metrics["specificity"]) * 0.9
        assert metrics["at_prevalence"]["ppv"] == pytest.approx(hits / (hits + alarms))

    def test_refusals(self, dataset: DataSet, run: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
        command = (evaluate.main, "--run", run, "--data", dataset.folder, "--output", tmp_path / "out")
        (tmp_path / "t.csv").write_text("path,age\nx.png,old\n")
        assert "names none of the 30 examples" in fails(2, *command, "--subgroups", tmp_path / "t.csv")
        assert "cannot be read" in fails(2, *command, "--subgroups", tmp_path / "none.csv")
        assert "--id_key_file is for --subgroups" in fails(2, *command, "--id_key_file", tmp_path / "t.csv")
        assert "must be above 0 and below 1" in fails(2, *command, "--prevalence", "1")
        assert not (tmp_path / "out").exists()


class Addresses(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, _: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in ("src", "href", "data", "action")]


def test_the_report_needs_nothing_outside_itself(evaluated: Path) -> None:
    page = (evaluated / "report.html").read_text()
    parser = Addresses()
    parser.feed(page)
    pictures = [address for address in parser.found if not address.startswith("#")]
    assert len(pictures) >= 2
    assert all(address.startswith("data:image/png;base64,") for address in pictures)
    assert not re.search(r"https?://|@import|url\(", page)
    assert "<script" not in page


def test_the_report_and_the_card_tell_the_figures(evaluated: Path, run: Path) -> None:
    page, card = (evaluated / "report.html").read_text(), (evaluated / "model_card.md").read_text()
    metrics = json.loads((evaluated / "metrics.json").read_text())
    for name in ("accuracy", "sensitivity", "specificity"):
        low, high = metrics["intervals"][name]
        interval = f"{100 * low:.1f} to {100 * high:.1f}%"
        assert f">{metrics[name]:.1%} <span class=ci>{interval}</span></td>" in page
        assert f"| {metrics[name]:.1%} ({interval}) |" in card
    for name in ("auroc", "auprc", "loss"):
        assert re.search(rf"<td class=n [^>]*>{metrics[name]:.3f}", page)
        assert f"| {metrics[name]:.3f} " in card
    for name in ("config.json", "model.weights.h5"):
        digest = hashlib.sha256((run / name).read_bytes()).hexdigest()
        assert digest in page
        assert digest in card
    for label in ("ROC curve", "precision-recall curve", "loss by epoch", "AUC by epoch"):
        assert f'aria-label="{label}"' in page


def test_the_same_evaluation_gives_the_same_files(evaluated: Path, dataset: DataSet, run: Path, tmp_path: Path) -> None:
    flags = ["--run", str(run), "--data", str(dataset.folder), "--output", str(tmp_path)]
    assert run_command(evaluate.main, flags) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(RESULTS)
    for name in RESULTS:
        assert (tmp_path / name).read_bytes() == (evaluated / name).read_bytes(), name


def test_leaks_and_a_run_without_its_history(
    dataset: DataSet, run: Path, tmp_path: Path, make_dataset: Callable[..., DataSet]
) -> None:
    leaky = make_dataset(examples={"train": 4, "test": 6})
    copy = shutil.copytree(run, tmp_path / "run")
    (copy / "history.csv").unlink()
    for content, said in (
        ('{"near_duplicates_across_splits": {"total": 7}}', "of different splits are alike"),
        ("{", "no leakage.json that could be read"),
    ):
        (leaky.folder / "leakage.json").write_text(content)
        assert run_command(evaluate.main, ["--run", str(copy), "--data", str(leaky.folder)]) == 0
        page = (copy / "report.html").read_text()
        assert said in page
        assert "loss by epoch" not in page


def test_pictures(evaluated: Path) -> None:
    for name in ("confusion.png", "roc.png"):
        assert (evaluated / name).read_bytes().startswith(b"\x89PNG")


def test_another_split_and_the_run_folder_as_output(
    dataset: DataSet, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    assert run_command(evaluate.main, ["--run", str(copy), "--data", str(dataset.folder), "--split", "validation"]) == 0
    metrics = json.loads((copy / "metrics.json").read_text())
    assert (metrics["split"], metrics["examples"]) == ("validation", 40)
    assert metrics["notes"] == ["split validation was used in training, so its figures flatter the model"]
    assert f"{metrics['auroc']:.4f}" in capsys.readouterr().out


def test_a_split_of_one_class(run: Path, make_dataset: Callable[..., DataSet], tmp_path: Path) -> None:
    normal = make_dataset(examples={"train": 4, "test": 6}, label=lambda index: int(index < 4))
    flags = ["--run", str(run), "--data", str(normal.folder), "--output", str(tmp_path / "out")]
    assert run_command(evaluate.main, flags) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["sensitivity"] is None
    assert metrics["auroc"] is None
    assert metrics["specificity"] == metrics["accuracy"]
    assert metrics["notes"]
    assert "undefined" in (tmp_path / "out" / "report.html").read_text()


def test_the_worst_mistakes_are_kept(run: Path) -> None:
    def batch(labels: list[int], probabilities: list[float]) -> Scored:
        images = np.zeros((len(labels), 2, 2, 1), np.uint8)
        ids = [f"{label}-{p}" for label, p in zip(labels, probabilities, strict=True)]
        return Scored(images, np.array(labels), ids, np.array(probabilities)[:, np.newaxis], np.array(ids, "S"))

    config = replace(read_config(str(run)), threshold={"value": 0.6})
    mistakes: Mistakes = []
    for start in range(3):
        values = [0.05 * index + 0.01 * start for index in range(20)]
        keep_worst(mistakes, batch([0] * 20, values), config)
        keep_worst(mistakes, batch([1] * 20, values), config)
    every = sorted(0.05 * index + 0.01 * start for start in range(3) for index in range(20))
    assert [mistake.probability for mistake in mistakes[0]] == every[::-1][:SHOWN]
    assert [mistake.probability for mistake in mistakes[1]] == every[:SHOWN]
    assert mistakes[0][0].id == f"0-{every[-1]}"


def test_a_set_that_was_converted_with_another_limit_is_evaluated(
    run: Path, make_dataset: Callable[..., DataSet], tmp_path: Path
) -> None:
    other = make_dataset(examples={"test": 6})
    manifest = other.folder / "manifest.json"
    content = json.loads(manifest.read_text())
    content["image"] |= {"max_pixels": 2_000_000, "allow_burned_in": True, "max_aspect": 5.0}
    manifest.write_text(json.dumps(content))
    flags = ["--run", str(run), "--data", str(other.folder), "--output", str(tmp_path / "out")]
    assert run_command(evaluate.main, flags) == 0
    assert json.loads((tmp_path / "out/metrics.json").read_text())["examples"] == 6


class TestErrors:
    def test_unknown_split_and_missing_run(
        self, dataset: DataSet, run: Path, tmp_path: Path, fails: Callable[..., str]
    ) -> None:
        assert "it has train, validation, test" in fails(
            2, evaluate.main, "--run", run, "--data", dataset.folder, "--split", "holdout"
        )
        assert "has no config.json" in fails(2, evaluate.main, "--run", tmp_path, "--data", dataset.folder)
        assert "s3:// is not" in fails(2, evaluate.main, "--run", "s3://b/run", "--data", dataset.folder)
        assert "must be a local folder" in fails(
            2, evaluate.main, "--run", run, "--data", dataset.folder, "--output", "gs://b/run"
        )

    def test_other_preprocessing_and_other_classes(
        self, run: Path, make_dataset: Callable[..., DataSet], fails: Callable[..., str]
    ) -> None:
        small = make_dataset("small", examples={"test": 4}, size=32)
        assert "image_size 32 (64)" in fails(2, evaluate.main, "--run", run, "--data", small.folder)
        other = make_dataset("other", examples={"test": 4}, classes=("COLD", "WARM"))
        assert "has classes COLD, WARM" in fails(2, evaluate.main, "--run", run, "--data", other.folder)

    def test_damaged_shard(self, run: Path, make_dataset: Callable[..., DataSet], fails: Callable[..., str]) -> None:
        small = make_dataset(examples={"test": 6})
        data = bytearray(small.shard("test", 2).read_bytes())
        data[5000] ^= 1
        small.shard("test", 2).write_bytes(data)
        assert "toy-test.tfrecord-00002-of-00003 is damaged" in fails(
            1, evaluate.main, "--run", run, "--data", small.folder
        )
