"""A check of the maps: one from a model that has learned nothing must look different.

Adebayo et al. 2018, NeurIPS, "Sanity Checks for Saliency Maps": some methods give nearly the same map whatever the
weights are, because they show edges of the image. Such a map says nothing about the model.
"""

import keras
import numpy as np
from scipy.stats import rankdata

from training.explanation.methods import Map

ALIKE = 0.5  # Spearman's rank correlation, of either sign
SEED = 0


def randomised(model: keras.Model) -> keras.Model:
    """The same network with fresh weights, as before training; equal ones each time. Layers without weights are shared:
    those of augmentation cannot all be made anew from their settings."""
    keras.utils.set_random_seed(SEED)
    return keras.models.clone_model(model, clone_function=_fresh)


def _fresh(layer: keras.layers.Layer) -> keras.layers.Layer:
    return type(layer).from_config(layer.get_config()) if layer.weights else layer


def rank_correlation(first: Map, second: Map) -> float | None:
    """Spearman's rank correlation of the pixels; None if one map has a single value."""
    ranks = [rankdata(each, axis=None) for each in (first, second)]
    if any(np.ptp(each) == 0 for each in ranks):
        return None
    return float(np.corrcoef(*ranks)[0, 1])


def look_alike(correlation: float | None) -> bool:
    """Whether the correlation is so high that the map may say little about the model."""
    return correlation is not None and abs(correlation) >= ALIKE
