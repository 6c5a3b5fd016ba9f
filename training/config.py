"""The settings of each command of this package, checked without TensorFlow, which takes seconds to load."""

from dataclasses import dataclass

from schemas.errors import UsageError
from schemas.source import check_place
from training.models.recipes import Recipe


@dataclass(frozen=True)
class TrainConfig:
    """What to train, on what, and where to.

    data: folder of the data set, local or gs://. output: the run folder, local.
    early_stopping: stop after this many epochs without a better validation AUC; 0 never stops.
    verify_data: check the SHA-256 of every shard first, which reads the whole data set once.
    cache_mb: a split is kept in memory if its images take at most this many MiB. This changes the order of the examples only
    of data sets that are read record by record.
    """

    data: str
    output: str
    recipe: Recipe
    seed: int = 0
    mixed_precision: bool = False
    early_stopping: int = 0
    cache_mb: int = 2048
    verify_data: bool = False
    resume: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        check_place("--data", self.data)
        if "://" in self.output:
            raise UsageError(f"--output {self.output}: a run folder is local; copy it to the bucket afterwards")
        if not 0 <= self.seed < 2**31:
            raise UsageError(f"--seed {self.seed}: must be from 0 to {2**31 - 1}")
        if self.early_stopping < 0:
            raise UsageError(f"--early_stopping {self.early_stopping}: must be 0 or more epochs")
        if self.cache_mb < 0:
            raise UsageError(f"--cache_mb {self.cache_mb}: must be 0 or more")
        if self.resume and self.overwrite:
            raise UsageError("--resume and --overwrite cannot be used together")


@dataclass(frozen=True)
class EvaluateConfig:
    """Which run to evaluate, on which split of which data set (local or gs://), and a local folder for the results.

    recipe: the user's own, if the run was made with one.
    verify_data: check the SHA-256 of the split's shards first, which reads them once.
    """

    run: str
    data: str
    split: str = "test"
    output: str | None = None
    verify_data: bool = False
    recipe: Recipe | None = None

    def __post_init__(self) -> None:
        check_place("--data", self.data)
        for flag, folder in (("run", self.run), ("output", self.output or "")):
            if "://" in folder:
                raise UsageError(f"--{flag} {folder}: must be a local folder")


@dataclass(frozen=True)
class PredictConfig:
    """The run whose model predicts, and the images: files or folders, local or gs://. `json` prints JSON lines.
    `recipe`: the user's own, if the run was made with one."""

    run: str
    images: tuple[str, ...]
    json: bool = False
    recipe: Recipe | None = None

    def __post_init__(self) -> None:
        if "://" in self.run:
            raise UsageError(f"--run {self.run}: must be a local folder")
