"""95% intervals by formula, for examples that are independent of each other: one image of each patient.

- proportions: Wilson's score interval. Wilson 1927, J Am Stat Assoc 22:209.
- AUROC: DeLong's variance on the logit scale. DeLong et al. 1988, Biometrics 44:837; the ranks form of Sun and Xu 2014,
  IEEE Signal Process Lett 21:1389; the logit as in Pepe 2003, The Statistical Evaluation of Medical Tests, 5.2.
- AUPRC: the logit interval of Boyd, Eng and Page 2013, ECML PKDD, LNAI 8190:451.
"""

import math

import numpy as np
from scipy.stats import rankdata

from training.metrics.weighted import Labels, Probabilities

Interval = tuple[float, float]

Z = 1.959963984540054  # the normal distribution's 97.5% point


def wilson_interval(hits: int, total: int) -> Interval:
    """95% interval of the proportion `hits / total`."""
    share, z2 = hits / total, Z * Z
    centre = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = Z / (1 + z2 / total) * math.sqrt(share * (1 - share) / total + z2 / (4 * total * total))
    return (centre - half if hits else 0.0), (centre + half if hits < total else 1.0)


def auroc_interval(labels: Labels, probabilities: Probabilities) -> Interval | None:
    """95% interval of the area under the ROC curve; None if the variance is undefined: an area of 0 or 1, or fewer
    than two examples of a class."""
    positive, negative = probabilities[labels == 1], probabilities[labels == 0]
    m, n = len(positive), len(negative)
    if min(m, n) < 2:
        return None
    joint = rankdata(np.concatenate([positive, negative]))
    # The share of the other class that each example is ranked above (below), ties counting half.
    above = (joint[:m] - rankdata(positive)) / n
    below = 1 - (joint[m:] - rankdata(negative)) / m
    error = math.sqrt(above.var(ddof=1) / m + below.var(ddof=1) / n)
    return _logit_interval(float(above.mean()), error)


def auprc_interval(auprc: float, positives: int) -> Interval | None:
    """95% interval of an average precision from this number of positive examples; None if it is 1."""
    return _logit_interval(auprc, math.sqrt(auprc * (1 - auprc) / positives))


def _logit_interval(estimate: float, error: float) -> Interval | None:
    if not 0 < estimate < 1 or error == 0:
        return None
    logit, half = math.log(estimate / (1 - estimate)), Z * error / (estimate * (1 - estimate))
    return 1 / (1 + math.exp(half - logit)), 1 / (1 + math.exp(-half - logit))
