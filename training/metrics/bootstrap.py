"""95% intervals from a bootstrap of the groups: the images of a patient are drawn together, because they are alike. NumPy
only.

- resampling whole groups: Field and Welsh 2007, J R Stat Soc B 69:369.
- a proportion of 0 or 1 is the same in each sample, so it gets Wilson's interval for as many examples as there are groups.
- percentiles, and the basic interval (which turns them round the estimate, and so corrects its bias): Davison and Hinkley
  1997, Bootstrap Methods and their Application, 5.2 and 5.3.1.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from training.metrics.intervals import Interval, wilson_interval
from training.metrics.weighted import Floats, Statistics

RESAMPLES = 1000
_SEED = 0
_WEIGHTS_AT_ONCE = 1 << 21

Groups = npt.NDArray[np.bytes_] | npt.NDArray[np.int64]  # any names of groups, [examples]
Members = npt.NDArray[np.int64]  # the number of the group of each example, [examples]


def members_of(groups: Groups | None, examples: int) -> Members:
    """The number of each example's group, from 0. groups: their names, [examples]; without them, each example is its own."""
    if groups is None:
        return np.arange(examples)
    return np.unique(groups, return_inverse=True)[1].astype(np.int64).reshape(-1)


def independent(members: Members) -> bool:
    """Whether each example has a group of its own."""
    return len(members) == len(np.unique(members))


def resampled(members: Members, **statistics: Statistics) -> dict[str, dict[str, Floats]]:
    """The figures of RESAMPLES samples of the groups, [RESAMPLES] or [RESAMPLES, ...] each, by the name of the statistics
    that gave them. Their number of groups is that of the data. The samples are the same in each call."""
    number = int(members.max()) + 1
    rng = np.random.default_rng(_SEED)
    size = max(1, _WEIGHTS_AT_ONCE // len(members))
    parts = []
    for start in range(0, RESAMPLES, size):
        samples = np.arange(min(size, RESAMPLES - start))[:, np.newaxis]
        drawn = rng.integers(0, number, (len(samples), number)) + samples * number
        times = np.bincount(drawn.ravel(), minlength=len(samples) * number).reshape(-1, number).astype(np.float64)
        weights = times[:, members]
        parts.append({name: every(weights) for name, every in statistics.items()})
    return {name: _joined([part[name] for part in parts]) for name in statistics}


def percentiles(found: Floats) -> Interval | None:
    """The interval of a figure from its value in each sample, which may be NaN; None if it has no width: then the data do
    not show how much the figure varies."""
    defined = found[~np.isnan(found)]
    if not len(defined):
        return None
    low, high = np.percentile(defined, [2.5, 97.5]).tolist()
    return (low, high) if low < high else None


def basic(found: Floats, estimate: float, least: float, most: float) -> Interval | None:
    """The same for an `estimate` that is biased, such as a sum of absolute values: cut to the range of the figure."""
    turned = percentiles(found)
    if turned is None:
        return None
    low, high = (float(np.clip(2 * estimate - end, least, most)) for end in reversed(turned))
    return low, high


def proportion_interval(hits: npt.NDArray[np.bool_], members: Members, found: Floats, alone: bool) -> Interval | None:
    """The interval of the share of `hits`, [those that count]. members: their groups. found: the share in each sample.
    alone: whether each example of the data has a group of its own: then it is Wilson's."""
    number, total = int(hits.sum()), len(hits)
    if alone:
        return wilson_interval(number, total)
    if 0 < number < total:
        return percentiles(found)
    groups = len(np.unique(members))
    return wilson_interval(groups if number else 0, groups)


def _joined(parts: list[Mapping[str, Floats]]) -> dict[str, Floats]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
