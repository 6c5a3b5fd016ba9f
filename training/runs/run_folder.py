"""What a training run leaves behind, and how code rebuilds the model from it: weights and JSON, never pickled code.

config.json        everything that the predictions depend on, except the weights
model.weights.h5   of the best epoch
history.csv        one row per epoch
curves.png, logs/  the same as pictures, and for TensorBoard
scope.json         which images are like those of the training split (predicting/scope.py)
backup/            the state from which --resume continues
"""

import csv
import json
import math
import os
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import keras

from schemas.errors import JobFailed, UsageError
from schemas.labels import CLASS
from schemas.pixels.settings import ImageSettings
from training.runs.checked_fields import check_fields
from training.decisions.operating_points import YOUDEN, operating_point
from training.models.networks import build_model
from training.models.recipes import CONSTANT, Recipe
from training.task import BINARY, MULTICLASS, MULTILABEL, Task
from training.runs.weights_file import UnsafeWeights, check_contents, sha256_of

CONFIG, WEIGHTS, HISTORY, CURVES, LOGS, BACKUP, SCOPE = (
    "config.json",
    "model.weights.h5",
    "history.csv",
    "curves.png",
    "logs",
    "backup",
    "scope.json",
)
MODEL = (CONFIG, WEIGHTS)  # what load_run needs
RESULTS = METRICS, CONFUSION, ROC, REPORT, MODEL_CARD = (
    "metrics.json",
    "confusion.png",
    "roc.png",
    "report.html",
    "model_card.md",
)  # of training.evaluate
FORMAT, FORMAT_VERSION = "radrecords-run", 2
_SINCE_VERSION = {BINARY: 1, MULTICLASS: 2, MULTILABEL: 2}  # what a reader must know


@dataclass(frozen=True)
class RunConfig:
    """`config.json`. A run is finished when it has a `threshold`.

    image: the preprocessing of the data set, which prediction repeats.
    classes, label_kind: of the data set; they say what the model predicts (task.py).
    data: name, version and revision of the data set, and its examples by split.
    best: epoch (from 1) and validation figures of the weights.
    operating_point: how the threshold is chosen (decisions/operating_points.py); of runs without it, youden.
    threshold: value (or values, one for each class, None if the split had only positive or only negative examples of
    it), kind: the operating point, and source: how and on which split it was chosen.
    calibration: temperature (decisions/calibration.py), and source; None for runs of earlier releases.
    adaptation: what --adapt_prior starts from (predicting/bias.py): slope, bias and prior; None for several findings and for
    runs of earlier releases.
    compute: backend, devices, device, dtype (the Keras policy of the hidden layers) and read_ahead_mb of the training; {}
    for runs of 0.1.0.
    weights_sha256: of model.weights.h5, of a finished run; None for older runs.
    """

    recipe: Recipe
    seed: int
    mixed_precision: bool
    classes: tuple[str, ...]
    image: ImageSettings
    data: Mapping[str, Any]
    versions: Mapping[str, str]
    best: Mapping[str, float] | None = None
    threshold: Mapping[str, Any] | None = None
    label_kind: str = CLASS
    compute: Mapping[str, Any] = field(default_factory=dict)
    operating_point: str = YOUDEN
    calibration: Mapping[str, Any] | None = None
    weights_sha256: str | None = None
    adaptation: Mapping[str, Any] | None = None

    @property
    def task(self) -> Task:
        """What the model predicts."""
        return Task(self.classes, self.label_kind)

    @property
    def thresholds(self) -> list[float]:
        """The operating point of each output of the model, of a finished run; 0.5 where none could be chosen."""
        assert self.threshold is not None
        if self.task.kind == BINARY:
            return [float(self.threshold["value"])]
        return [0.5 if value is None else float(value) for value in self.threshold["values"]]

    def to_json(self) -> str:
        content = {**asdict(self), "recipe": self.recipe.to_json()}
        return (
            json.dumps({"format": FORMAT, "format_version": _SINCE_VERSION[self.task.kind], **content}, indent=1) + "\n"
        )


