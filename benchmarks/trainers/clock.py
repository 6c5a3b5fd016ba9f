"""How long the epochs of a benchmark take."""

import time
from collections.abc import Mapping

import keras


class Clock(keras.callbacks.Callback):  # type: ignore[misc] # untyped
    """The seconds of each epoch until the device has done its last step, and the number of its steps."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self.steps: list[int] = []
        self._start = 0.0

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:  # noqa: ARG002
        self.steps.append(0)
        self._start = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:  # noqa: ARG002
        self.steps[-1] = batch + 1

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:  # noqa: ARG002
        assert logs
        float(logs["loss"])  # waits for the last step
        self.seconds.append(time.perf_counter() - self._start)
