"""What the probabilities of a model say of an image: the class at the operating point, and calibrated probabilities.

Training, `training.predict` and `beam_jobs.predict` say the same because they share these functions. NumPy only.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.labels import CLASS

Probabilities = npt.NDArray[np.float64]  # [images, outputs of the model]

_CLOSEST = 1e-7  # of a probability to 0 and 1, as in the loss


def prediction_of(
    probabilities: Sequence[float], classes: Sequence[str], label_kind: str, thresholds: Sequence[float]
) -> dict[str, Any]:
    """What a model says of one image, for JSON: `probability` of the second of two classes, or `probabilities` by class; and
    the `class`, or the `findings` that reach their thresholds. A probability of at least the threshold is positive; of
    several classes, the most probable is the class."""
    if label_kind == CLASS and len(classes) == 2:
        (probability,) = probabilities
        return {"probability": probability, "class": classes[int(probability >= thresholds[0])]}
    by_class = dict(zip(classes, probabilities, strict=True))
    if label_kind == CLASS:
        return {"probabilities": by_class, "class": max(by_class, key=lambda name: by_class[name])}
    found = [name for name, least in zip(classes, thresholds, strict=True) if by_class[name] >= least]
    return {"probabilities": by_class, "findings": found}


def logits_of(probabilities: Probabilities, softmax: bool) -> Probabilities:
    """Logits whose softmax, or sigmoid of each, gives the probabilities. Certain ones become nearly certain."""
    p = np.clip(probabilities, _CLOSEST, 1 - _CLOSEST)
    found: Probabilities = np.log(p) if softmax else np.log(p) - np.log1p(-p)
    return found


def tempered(probabilities: Probabilities, temperature: float, softmax: bool) -> Probabilities:
    """The probabilities with their logits divided by the temperature (Guo et al. 2017, arXiv:1706.04599). softmax: they are
    those of classes that exclude each other, and add up to 1."""
    logits = logits_of(probabilities, softmax) / temperature
    if softmax:
        powers = np.exp(logits - logits.max(1, keepdims=True))
        found: Probabilities = powers / powers.sum(1, keepdims=True)
        return found
    small = np.exp(-np.abs(logits))  # never overflows
    of_each: Probabilities = np.where(logits >= 0, 1.0, small) / (1 + small)
    return of_each
