"""What training tells while it runs: a progress bar on a terminal, a line for each epoch, and where the time went."""

import time
from collections.abc import Mapping
from typing import Any

import keras
from tqdm import tqdm

from training.devices.waiting import Waiting
from training.fitting.checkpoint import Place

MUCH = 0.05  # of the time: above it, waiting for input is worth a change
_REFRESH_SECONDS = 0.5


class Progress(keras.callbacks.Callback):  # type: ignore[misc] # untyped
    """Tells of a run that goes on from `place`, with `epochs` epochs of `steps` steps for `examples` examples."""

    def __init__(self, place: Place, epochs: int, steps: int, examples: int, waiting: Waiting) -> None:
        super().__init__()
        self._place, self._epochs, self._steps, self._examples = place, epochs, steps, examples
        self._waiting = waiting
        self._bar: Any = None
        # The first step compiles, and waits for what happens only once. The last one of the first epoch may have a smaller
        # batch, for which it compiles again. Neither is counted in the speed.
        self._first = self._first_epoch = True
        self._seconds, self._counted = 0.0, 0  # the time that the other steps took, and their number
        self._last_seconds = 0.0  # of the last step of the first epoch
        self._since = self._begun = self._shown = self._ended = 0.0
        self._validation = float("inf")  # the shortest so far, because the first one compiles too
        self._done = 0  # steps of this epoch

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:  # noqa: ARG002
        if epoch != self._place.epoch:
            self._place = Place(epoch)
        self._begun = self._since = time.perf_counter()
        self._done = self._place.step
        name = f"epoch {epoch + 1}/{self._epochs}"
        self._bar = tqdm(None, name, self._steps, initial=self._done, unit="step", leave=False, disable=None)

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:  # noqa: ARG002
        done = min(self._place.step + batch + 1, self._steps)
        more, self._done = done - self._done, done
        now = time.perf_counter()
        if self._first:
            self._first, self._since = False, now
            self._waiting.begin()
        elif self._first_epoch and done == self._steps:
            self._seconds += self._ended - self._since
            self._last_seconds, self._since = now - self._ended, now
        else:
            self._counted += more
        self._ended = now
        if self._bar is not None and not self._bar.disable:
            self._bar.update(more)
            if not self._counted or now - self._shown > _REFRESH_SECONDS:
                self._shown = now if self._counted else 0.0  # the speed is shown as soon as there is one
                self._bar.set_postfix_str(self._speed(self._seconds + now - self._since))

    def on_test_begin(self, logs: Mapping[str, float] | None = None) -> None:  # noqa: ARG002
        now = time.perf_counter()
        self._seconds += now - self._since
        self._since = now

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        now = time.perf_counter()
        self._validation, self._first_epoch = min(self._validation, now - self._since), False
        self.close()
        parts = {"": [], "val_": []}  # type: dict[str, list[str]]
        for name, value in (logs or {}).items():
            kind = "val_" if name.startswith("val_") else ""
            parts[kind].append(f"{name.removeprefix('val_')} {float(value):.4f}")
        print(
            f"epoch {epoch + 1}/{self._epochs}: {', '.join(parts[''])}; validation {', '.join(parts['val_'])}; "
            f"{now - self._begun:.1f} s{f', {self._speed(self._seconds)}' if self._counted else ''}",
            flush=True,
        )

    def close(self) -> None:
        """Removes the bar, so that what follows begins on a line of its own."""
        if self._bar is not None:
            self._bar.close()

    def share_of_waiting(self) -> float | None:
        """The share of the time of all steps but the first that was spent waiting for input; None if there was no other."""
        seconds = self._seconds + self._last_seconds
        return self._waiting.seconds / seconds if (self._counted or self._last_seconds) and seconds else None

    def _speed(self, seconds: float) -> str:
        if not self._counted:
            return "starting"
        steps = (self._epochs - self._place.epoch) * self._steps - self._done
        validations = 0 if self._first_epoch else self._epochs - self._place.epoch - 1
        left = steps * seconds / self._counted + (self._validation * validations if validations else 0)
        images = self._counted / self._steps * self._examples / seconds
        return f"{images:,.0f} images/s, {tqdm.format_interval(left)} left"
