"""The settings of each command of this package, checked without TensorFlow, which takes seconds to load."""

from dataclasses import dataclass

from schemas.errors import UsageError
from schemas.source import check_place
from training.decisions.operating_points import OperatingPoint
from training.models.recipes import Recipe

# Where the examples are kept between epochs (devices/cache.py).
CACHES = AUTO, NONE, MEMORY, DISK, DEVICE = "auto", "none", "memory", "disk", "device"
EXPORT_FORMATS = ONNX, SAVED_MODEL, TFLITE = "onnx", "savedmodel", "tflite"  # exporting/
METHODS = OCCLUSION, GRADCAM, ACTIVATIONS = "occlusion", "gradcam", "activations"  # explanation/
PREDICT_FORMATS = TABLE, JSON, CSV = "table", "json", "csv"  # predicting/output.py


@dataclass(frozen=True)
class TrainConfig:
    """What to train, on what, and where to.

    data: folder of the data set, local or gs://. output: the run folder, local or gs://.
    early_stopping: stop after this many epochs without a better validation AUC; 0 never stops.
    verify_data: check the SHA-256 of every shard first, which reads the whole data set once.
    cache, cache_mb: where the splits are kept between epochs; with `auto`, in memory up to this many MiB of images.
    disk_cache_mb: the size of the cache on the disk, which all runs of a user share. read_ahead_mb: what reading may hold of
    splits that are not kept in memory; half of it is shuffled at a time, so the order depends on it.
    jit: `auto`, `on` or `off`: whether XLA compiles the steps. devices: a number, or `all`.
    profile: write a TensorBoard profile of one epoch. operating_point: how the threshold is chosen; None is as the run in
    `output` has it, or the default.
    seeds: train this many runs, with `seed` and those after it, into folders in `output`, which is local then; None is one
    run in `output` itself. split: what they are evaluated on; None is test if the data set has it, else validation.
    """

    data: str
    output: str
    recipe: Recipe
    seed: int = 0
    mixed_precision: bool = False
    early_stopping: int = 0
    cache: str = AUTO
    cache_mb: int = 2048
    disk_cache_mb: int = 65_536
    read_ahead_mb: int = 64
    jit: str = "auto"
    devices: str = "1"
    profile: bool = False
    verify_data: bool = False
    resume: bool = False
    overwrite: bool = False
    operating_point: OperatingPoint | None = None
    seeds: int | None = None
    split: str | None = None

    def __post_init__(self) -> None:
        check_place("--data", self.data)
        check_place("--output", self.output)
        self._check_seeds()
        if not 0 <= self.seed < 2**31:
            raise UsageError(f"--seed {self.seed}: must be from 0 to {2**31 - 1}")
        if self.early_stopping < 0:
            raise UsageError(f"--early_stopping {self.early_stopping}: must be 0 or more epochs")
        for flag, value in (("cache_mb", self.cache_mb), ("disk_cache_mb", self.disk_cache_mb)):
            if value < 0:
                raise UsageError(f"--{flag} {value}: must be 0 or more")
        if self.read_ahead_mb < 1:
            raise UsageError(f"--read_ahead_mb {self.read_ahead_mb}: must be 1 or more")
        if self.devices != "all" and not (self.devices.isdecimal() and int(self.devices) > 0):
            raise UsageError(f"--devices {self.devices}: must be a number of devices or all")
        if self.resume and self.overwrite:
            raise UsageError("--resume and --overwrite cannot be used together")

    def _check_seeds(self) -> None:
        if self.seeds is None:
            if self.split is not None:
                raise UsageError(f"--split {self.split}: is for --seeds only; evaluate one run with training.evaluate")
            return
        if self.seeds < 1 or self.seed + self.seeds > 2**31:
            raise UsageError(f"--seeds {self.seeds}: must be 1 or more, and no seed above {2**31 - 1}")
        if "://" in self.output:
            raise UsageError(f"--output {self.output}: must be a local folder with --seeds")


