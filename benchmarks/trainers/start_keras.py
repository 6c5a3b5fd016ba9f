"""A process of benchmarks.training: what a minimal script takes to the first step of the same network on an array.

`python -m benchmarks.trainers.start_keras START`, where START is time.monotonic() before the process was started. It imports
nothing of this project but the names of the parts.
"""

import json
import os
import sys
import time
from collections.abc import Mapping

from benchmarks.trainers.figures import COMPILE, IMPORTS


def main() -> None:
    started = float(sys.argv[1])
    import keras
    import numpy as np
    from keras import layers

    imports = time.monotonic() - started

    class FirstStep(keras.callbacks.Callback):  # type: ignore[misc] # untyped
        def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:  # noqa: ARG002
            total = time.monotonic() - started
            parts = {IMPORTS: imports, COMPILE: total - imports}
            print(json.dumps({"seconds": total, "parts": parts}), flush=True)
            os._exit(0)

    network = [keras.Input((64, 64, 1)), layers.Rescaling(1 / 255)]
    for filters, dropout in ((32, 0), (32, 0.25), (64, 0.25), (64, 0.25)):
        network += [layers.Conv2D(filters, 3, activation="relu"), layers.MaxPooling2D(2)]
        network += [layers.Dropout(dropout)] if dropout else []
    network += [layers.Flatten(), layers.Dropout(0.5), layers.Dense(128, activation="relu")]
    model = keras.Sequential([*network, layers.Dense(1, activation="sigmoid")])
    metrics = ["accuracy", keras.metrics.AUC(num_thresholds=1000)]
    model.compile("adam", "binary_crossentropy", metrics=metrics)
    images = np.random.default_rng(0).integers(0, 256, (1000, 64, 64, 1), dtype=np.uint8)
    labels = (np.arange(1000) % 2).astype(np.float32)
    model.fit(images, labels, batch_size=16, epochs=1, verbose=0, callbacks=[FirstStep()])


if __name__ == "__main__":
    main()
