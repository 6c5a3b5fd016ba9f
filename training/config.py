"""The settings of each command of this package, checked without TensorFlow, which takes seconds to load."""

from dataclasses import dataclass

from schemas.errors import UsageError
from schemas.source import check_place
from training.assessment.operating_points import OperatingPoint
from training.models.recipes import Recipe

# Where the examples are kept between epochs (devices/cache.py).
CACHES = AUTO, NONE, MEMORY, DISK, DEVICE = "auto", "none", "memory", "disk", "device"
PREDICT_FORMATS = TABLE, JSON, CSV = "table", "json", "csv"  # predicting/output.py


@dataclass(frozen=True)
class TrainConfig:
    """What to train, on what, and where to.

    data: folder of the data set, local or gs://. output: the run folder, local or gs://.
    early_stopping: stop after this many epochs without a better validation AUC; 0 never stops.
    verify_data: check the SHA-256 of every shard first, which reads the whole data set once.
    cache, cache_mb: where the splits are kept between epochs; with `auto`, in memory up to this many MiB of images. The
    order of the examples depends on it only for data sets that are read record by record.
    disk_cache_mb: the size of the cache on the disk, which all runs of a user share. read_ahead_mb: what reading may hold of
    splits that are not kept in memory; half of it is shuffled at a time, so the order depends on it.
    jit: `auto`, `on` or `off`: whether XLA compiles the steps. devices: a number, or `all`.
    profile: write a TensorBoard profile of one epoch. operating_point: how the threshold is chosen; None is as the run in
    `output` has it, or the default.
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

    def __post_init__(self) -> None:
        check_place("--data", self.data)
        check_place("--output", self.output)
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
