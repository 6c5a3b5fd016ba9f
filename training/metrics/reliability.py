"""How well probabilities agree with what is observed: Brier score, ECE, and the bins of a reliability diagram.

- Brier score: the mean squared error of the probabilities; over all classes, their sum. Brier 1950, Mon Weather Rev 78:1.
- ECE: the mean distance between the mean probability and the observed frequency of a bin, weighted by the examples in it.
  Naeini et al. 2015, AAAI, 2901. The bins hold equal numbers of examples: most probabilities are near 0 and 1, so in bins
  of equal width, as in Guo et al. 2017, two bins would decide, and equal numbers bias it less (Roelofs et al. 2022,
  AISTATS, PMLR 151:4036). It is still above 0 for perfect probabilities, the more so the fewer the examples.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from training.metrics.bootstrap import Members, basic, independent, percentiles, proportion_interval
from training.metrics.weighted import Floats, Labels, Probabilities

BINS = 15


class Reliability:
    """Predictions and what came of them. predicted: probabilities; observed: 0 or 1; errors: the squared error of each
    example's probabilities, for the Brier score; all [examples]."""

    def __init__(self, predicted: Probabilities, observed: Labels, errors: Floats) -> None:
        self._bin = bins_of(predicted)
        self._predicted, self._observed, self._errors = predicted, observed, errors
        in_bin = np.eye(int(self._bin.max()) + 1)[self._bin]
        self._columns = np.hstack([in_bin, in_bin * predicted[:, None], in_bin * observed[:, None], errors[:, None]])

    def statistics(self, weights: Floats) -> dict[str, Floats]:
        """Brier score and ECE, [samples], and the frequency observed in each bin, [samples, bins]."""
        sums = weights @ self._columns
        counts, predicted, observed = np.split(sums[:, :-1], 3, axis=1)
        total = weights.sum(1)
        with np.errstate(invalid="ignore"):
            frequency = observed / counts
        return {
            "brier": sums[:, -1] / total,
            "ece": np.abs(observed - predicted).sum(1) / total,
            "observed": frequency,
        }

    def figures(self, found: Mapping[str, Floats], members: Members) -> dict[str, Any]:
        """Brier score, ECE and bins, with 95% intervals, ready for JSON. `found`: the statistics of the samples."""
        whole = self.statistics(np.ones((1, len(self._bin))))
        ece = float(whole["ece"][0])
        return {
            "ece": ece,
            "brier": float(whole["brier"][0]),
            "intervals": {"ece": basic(found["ece"], ece, 0.0, 1.0), "brier": percentiles(found["brier"])},
            "bins": [
                self._figures_of(bin, found["observed"][:, bin], members) for bin in range(int(self._bin.max()) + 1)
            ],
        }

    def _figures_of(self, bin: int, found: Floats, members: Members) -> dict[str, Any]:
        inside = self._bin == bin
        return {
            "predicted": float(self._predicted[inside].mean()),
            "observed": float(self._observed[inside].mean()),
            "count": int(inside.sum()),
            "interval": proportion_interval(self._observed[inside] == 1, members[inside], found, independent(members)),
        }


def bins_of(predicted: Probabilities) -> Labels:
    """The bin of each probability, from 0, [examples]: BINS of them hold equal numbers as far as possible. Equal
    probabilities are in one bin, and no bin is empty."""
    edges = np.unique(np.quantile(predicted, np.arange(1, BINS) / BINS, method="inverted_cdf"))
    return (
        np.unique(np.searchsorted(edges, predicted, side="left"), return_inverse=True)[1].astype(np.int64).reshape(-1)
    )