@dataclass(frozen=True)
class EvaluateConfig:
    """Which run to evaluate, on which split of which data set (both local or gs://), and a local folder for the results
    if they do not belong to the run.

    recipe: the user's own, if the run was made with one.
    verify_data: check the SHA-256 of the split's shards first, which reads them once.
    prevalence: of the second of two classes, for which the predictive values are given too.
    subgroups: a CSV, or a folder of the Kermany set; id_key_file: the key of the ids, if `subgroups` names images by their
    paths and the ids are keyed. Both are local or gs://.
    """

    run: str
    data: str
    split: str = "test"
    output: str | None = None
    verify_data: bool = False
    recipe: Recipe | None = None
    prevalence: float | None = None
    subgroups: str | None = None
    id_key_file: str | None = None

    def __post_init__(self) -> None:
        check_place("--data", self.data)
        check_place("--run", self.run)
        check_place("--subgroups", self.subgroups or "")
        check_place("--id_key_file", self.id_key_file or "")
        if self.prevalence is not None and not 0 < self.prevalence < 1:
            raise UsageError(f"--prevalence {self.prevalence:g}: must be above 0 and below 1")
        if self.id_key_file and not self.subgroups:
            raise UsageError("--id_key_file is for --subgroups only")
        if "://" in (self.output or ""):
            raise UsageError(f"--output {self.output}: must be a local folder; without it, the results go to the run")


@dataclass(frozen=True)
class CompareConfig:
    """Which runs to compare, on which split of which data set (all local or gs://), and the local folder for the results.

    recipes: the user's own, of those runs that were made with one.
    verify_data: check the SHA-256 of the split's shards first, which reads them once.
    """

    runs: tuple[str, ...]
    data: str
    output: str
    split: str = "test"
    verify_data: bool = False
    recipes: tuple[Recipe, ...] = ()

    def __post_init__(self) -> None:
        check_place("--data", self.data)
        for run in self.runs:
            check_place("RUN", run)
        if len(self.runs) < 2:
            raise UsageError(f"{self.runs[0]} is the only run; give two or more to compare")
        places = [run.rstrip("/") for run in self.runs]
        for run in places:
            if places.count(run) > 1:
                raise UsageError(f"run {run} is given twice; give different runs")
        if "://" in self.output:
            raise UsageError(f"--output {self.output}: must be a local folder")

    def recipe_of(self, sha256: str) -> Recipe | None:
        """The user's own recipe with this hash, or another one, which loading the run will refuse."""
        fitting = [recipe for recipe in self.recipes if recipe.sha256 == sha256]
        return next(iter([*fitting, *self.recipes]), None)


@dataclass(frozen=True)
class ReproduceConfig:
    """Which recipes to train with how many seeds, on which data set (local or gs://), and the local folder for their runs
    and the report. What is finished there is kept, unless `overwrite` is given."""

    data: str
    output: str
    recipes: tuple[Recipe, ...]
    seeds: int = 5
    overwrite: bool = False

    def __post_init__(self) -> None:
        names = [recipe.name for recipe in self.recipes]
        for name in names:
            if names.count(name) > 1:
                raise UsageError(f"--recipes: {name} is given twice; give each recipe once")
        _ = self.runs  # whose flags are checked

    @property
    def runs(self) -> list[TrainConfig]:
        """The training of each recipe, with all its seeds."""
        return [
            TrainConfig(
                self.data,
                f"{self.output.rstrip('/')}/{recipe.name}",
                recipe,
                seeds=self.seeds,
                resume=not self.overwrite,
                overwrite=self.overwrite,
            )
            for recipe in self.recipes
        ]


@dataclass(frozen=True)
class PredictConfig:
    """The run whose model predicts, and the images: files or folders. Both are local or gs://.

    format: of what is printed, one of PREDICT_FORMATS. adapt_prior: a folder of unlabelled images, local or gs://, for whose
    shares of the classes the probabilities are corrected. recipe: the user's own, if the run was made with one.
    """

    run: str
    images: tuple[str, ...]
    format: str = TABLE
    adapt_prior: str | None = None
    recipe: Recipe | None = None

    def __post_init__(self) -> None:
        check_place("--run", self.run)
        check_place("--adapt_prior", self.adapt_prior or "")
        if self.format not in PREDICT_FORMATS:
            raise UsageError(f"--format {self.format}: must be one of {', '.join(PREDICT_FORMATS)}")