def read_config(run: str) -> RunConfig:
    """Reads and checks `run`'s config.json. Raises UsageError if it is missing, damaged or of a newer version."""
    try:
        content = json.loads(Path(run, CONFIG).read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageError(
            f"run {run} has no {CONFIG}; train one with python -m training.train --output {run}"
        ) from error
    except OSError as error:
        raise UsageError(f"cannot read {CONFIG} of run {run}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{CONFIG} of run {run} is damaged (not JSON); train again with --overwrite") from error
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        raise UsageError(f"{CONFIG} of run {run} is not a radrecords run")
    version = content.pop("format_version", None)
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise UsageError(
            f"run {run} has format version {version}, but this radrecords reads up to {FORMAT_VERSION}; "
            "upgrade radrecords"
        )
    try:
        recipe = dict(content["recipe"])
        recipe.pop("expect", None)  # runs of 0.1.0 have it
        for kind, values in ((Recipe, recipe), (ImageSettings, content["image"]), (RunConfig, content)):
            check_fields(kind, values)
        content["recipe"] = Recipe(**recipe)
        content["image"] = ImageSettings(**content["image"])
        content["classes"] = tuple(content["classes"])
        config = RunConfig(**content)
        if config.threshold is not None and len(config.thresholds) != config.task.outputs:
            raise ValueError("thresholds are missing")
        operating_point(config.operating_point)
        if config.calibration is not None and not 0 < float(config.calibration["temperature"]) < math.inf:
            raise ValueError(f"temperature {config.calibration['temperature']}")
        if config.adaptation is not None:
            _check_adaptation(config)
        return config
    except (AttributeError, KeyError, TypeError, ValueError, UsageError) as error:
        raise UsageError(f"{CONFIG} of run {run} is damaged ({error}); train again with --overwrite") from error


def _check_adaptation(config: RunConfig) -> None:
    assert config.adaptation is not None
    slope, bias, prior = (config.adaptation[name] for name in ("slope", "bias", "prior"))
    if not len(bias) == len(prior) == len(config.classes) or not all(map(math.isfinite, (slope, *bias))):
        raise ValueError("adaptation")
    if not all(0 < share < 1 for share in prior):
        raise ValueError(f"prior {prior}")


def load_run(run: str, own: Recipe | None = None) -> tuple[keras.Model, RunConfig]:
    """The best model of a finished run, in 32 bits, and its config. `own`: the user's own recipe, if the run was made
    with one: a run folder holds no code. Raises UsageError for any other run or recipe."""
    config = read_config(run)
    if config.threshold is None:
        raise UsageError(f"run {run} is not finished; finish it with python -m training.train --resume")
    return best_model(run, replace(config, recipe=_with_code(run, config.recipe, own))), config


def best_model(run: str, config: RunConfig) -> keras.Model:
    """The model of `config` with the weights of `run`'s best epoch. Raises UsageError if they are missing or damaged, are
    not those of the finished run, or the file holds anything but arrays of numbers."""
    path = checked_weights(run, config)
    model = build_model(config.recipe, config.image.shape, config.task)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # Keras only warns of a layer without weights in the file
            model.load_weights(path)
    except (
        OSError,
        ValueError,
        KeyError,
        RuntimeError,
        UserWarning,
    ) as error:  # h5py raises many kinds of errors for damaged files
        raise _damaged_weights(run) from error
    return model


def checked_weights(run: str, config: RunConfig) -> Path:
    """The weights file, of which no array has been read yet. Raises UsageError as best_model does."""
    path = Path(run, WEIGHTS)
    if not path.is_file():
        raise UsageError(f"run {run} has no {WEIGHTS}; train again with --overwrite")
    try:
        sha256 = sha256_of(path)
        if config.weights_sha256 in (None, sha256):
            check_contents(path)
    except UnsafeWeights as error:
        raise UsageError(
            f"{WEIGHTS} of run {run} is not read: it holds {error}, which Keras does not write; train again with --overwrite"
        ) from error
    except Exception as error:  # h5py has no common class of errors
        raise _damaged_weights(run) from error
    if config.weights_sha256 not in (None, sha256):
        raise UsageError(
            f"{WEIGHTS} of run {run} is not the file that training left (its SHA-256 is another than in {CONFIG}); restore "
            "it, or train again with --overwrite"
        )
    return path


def _damaged_weights(run: str) -> UsageError:
    return UsageError(f"{WEIGHTS} of run {run} is damaged or belongs to another model; train again with --overwrite")


def _with_code(run: str, recipe: Recipe, own: Recipe | None) -> Recipe:
    if not recipe.sha256:
        return recipe
    if own is None or own.sha256 != recipe.sha256:
        given = f"{own.source} has a different SHA-256" if own else "a run folder holds no code"
        raise UsageError(
            f"run {run} was made with your own recipe {recipe.source} (SHA-256 {recipe.sha256[:12]}...), and {given}; "
            "give the same file as --recipe"
        )
    return replace(recipe, body=own.body)


def write_config(run: str, config: RunConfig) -> None:
    """Writes config.json atomically."""
    _replace(Path(run, CONFIG), config.to_json())


def prepare_run(run: str, config: RunConfig, resume: bool, overwrite: bool) -> None:
    """Makes the folder ready for a run of `config`. Raises UsageError if it holds a run and no flag says what to do.

    `resume` continues a run with the same settings (its epochs may differ), or starts one; `overwrite` removes the files
    of the existing run, and no others.
    """
    folder = Path(run)
    if (folder / CONFIG).exists() and not overwrite:
        if not resume:
            raise UsageError(f"--output {run} already holds a run; choose another, or give --resume or --overwrite")
        _check_same(run, read_config(run), config)
    stale = [*RESULTS]  # they describe weights that are about to change
    if overwrite:
        stale += [CONFIG, WEIGHTS, HISTORY, CURVES, LOGS, BACKUP, SCOPE]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in (folder / name for name in stale):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        write_config(run, config)
    except OSError as error:
        raise UsageError(f"cannot write to --output {run}: {error.strerror}") from error


def read_history(run: str) -> list[dict[str, float]]:
    """The rows of history.csv, one per epoch; none if there is no file. Raises JobFailed if it is damaged."""
    path = Path(run, HISTORY)
    if not path.exists():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
        if [row["epoch"] for row in rows] != list(range(1, len(rows) + 1)):
            raise ValueError("epochs are missing")
    except (KeyError, TypeError, ValueError) as error:
        raise JobFailed(f"{HISTORY} of run {run} is damaged; train again with --overwrite") from error
    return rows


def write_history(run: str, rows: Sequence[Mapping[str, float]]) -> None:
    """Writes history.csv atomically. The numbers read back exactly."""
    lines = [",".join(rows[0]), *(",".join(repr(value) for value in row.values()) for row in rows)]
    _replace(Path(run, HISTORY), "\n".join(lines) + "\n")


def _check_same(run: str, old: RunConfig, new: RunConfig) -> None:
    if new.recipe.schedule != CONSTANT and old.recipe.epochs != new.recipe.epochs:
        raise UsageError(
            f"--resume: run {run} is for {old.recipe.epochs} epochs, and its learning rate falls to zero by then; "
            "give the same --epochs"
        )
    for name in ("recipe", "seed", "mixed_precision", "classes", "label_kind", "image", "data"):
        before, now = getattr(old, name), getattr(new, name)
        if name == "recipe":  # a resumed run may have more epochs
            before, now = ({**recipe.to_json(), "epochs": 0, "source": ""} for recipe in (before, now))
        if before != now:
            raise UsageError(
                f"--resume: run {run} has a different {name} than this command; give --overwrite to start over"
            )
    before, now = (config.compute.get("read_ahead_mb") for config in (old, new))
    if before not in (None, now):
        raise UsageError(f"--resume: run {run} was begun with --read_ahead_mb {before}; give the same")
    before, now = (config.compute.get("dtype") for config in (old, new))
    if before not in (None, now):
        raise UsageError(
            f"--resume: run {run} computes in {before}, but this machine would in {now}; resume it elsewhere"
        )


def _replace(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
