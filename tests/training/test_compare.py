"""Runs side by side, against the same figures computed from the examples themselves."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as sk

from schemas.errors import run_command
from tests.training.conftest import DataSet
from training import compare
from training.comparing.comparison import short_names
from training.models.networks import build_model
from training.models.recipes import MODEL1, MODEL2, own_recipe
from training.runs.run_folder import RunConfig, load_run, read_config, write_config
from training.task import task_of

OWN = """
from keras import layers
from training.models.recipes import Recipe

def body(images, dtype):
    return layers.GlobalAveragePooling2D(dtype=dtype)(images)

RECIPE = Recipe(name="mine", model="mean", epochs=1, body=body)
"""


def untrained(folder: Path, data: DataSet, **changes: object) -> Path:
    """A run of random weights."""
    manifest = data.manifest
    config = RunConfig(MODEL1, 0, False, manifest.classes, manifest.image, {}, {}, label_kind=manifest.label_kind)
    task = task_of(manifest)
    value = {"value": 0.5} if task.outputs == 1 else {"values": [0.5] * task.outputs}
    config = replace(config, threshold={**value, "kind": "fixed=0.5", "source": "was fixed beforehand"}, **changes)  # type: ignore[arg-type]
    folder.mkdir(parents=True)
    build_model(config.recipe, manifest.shape, task).save_weights(folder / "model.weights.h5")
    write_config(str(folder), config)
    return folder


@pytest.fixture(scope="module")
def other(dataset: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained(tmp_path_factory.mktemp("other") / "model2/seed-7", dataset, recipe=MODEL2, seed=7)


@pytest.fixture(scope="module")
def compared(dataset: DataSet, run: Path, other: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("compared") / "out"
    assert run_command(compare.main, flags(dataset, output, run, other)) == 0
    return output


def flags(dataset: DataSet, output: Path, *words: object) -> list[str]:
    return [str(word) for word in ("--data", dataset.folder, "--output", output, *words)]


def test_figures_and_differences(dataset: DataSet, run: Path, other: Path, compared: Path) -> None:
    content = json.loads((compared / "compare.json").read_text())
    assert (content["split"], content["examples"], content["patients"]) == ("test", 30, 15)
    assert [entry["recipe"] for entry in content["runs"]] == ["model1", "model2"]
    assert [entry["seed"] for entry in content["runs"]] == [0, 7]
    examples = dataset.examples["test"]
    labels = np.array([example.label for example in examples])
    areas, rights = [], []
    for path, entry in zip((run, other), content["runs"], strict=True):
        model, config = load_run(str(path))
        scores = np.asarray(model(np.stack([example.image for example in examples]), training=False))[:, 0]
        areas.append(sk.roc_auc_score(labels, scores))
        rights.append((scores >= config.thresholds[0]) == labels)
        assert entry["figures"]["auroc"] == pytest.approx(areas[-1])
        assert entry["figures"]["accuracy"] == pytest.approx(rights[-1].mean())
    (row,) = content["differences"]
    assert row["figures"]["auroc"]["difference"] == pytest.approx(areas[1] - areas[0])
    low, high = row["figures"]["auroc"]["interval"]
    assert low < areas[1] - areas[0] < high
    assert row["mcnemar"]["only_the_first_is_right"] == (rights[0] & ~rights[1]).sum()
    assert row["mcnemar"]["only_this_is_right"] == (~rights[0] & rights[1]).sum()
    accuracy = row["figures"]["accuracy"]["difference"]
    assert accuracy == pytest.approx(rights[1].mean() - rights[0].mean())
    assert "McNemar's test takes all images as independent" in content["notes"][0]


def test_the_page_and_the_curves(compared: Path) -> None:
    text = (compared / "compare.md").read_text()
    content = json.loads((compared / "compare.json").read_text())
    row = content["differences"][0]
    figure, test = row["figures"]["auroc"], row["mcnemar"]
    low, high = figure["interval"]
    assert f"| {figure['difference']:+.3f} ({low:+.3f} to {high:+.3f}) |" in text
    assert f"| {test['only_the_first_is_right']} | {test['only_this_is_right']} |" in text
    assert "| seed-7 | model2 | 7 | 0.500 |" in text
    assert "(compare.svg)" in text
    assert (compared / "compare.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (compared / "compare.svg").read_bytes()


def test_the_same_comparison_gives_the_same_files(dataset: DataSet, run: Path, other: Path, compared: Path) -> None:
    before = {path.name: path.read_bytes() for path in compared.iterdir()}
    assert run_command(compare.main, flags(dataset, compared, run, other)) == 0
    assert {path.name: path.read_bytes() for path in compared.iterdir()} == before


@pytest.mark.parametrize("kind", ["classes", "findings"])
def test_several_classes(
    kind: str, make_dataset: Callable[..., DataSet], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    label: Callable[[int], object] = (
        (lambda index: index % 3) if kind == "classes" else (lambda i: (i % 2, i % 3 == 0, 0))
    )
    data = make_dataset(examples={"train": 6, "test": 18}, size=24, classes=("A", "B", "C"), label=label)
    runs = [untrained(tmp_path / name, data, seed=seed) for seed, name in enumerate("xy")]
    assert run_command(compare.main, flags(data, tmp_path / "out", *runs)) == 0
    content = json.loads((tmp_path / "out/compare.json").read_text())
    first, second = (entry["figures"] for entry in content["runs"])
    (row,) = content["differences"]
    expected = second["macro"]["auroc"] - first["macro"]["auroc"]
    assert row["figures"]["macro_auroc"]["difference"] == pytest.approx(expected)
    assert ("mcnemar" in row) == ("accuracy" in row["figures"]) == (kind == "classes")
    assert "macro AUROC" in capsys.readouterr().out


def test_a_run_of_an_own_recipe(dataset: DataSet, run: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    recipe = own_recipe(str(tmp_path / "mine.py"))
    mine = untrained(tmp_path / "mine", dataset, recipe=recipe)
    words = flags(dataset, tmp_path / "out", mine, run, "--split", "validation")
    assert "give the same file as --recipe" in fails(2, compare.main, *words)
    assert run_command(compare.main, [*words, "--recipe", str(tmp_path / "mine.py")]) == 0
    assert "was used in training" in json.loads((tmp_path / "out/compare.json").read_text())["notes"][-1]


def test_errors(dataset: DataSet, run: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
    output = tmp_path / "out"
    swapped = shutil.copytree(run, tmp_path / "swapped")
    write_config(str(swapped), replace(read_config(str(run)), classes=("PNEUMONIA", "NORMAL")))
    unfinished = shutil.copytree(run, tmp_path / "unfinished")
    write_config(str(unfinished), replace(read_config(str(run)), threshold=None))
    cases: Sequence[tuple[str, Sequence[object]]] = (
        ("compare runs of the same classes", (run, swapped)),
        ("is not finished", (run, unfinished)),
        ("has no config.json", (run, tmp_path / "none")),
        ("give two or more", (run,)),
        ("is given twice", (run, f"{run}/")),
        ("no split 'tset'", (run, swapped, "--split", "tset")),
        ("must be a local folder", (run, swapped, "--output", "gs://bucket/out")),
    )
    for expected, words in cases:
        assert expected in fails(2, compare.main, *flags(dataset, output, *words))
    assert not output.exists()


def test_short_names() -> None:
    assert short_names(["runs/a", "gs://bucket/b/"]) == ["a", "b"]
    assert short_names(["runs/a/seed-0", "runs/b/seed-0"]) == ["a/seed-0", "b/seed-0"]
    assert short_names(["a", "x/a"]) == ["a", "x/a"]