@dataclass(frozen=True)
class ShiftConfig:
    """What to measure on proxies of shift: a recipe, which is trained on `data`, or a run.

    output: a local folder. recipe: with `run`, the user's own, if the run was made with one. subgroups: a table or a folder
    whose columns name the populations to leave out. id_key_file: of the conversion, if its ids are keyed. raw: a folder of
    images. only: names of proxies; () for all.
    """

    data: str
    output: str
    recipe: Recipe | None = None
    run: str | None = None
    subgroups: str | None = None
    id_key_file: str | None = None
    raw: str | None = None
    seeds: int = 1
    only: tuple[str, ...] = ()
    resume: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        check_place("--data", self.data)
        if "://" in self.output:
            raise UsageError(f"--output {self.output}: must be a local folder")
        for flag in ("run", "subgroups", "id_key_file", "raw"):
            check_place(f"--{flag}", getattr(self, flag) or "")
        if self.recipe is None and self.run is None:
            raise UsageError("give --recipe, to train it, or --run, to measure a trained model")
        if self.run and self.subgroups:
            raise UsageError("--run with --subgroups: leaving a population out needs training; give --recipe instead")
        if self.run and self.seeds != 1:
            raise UsageError("--run with --seeds: a run has one seed; give --recipe instead")
        if self.seeds < 1:
            raise UsageError(f"--seeds {self.seeds}: must be 1 or more")
        if self.resume and self.overwrite:
            raise UsageError("--resume and --overwrite cannot be used together")


@dataclass(frozen=True)
class TuneConfig:
    """Which recipe to begin a search with, on what, and where to.

    output: a local folder. trials: how many settings are tried in all, with those of a search that is resumed. jobs: how
    many of them at a time, in processes.
    """

    data: str
    output: str
    recipe: Recipe
    trials: int
    jobs: int = 1
    seed: int = 0
    resume: bool = False

    def __post_init__(self) -> None:
        check_place("--data", self.data)
        if "://" in self.output:
            raise UsageError(f"--output {self.output}: must be a local folder")
        for flag, value in (("trials", self.trials), ("jobs", self.jobs)):
            if value < 1:
                raise UsageError(f"--{flag} {value}: must be 1 or more")
        if not 0 <= self.seed < 2**31:
            raise UsageError(f"--seed {self.seed}: must be from 0 to {2**31 - 1}")


@dataclass(frozen=True)
class ExportConfig:
    """The run whose model is exported, local or gs://, and the local file or folder to write, which must not exist.

    format: one of EXPORT_FORMATS. recipe: the user's own, if the run was made with one.
    """

    run: str
    format: str
    output: str
    recipe: Recipe | None = None

    def __post_init__(self) -> None:
        check_place("--run", self.run)
        _check_local(self.output)
        if self.format not in EXPORT_FORMATS:
            raise UsageError(f"--format {self.format}: must be one of {', '.join(EXPORT_FORMATS)}")


@dataclass(frozen=True)
class VerifyConfig:
    """The runs, local or gs://, and the local exports to check."""

    paths: tuple[str, ...]

    def __post_init__(self) -> None:
        for path in self.paths:
            check_place("PATH", path)


@dataclass(frozen=True)
class ExplainConfig:
    """The run whose model is looked into, and the images: files or folders. Both are local or gs://.

    output: a local folder for the pictures. method: one of METHODS.
    layer: the convolution that gradcam and activations look at; by default the last one, and activations shows all.
    target: the class whose probability is explained; by default the second of two, else the most probable one.
    recipe: the user's own, if the run was made with one.
    """

    run: str
    images: tuple[str, ...]
    output: str
    method: str = OCCLUSION
    layer: str | None = None
    target: str | None = None
    recipe: Recipe | None = None

    def __post_init__(self) -> None:
        check_place("--run", self.run)
        _check_local(self.output)
        if self.method not in METHODS:
            raise UsageError(f"--method {self.method}: must be one of {', '.join(METHODS)}")
        if self.layer and self.method == OCCLUSION:
            raise UsageError(f"--layer {self.layer}: occlusion looks at no layer; give --method gradcam or activations")
        if self.target and self.method == ACTIVATIONS:
            raise UsageError(f"--target {self.target}: activations are of no class; give another --method")


def _check_local(output: str) -> None:
    if "://" in output:
        raise UsageError(f"--output {output}: must be local")
