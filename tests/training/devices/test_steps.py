"""Several steps at a time, as on a GPU: an epoch has exactly its steps, and the weights are those of single steps."""

import keras
import numpy as np
import pytest

from tests.training.conftest import DataSet
from training.devices.feeds import Feeding, make_feed
from training.devices.resident import Resident
from training.devices.steps import ExactSteps
from training.models.networks import build_model
from training.models.objective import compile_model
from training.models.recipes import MODEL1
from training.reading.records import open_split
from training.task import task_of

BATCH, STEPS, EPOCHS = 20, 5, 2  # of 96 examples


def trained(dataset: DataSet, at_once: int, on_device: bool) -> tuple[list[np.ndarray], dict[str, list[float]], int]:
    """Weights, history and the number of steps of the optimizer."""
    splits = [open_split(str(dataset.folder), dataset.manifest, name) for name in ("train", "validation")]
    keras.utils.set_random_seed(0)
    model = build_model(MODEL1, dataset.manifest.shape, task_of(dataset.manifest))
    compile_model(model, MODEL1, task_of(dataset.manifest))
    model.steps_per_execution = at_once
    how = Feeding(BATCH, 3)
    feed, held_out = (
        make_feed(split, how, split is splits[0], resident=Resident(split) if on_device else None) for split in splits
    )
    history = model.fit(
        feed.data,
        steps_per_epoch=feed.told_steps,
        validation_data=held_out.data,
        validation_steps=held_out.told_steps,
        epochs=EPOCHS,
        callbacks=[ExactSteps(feed, held_out)],
        shuffle=False,
        verbose=0,
    )
    return model.get_weights(), history.history, int(keras.ops.convert_to_numpy(model.optimizer.iterations))


@pytest.mark.parametrize("on_device", [False, True])
def test_three_steps_at_a_time(dataset: DataSet, on_device: bool) -> None:
    weights, history, steps = trained(dataset, 1, on_device=False)
    others, other_history, other_steps = trained(dataset, 3, on_device)
    assert steps == other_steps == STEPS * EPOCHS
    for weight, other in zip(weights, others, strict=True):
        np.testing.assert_allclose(other, weight, rtol=1e-5, atol=1e-7)
    assert {name: pytest.approx(values, abs=1e-5) for name, values in history.items()} == other_history
