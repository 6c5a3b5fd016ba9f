"""The training command: what it leaves, that a resumed run is the undisturbed one, and its errors."""

import json
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np
import pytest

from schemas.errors import JobFailed, run_command
from tests.training.conftest import DataSet
from training import train
from training.fitting.checkpoint import Place
from training.fitting.interruption import Interruption
from training.fitting.run_log import RunLog, best_epoch, epochs_since_best
from training.models.objective import class_weights, compile_model
from training.reading.array_batches import split_arrays
from training.reading.records import open_split
from training.runs.run_folder import load_run, read_config, read_history
from training.shifts.corruptions import corrupt_in_turn


def flags(dataset: DataSet, output: Path, *more: str) -> list[str]:
    words = ("--data", dataset.folder, "--output", output, "--recipe", "model1", "--batch_size", "16", *more)
    return [str(word) for word in words]


class TestARun:
    def test_config_says_all_that_predictions_depend_on(self, dataset: DataSet, run: Path) -> None:
        config = json.loads((run / "config.json").read_text())
        assert config["recipe"]["model"] == "model1"
        assert config["recipe"]["epochs"] == 3
        assert config["recipe"]["batch_size"] == 32
        assert config["classes"] == ["NORMAL", "PNEUMONIA"]
        assert config["image"] == json.loads((dataset.folder / "manifest.json").read_text())["image"]
        assert config["data"] == {
            "name": "toy",
            "version": "1.0.0",
            "revision": 1,
            "examples": {"train": 96, "validation": 40, "test": 30},
        }
        assert "Youden" in config["threshold"]["source"]
        assert "corrupted copies of split validation, 40 examples" in config["threshold"]["source"]
        assert 0 <= config["threshold"]["value"] <= 1
        assert config["threshold"]["kind"] == config["operating_point"] == "shifted"
        assert 0.01 <= config["calibration"]["temperature"] <= 100
        assert "validation, 40 examples" in config["calibration"]["source"]
        assert config["versions"]["keras"] == keras.__version__
        assert config["compute"]["backend"] == keras.config.backend()
        assert config["compute"]["backend"] in config["versions"]

    def test_it_learned(self, run: Path) -> None:
        best = read_config(str(run)).best
        assert best is not None
        assert best["val_auc"] > 0.7

    def test_history_has_a_row_an_epoch_and_the_best_is_chosen_by_validation_auc(self, run: Path) -> None:
        rows = read_history(str(run))
        assert [row["epoch"] for row in rows] == [1, 2, 3]
        assert set(rows[0]) == {"epoch", "loss", "accuracy", "auc", "val_loss", "val_accuracy", "val_auc"}
        assert read_config(str(run)).best == max(rows, key=lambda row: row["val_auc"])

    def test_tensorboard_logs_hold_the_history(self, run: Path) -> None:
        tf = pytest.importorskip("tensorflow")
        (path,) = (run / "logs").glob("events.out.tfevents.*")
        found = {}
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            for value in event.summary.value:
                assert value.metadata.plugin_data.plugin_name == "scalars"
                found[event.step, value.tag] = float(tf.make_ndarray(value.tensor))
        for row in read_history(str(run)):
            assert {tag: found[row["epoch"], tag] for tag in row} == pytest.approx(row)

    def test_weights_are_those_of_the_best_epoch(self, dataset: DataSet, run: Path) -> None:
        model, config = load_run(str(run))
        compile_model(model, config.recipe, config.task)
        images = np.stack([example.image for example in dataset.examples["validation"]])
        labels = np.array([[example.label] for example in dataset.examples["validation"]], np.float32)
        loss, accuracy, auc = model.evaluate(images, labels, verbose=0)
        best = config.best
        assert best is not None
        assert (loss, accuracy, auc) == pytest.approx(
            (best["val_loss"], best["val_accuracy"], best["val_auc"]), abs=1e-5
        )

    def test_curves(self, run: Path) -> None:
        assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def three_epochs(dataset: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run of three epochs."""
    output = tmp_path_factory.mktemp("undisturbed") / "run"
    assert run_command(train.main, flags(dataset, output, "--epochs", "3")) == 0
    return output


def test_of_epochs_with_equal_auc_the_one_with_the_lowest_loss_is_best() -> None:
    rows = [
        {"val_auc": auc, "val_loss": loss} for auc, loss in ((1.0, 0.6), (0.9, 0.1), (1.0, 0.2), (1.0, 0.2), (1.0, 0.3))
    ]
    assert best_epoch(rows) == 2
    assert epochs_since_best(rows) == 2
    assert epochs_since_best(rows[:3]) == 0  # its weights are kept


def test_early_stopping_counts_over_a_resume(
    dataset: DataSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "run"
    assert run_command(train.main, flags(dataset, output, "--epochs", "1", "--learning_rate", "1e-30")) == 0
    more = ("--epochs", "9", "--learning_rate", "1e-30", "--early_stopping", "2", "--resume")
    for _ in range(2):  # the second time there is nothing left to do
        assert run_command(train.main, flags(dataset, output, *more)) == 0
        rows = read_history(str(output))
        assert epochs_since_best(rows) == 2
        assert len(rows) < 9


def test_mixed_precision_leaves_a_run_in_32_bits(dataset: DataSet, tmp_path: Path) -> None:
    output = tmp_path / "run"
    assert run_command(train.main, flags(dataset, output, "--epochs", "1", "--mixed_precision")) == 0
    model, config = load_run(str(output))
    assert config.mixed_precision
    assert {weight.dtype for weight in model.weights} == {"float32"}
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}


def test_same_seed_same_run_and_streaming_trains_too(dataset: DataSet, tmp_path: Path, three_epochs: Path) -> None:
    for name, more in {"b": (), "c": ("--seed", "1"), "d": ("--cache_mb", "0")}.items():
        assert run_command(train.main, flags(dataset, tmp_path / name, "--epochs", "1", *more)) == 0
    first = read_history(str(three_epochs))[0]
    second, other, streamed = (read_history(str(tmp_path / name))[0] for name in "bcd")
    assert second == pytest.approx(first, rel=1e-4)
    assert other["loss"] != pytest.approx(first["loss"], rel=1e-4)
    assert np.isfinite(streamed["loss"])


def test_a_profile_is_of_the_second_epoch(dataset: DataSet, tmp_path: Path) -> None:
    output = tmp_path / "run"
    assert run_command(train.main, flags(dataset, output, "--epochs", "2", "--profile")) == 0
    (profile,) = (output / "logs").glob("plugins/profile/*/*.xplane.pb")
    assert profile.stat().st_size > 10_000


def test_what_a_run_tells(dataset: DataSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(train.main, flags(dataset, tmp_path / "run", "--epochs", "2")) == 0
    cache, first, second, steps, best, run = capsys.readouterr().out.splitlines()
    assert cache == "cache: memory (1 MiB of images fit into --cache_mb 2048)"
    for line, epoch in ((first, 1), (second, 2)):
        assert re.fullmatch(
            rf"epoch {epoch}/2: accuracy 0\.\d+, auc 0\.\d+, loss \d\.\d+; "
            r"validation accuracy [01]\.\d+, auc [01]\.\d+, loss \d\.\d+; "
            r"\d+\.\d s, [\d,]+ images/s, \d\d:\d\d left",
            line,
        )
    assert re.match(r"steps: \d+\.\d% of the time waiting for input, \d+\.\d% computing", steps)
    assert best.startswith("best epoch ")
    assert run.startswith(f"run: {tmp_path / 'run'}; next: python -m training.evaluate")


def test_an_operating_point_of_a_finished_run_is_chosen_again(
    dataset: DataSet, run: Path, tmp_path: Path, fails: Callable[..., str]
) -> None:
    copy = shutil.copytree(run, tmp_path / "copy")
    before = read_config(str(copy))
    words = flags(dataset, copy, "--epochs", "3", "--batch_size", "32", "--resume")
    assert run_command(train.main, [*words, "--operating_point", "sensitivity=1"]) == 0
    config = json.loads((copy / "config.json").read_text())
    assert config["operating_point"] == config["threshold"]["kind"] == "sensitivity=1"
    assert "a sensitivity of at least 1 on split validation, 40 examples" in config["threshold"]["source"]
    model, _ = load_run(str(copy))
    examples = dataset.examples["validation"]
    probabilities = np.asarray(model(np.stack([e.image for e in examples]), training=False))[:, 0]
    least = min(p for p, e in zip(probabilities, examples, strict=True) if e.label == 1)
    assert max([p for p in probabilities if p < least], default=0) < config["threshold"]["value"] < least
    assert (copy / "history.csv").read_bytes() == (run / "history.csv").read_bytes()
    assert (copy / "model.weights.h5").read_bytes() == (run / "model.weights.h5").read_bytes()
    # A resumed run keeps its own.
    assert run_command(train.main, words) == 0
    assert json.loads((copy / "config.json").read_text())["threshold"] == config["threshold"]
    assert run_command(train.main, [*words, "--operating_point", before.operating_point]) == 0
    assert read_config(str(copy)) == before
    assert "--operating_point best: must be" in fails(2, train.main, *words, "--operating_point", "best")


def test_the_threshold_for_shifted_images_comes_from_corrupted_ones(
    dataset: DataSet, run: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(run, tmp_path / "copy")
    words = flags(dataset, copy, "--epochs", "3", "--batch_size", "32", "--resume", "--operating_point", "shifted")
    assert run_command(train.main, words) == 0
    threshold = json.loads((copy / "config.json").read_text())["threshold"]
    assert threshold["source"].endswith("on strongly corrupted copies of split validation, 40 examples")
    model, _ = load_run(str(copy))
    images, labels = split_arrays(open_split(str(dataset.folder), dataset.manifest, "validation"))
    corrupted = np.concatenate([corrupt_in_turn(images, 5 * number) for number in range(50)])
    probabilities = np.asarray(model.predict_on_batch(corrupted), np.float64)[:, 0]
    all_labels = np.tile(labels, 50)

    def balanced(cut: float) -> float:
        called = probabilities >= cut
        return float(called[all_labels == 1].mean() + (~called[all_labels == 0]).mean())

    assert balanced(threshold["value"]) == pytest.approx(max(balanced(cut) for cut in probabilities), abs=1e-9)


def test_class_weights_balance() -> None:
    weights = class_weights((10, 30))
    assert weights[0] * 10 == weights[1] * 30
    assert weights[0] * 10 + weights[1] * 30 == 40


class TestErrors:
    def test_an_output_that_holds_a_run(self, dataset: DataSet, run: Path, fails: Callable[..., str]) -> None:
        before = (run / "config.json").read_bytes()
        assert "already holds a run" in fails(2, train.main, *flags(dataset, run))
        assert (run / "config.json").read_bytes() == before

    def test_overwrite_removes_the_old_run_and_nothing_else(
        self, dataset: DataSet, tmp_path: Path, three_epochs: Path
    ) -> None:
        output = shutil.copytree(three_epochs, tmp_path / "run")
        (output / "notes.txt").write_text("mine")
        (output / "metrics.json").write_text("{}")
        assert run_command(train.main, flags(dataset, output, "--epochs", "1", "--overwrite")) == 0
        assert len(read_history(str(output))) == 1
        assert (output / "notes.txt").exists()
        assert not (output / "metrics.json").exists()

    def test_resume_with_other_settings(self, dataset: DataSet, run: Path, fails: Callable[..., str]) -> None:
        line = fails(2, train.main, *flags(dataset, run, "--resume", "--seed", "7"))
        assert "has a different" in line
        line = fails(2, train.main, *flags(dataset, run, "--resume", "--read_ahead_mb", "3", "--batch_size", "32"))
        assert "was begun with --read_ahead_mb 64" in line

    def test_output_is_a_file(self, dataset: DataSet, tmp_path: Path, fails: Callable[..., str]) -> None:
        (tmp_path / "file").write_text("")
        assert "cannot write to --output" in fails(2, train.main, *flags(dataset, tmp_path / "file"))

    @pytest.mark.parametrize(
        ("more", "expected"),
        [
            (["--recipe", "model9"], "known recipes: model1, model2, model3"),
            (["--epochs", "0"], "epochs 0"),
            (["--seed", "-1"], "--seed -1"),
            (["--output", "s3://bucket/run"], "s3:// is not supported"),
            (["--early_stopping", "-1"], "--early_stopping -1"),
            (["--cache_mb", "-1"], "--cache_mb -1"),
            (["--resume", "--overwrite"], "cannot be used together"),
            (["--epoch", "3"], "unrecognized arguments"),
            (["--epochs", "three"], "invalid int value"),
        ],
    )
    def test_flags(
        self, dataset: DataSet, tmp_path: Path, fails: Callable[..., str], more: Sequence[str], expected: str
    ) -> None:
        assert expected in fails(2, train.main, *flags(dataset, tmp_path / "run"), *more)
        assert not (tmp_path / "run").exists()

    def test_data_sets_that_will_not_do(
        self, make_dataset: Callable[..., DataSet], tmp_path: Path, fails: Callable[..., str]
    ) -> None:
        single = make_dataset("single", examples={"train": 6, "validation": 6}, classes=("A",), label=lambda _: 0)
        always = make_dataset(
            "always", examples={"train": 6, "validation": 6}, classes=("A", "B"), label=lambda _: (1, 0)
        )
        one = make_dataset("one", examples={"train": 6, "validation": 6}, label=lambda _: 1)
        without = make_dataset("without", examples={"train": 6, "test": 6})
        cases = (
            (single, "has 1 class(es) (A)"),
            (always, "has examples of one kind only"),
            (one, "has no example of NORMAL"),
            (without, "no split 'validation'"),
        )
        for data, expected in cases:
            assert expected in fails(2, train.main, *flags(data, tmp_path / "run"))
        assert "has no manifest.json" in fails(
            2, train.main, "--data", tmp_path, "--recipe", "model1", "--output", tmp_path / "run"
        )
        assert not (tmp_path / "run").exists()

    def test_a_bad_shard_stops_before_anything_is_written(
        self, make_dataset: Callable[..., DataSet], tmp_path: Path, fails: Callable[..., str]
    ) -> None:
        small = make_dataset(examples={"train": 6, "validation": 6})
        small.shard("validation", 1).unlink()
        assert "toy-validation.tfrecord-00001-of-00003 is missing" in fails(
            1, train.main, *flags(small, tmp_path / "run")
        )
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize("more", [[], ["--verify_data"]])
    def test_a_bad_shard_of_a_split_that_training_does_not_read_is_named_too(
        self, make_dataset: Callable[..., DataSet], tmp_path: Path, fails: Callable[..., str], more: Sequence[str]
    ) -> None:
        small = make_dataset(examples={"train": 6, "validation": 6, "test": 6})
        path = small.shard("test", 2)
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]) if more else data[: len(data) // 2])
        assert "1 shard(s) do not match manifest.json: toy-test.tfrecord-00002-of-00003" in fails(
            1, train.main, *flags(small, tmp_path / "run", *more)
        )
        assert not (tmp_path / "run").exists()

    def test_a_foreign_shard_is_named_and_not_read(
        self, make_dataset: Callable[..., DataSet], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        small = make_dataset(examples={"train": 6, "validation": 6})
        (small.folder / "toy-train.tfrecord-00003-of-00004").write_bytes(b"no record")
        (small.folder / "README.md").write_text("notes")
        assert run_command(train.main, flags(small, tmp_path / "run", "--epochs", "1")) == 0
        (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: "))
        assert "toy-train.tfrecord-00003-of-00004 is not in the manifest and is not read" in line

    def test_a_loss_that_is_no_number(self, tmp_path: Path) -> None:
        log = RunLog(str(tmp_path), Place(), 1, 0, "best", Interruption())
        with pytest.raises(JobFailed, match="the loss is nan in epoch 4; give a lower --learning_rate"):
            log.on_epoch_end(3, {"loss": float("nan")})
        assert not (tmp_path / "history.csv").exists()
