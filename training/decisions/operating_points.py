"""The operating point of a model: how the threshold is chosen, from labels and probabilities of the validation split.

youden              maximises sensitivity + specificity - 1 (Youden 1950, Cancer 3:32)
shifted             the same on strongly corrupted copies of the validation images: the scores of images from elsewhere are
                    shifted, and a threshold at the edge of one class fails first (docs/model.md)
sensitivity=0.95    the highest threshold with at least this sensitivity, so the best specificity
specificity=0.9     the lowest threshold with at least this specificity, so the best sensitivity
cost=FN:FP          minimises the cost of the errors, where a false negative costs FN and a false positive FP
fixed=0.5           this threshold

A probability of at least the threshold is positive. Thresholds are halfway to the next lower probability, so that rounding
on another machine moves no example across them. NumPy only.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.errors import UsageError

YOUDEN, SHIFTED, SENSITIVITY, SPECIFICITY, COST, FIXED = KINDS = (
    *("youden", "shifted", "sensitivity", "specificity", "cost", "fixed"),
)
DEFAULT = SHIFTED  # of a new run
FORMS = "youden|shifted|sensitivity=S|specificity=S|cost=FN:FP|fixed=T"

_NEVER = 1.0  # a threshold that no example but a certain one reaches


@dataclass(frozen=True)
class OperatingPoint:
    """A way to choose the threshold. text: as given. values: the numbers in it."""

    text: str
    kind: str
    values: tuple[float, ...] = ()

    def source(self, split: str, examples: int) -> str:
        """How the threshold was chosen, to follow `The threshold`."""
        of_split = f"on split {split}, {examples} examples"
        if self.kind == SHIFTED:
            copies = f"on strongly corrupted copies of split {split}, {examples} examples"
            return f"maximises Youden's J (sensitivity + specificity - 1) {copies}"
        if self.kind == FIXED:
            return "was fixed beforehand"
        if self.kind == COST:
            missed, alarm = self.values
            return f"minimises the cost of errors (false negative {missed:g}, false positive {alarm:g}) {of_split}"
        if self.kind == YOUDEN:
            return f"maximises Youden's J (sensitivity + specificity - 1) {of_split}"
        end = "highest" if self.kind == SENSITIVITY else "lowest"
        return f"is the {end} with a {self.kind} of at least {self.values[0]:g} {of_split}"

    def threshold(self, labels: npt.NDArray[np.int64], probabilities: npt.NDArray[np.float64]) -> float | None:
        """The threshold for these examples: labels, 0 or 1, and probabilities of class 1, both [examples]. None if it cannot
        be chosen, because a class is missing."""
        if self.kind == FIXED:
            return self.values[0]
        if not 0 < labels.sum() < len(labels):
            return None
        cuts, hits, alarms = _cuts(labels, probabilities)
        positives, negatives = hits[-1], alarms[-1]
        if self.kind == SENSITIVITY:
            at = int(np.argmax(hits / positives >= self.values[0]))
        elif self.kind == SPECIFICITY:
            at = int(np.flatnonzero((negatives - alarms) / negatives >= self.values[0])[-1])
        elif self.kind == COST:
            missed, alarm = self.values
            at = int(np.argmin(missed * (positives - hits) + alarm * alarms))
        else:
            at = int(np.argmax(hits * negatives - alarms * positives))  # whole numbers: the first of equal ones
        return _below(float(cuts[at]), probabilities)


def operating_point(text: str) -> OperatingPoint:
    """The operating point that `text` names, in one of the forms above. Raises UsageError for any other text."""
    kind, _, rest = text.partition("=")
    try:
        values = tuple(float(value) for value in rest.split(":")) if rest else ()
    except ValueError:
        values = (float("nan"),)
    expected = {YOUDEN: 0, SHIFTED: 0, COST: 2}.get(kind, 1)
    if kind not in KINDS or len(values) != expected or not all(_possible(kind, value) for value in values):
        raise UsageError(
            f"--operating_point {text}: must be {FORMS}, where S is above 0 and at most 1, T from 0 to 1, and FN and FP are "
            "above 0"
        )
    return OperatingPoint(text, kind, values)


def _possible(kind: str, value: float) -> bool:
    if kind == COST:
        return 0 < value < float("inf")
    return 0 <= value <= 1 if kind == FIXED else 0 < value <= 1


def _cuts(
    labels: npt.NDArray[np.int64], probabilities: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Infinity and every probability, the highest first; how many positive and negative examples are at or above each."""
    order = np.argsort(-probabilities, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(probabilities[order])), len(order) - 1)
    hits, called = np.cumsum(labels[order])[ends], ends + 1
    return np.append(np.inf, probabilities[order][ends]), np.append(0, hits), np.append(0, called - hits)


def _below(cut: float, probabilities: npt.NDArray[np.float64]) -> float:
    if np.isinf(cut):  # call every example negative
        return _NEVER
    lower = probabilities[probabilities < cut]
    return (cut + float(lower.max())) / 2 if len(lower) else cut / 2
