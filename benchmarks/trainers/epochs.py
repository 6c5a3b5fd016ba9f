"""A process of benchmarks.training: epochs of model3 on the same batches, by where the images come from. Prints JSON.

`python -m benchmarks.trainers.epochs FOLDER BUCKET ROUNDS`. Each way starts from the same weights and trains four epochs, of
which the median of the last three counts. The ways take turns, in another order each round. Validation and the files of a
run are left out, because Keras' fit on arrays has neither.
"""

import json
import random
import statistics
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import google_crc32c
import numpy as np

from benchmarks.trainers.figures import BUCKET, DISK, KERAS, MEMORY
from training.loading import quiet_loading

with quiet_loading():  # sets TensorFlow up as in training.train, for Keras' fit on arrays too
    import keras

    from benchmarks.trainers.clock import Clock
    from training.devices.feeds import Feeding, make_feed
    from training.devices.steps import ExactSteps
    from training.models.networks import build_model
    from training.models.objective import compile_model
    from training.models.recipes import MODEL3
    from training.reading.array_batches import epoch_rows, keep, split_arrays, steps
    from training.reading.records import Split, open_dataset, open_split
    from training.task import task_of

_SEED, _EPOCHS = 0, 4

_Fit = Callable[[keras.Model, keras.callbacks.Callback], None]


def main() -> None:
    folder, bucket, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
    disk = open_split(folder, open_dataset(folder), "train")
    kept = keep(disk)
    ways: dict[str, _Fit] = {
        KERAS: partial(_fit_arrays, disk, *split_arrays(kept)),
        DISK: partial(_fit_ours, disk),
        MEMORY: partial(_fit_ours, kept),
        BUCKET: partial(_fit_ours, open_split(bucket, open_dataset(bucket), "train")),
    }
    results: list[dict[str, Any]] = [{"way": way, "seconds": []} for way in ways]
    orders = random.Random(_SEED)
    for _ in range(rounds):
        for result in orders.sample(results, len(results)):
            clock, weights = _trained(ways[result["way"]], folder)
            result["seconds"].append(round(statistics.median(clock.seconds[1:]), 4))
            result["steps"] = clock.steps[-1]
            result.setdefault("weights", []).append(weights)
    print(json.dumps(results))


def _trained(fit: _Fit, folder: str) -> tuple[Clock, str]:
    """The clock after the epochs, and a checksum of the weights that these have led to."""
    manifest, clock = open_dataset(folder), Clock()
    keras.utils.set_random_seed(_SEED)
    model = build_model(MODEL3, manifest.shape, task_of(manifest))
    compile_model(model, MODEL3, task_of(manifest))
    fit(model, clock)
    content = b"".join(np.ascontiguousarray(part).tobytes() for part in model.get_weights())
    return clock, f"{google_crc32c.value(content):08x}"


def _fit_ours(split: Split, model: keras.Model, clock: keras.callbacks.Callback) -> None:
    """As training.fitting.epochs does it."""
    how = Feeding(MODEL3.batch_size, _SEED)
    feed = make_feed(split, how, training=True)
    held_out = make_feed(split, how, training=False)  # not read: fit is given no validation data
    model.fit(
        feed.data,
        steps_per_epoch=feed.told_steps,
        epochs=_EPOCHS,
        callbacks=[ExactSteps(feed, held_out), clock],
        shuffle=False,
        verbose=0,
    )


def _fit_arrays(split: Split, images: Any, labels: Any, model: keras.Model, clock: keras.callbacks.Callback) -> None:
    """Keras' own, on arrays that hold the images in the order of the epochs: shuffling them is not timed."""
    rows = np.concatenate([epoch_rows(split, _SEED, epoch) for epoch in range(_EPOCHS)])
    targets = labels.astype(np.float32).reshape(-1, 1)
    model.fit(
        images[rows],
        targets[rows],
        MODEL3.batch_size,
        steps_per_epoch=steps(split, MODEL3.batch_size),
        epochs=_EPOCHS,
        callbacks=[clock],
        shuffle=False,
        verbose=0,
    )


if __name__ == "__main__":
    main()
