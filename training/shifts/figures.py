"""The figures of a model of two classes on the images of a proxy, and their averages over seeds and proxies."""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import keras
import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

UNCHANGED, CORRUPTION, LEFT_OUT, RAW = KINDS = ("unchanged", "corruption", "left out", "raw")
AUROC = "auroc"
# In the order of the table: AUROC, then at the operating point of the run, then at 0.5.
AT_THE_POINT = ("accuracy", "balanced_accuracy", "sensitivity", "specificity")
FIGURES = (AUROC, *AT_THE_POINT, *(f"{name}_at_0.5" for name in AT_THE_POINT))

_BATCH = 256

Figures = dict[str, float]  # of FIGURES


class Proxy(NamedTuple):
    """One set of shifted images. `kind`: one of KINDS. `severity`: of a corruption, else 0."""

    kind: str
    name: str
    severity: int = 0


class Result(NamedTuple):
    """What the model that was trained with `seed` says of a proxy: labels int64 [examples], and the probabilities of the
    second class, float64 [examples]. `threshold`: the operating point of its run."""

    proxy: Proxy
    seed: int
    threshold: float
    labels: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float64]

    @property
    def figures(self) -> Figures:
        """FIGURES; both classes must be there."""
        found = {AUROC: float(roc_auc_score(self.labels, self.probabilities))}
        for suffix, at in (("", self.threshold), ("_at_0.5", 0.5)):
            called = self.probabilities >= at
            sensitivity, specificity = called[self.labels == 1].mean(), (~called)[self.labels == 0].mean()
            point = ((called == self.labels).mean(), (sensitivity + specificity) / 2, sensitivity, specificity)
            found |= {f"{name}{suffix}": float(value) for name, value in zip(AT_THE_POINT, point, strict=True)}
        return found


def probabilities(model: keras.Model, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """The probability of the second class, [images]."""
    parts = (images[start : start + _BATCH] for start in range(0, len(images), _BATCH))
    with _expecting_many_models():
        return np.concatenate([np.asarray(model.predict_on_batch(part), np.float64) for part in parts])[:, 0]


@contextlib.contextmanager
def _expecting_many_models() -> Iterator[None]:
    """Hides TensorFlow's warning that a function is traced again and again: each model has one of its own."""

    def keep(record: logging.LogRecord) -> bool:
        return "retracing" not in record.getMessage()

    logger = logging.getLogger("tensorflow")
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)


def mean(figures: Sequence[Figures]) -> Figures:
    """The mean of each figure."""
    return {name: float(np.mean([each[name] for each in figures])) for name in FIGURES}


def spread(figures: Sequence[Figures]) -> Figures:
    """The standard deviation of each figure between seeds (with n - 1); 0 for one seed."""
    several = len(figures) > 1
    return {name: float(np.std([each[name] for each in figures], ddof=1)) if several else 0.0 for name in FIGURES}


def worst(figures: Sequence[Figures]) -> Figures:
    """The lowest of each figure, which need not be those of one proxy."""
    return {name: min(each[name] for each in figures) for name in FIGURES}
