"""The epochs of a run, from its checkpoint on."""

from collections.abc import Callable, Sequence

import keras

from schemas.dataset import Manifest
from schemas.labels import CLASS
from training.config import DEVICE, MEMORY, TrainConfig
from training.devices.cache import Cache, faster
from training.devices.feeds import Feeding, evaluate, make_feed
from training.devices.hardware import Hardware, steps_per_call
from training.devices.resident import Resident
from training.devices.steps import ExactSteps
from training.devices.waiting import Waiting
from training.fitting.checkpoint import Place, read_place, restore_checkpoint
from training.fitting.interruption import Interruption, Stopped
from training.fitting.profile import Profile
from training.fitting.progress import MUCH, Progress
from training.fitting.run_log import RunLog, epochs_since_best
from training.models.objective import class_weights
from training.reading.array_batches import keep, steps
from training.reading.records import Split, naming_damaged_shards
from training.runs import run_folder


class Epochs:
    """The epochs of a run of `model`, which is compiled, on the splits train and validation. `kept` is called after each
    checkpoint. splits: those of the run, in memory if they are kept there."""

    def __init__(
        self,
        model: keras.Model,
        config: TrainConfig,
        manifest: Manifest,
        splits: Sequence[Split],
        hardware: Hardware,
        cache: Cache,
        kept: Callable[[], None] = lambda: None,
    ) -> None:
        self._model, self._config, self._hardware, self._cache, self._kept = model, config, hardware, cache, kept
        self.splits = splits
        balanced = config.recipe.balanced and manifest.label_kind == CLASS  # else the loss does it
        self._weights = class_weights(manifest.label_counts("train")) if balanced else None
        self._how = Feeding(config.recipe.batch_size, config.seed, hardware.devices)
        self._steps = steps(splits[0], config.recipe.batch_size)
        self._waiting, self._interruption = Waiting(), Interruption()
        self._callbacks: list[keras.callbacks.Callback] = []

    def run(self) -> None:
        """Trains to the last epoch. Raises JobFailed for damaged shards or a loss that is not a number, and Stopped after
        a signal."""
        config, place = self._config, read_place(self._config.output)
        done = run_folder.read_history(config.output)[: place.epoch]
        if place.epoch >= config.recipe.epochs:
            return
        if config.early_stopping and epochs_since_best(done) >= config.early_stopping:
            return
        print(f"cache: {self._cache.kind} ({self._cache.why})")
        log = RunLog(
            config.output,
            place,
            self._steps,
            config.early_stopping,
            config.recipe.keep,
            self._interruption,
            self._kept,
        )
        progress = Progress(place, config.recipe.epochs, self._steps, self.splits[0].examples, self._waiting)
        self._callbacks = [log, progress]
        if config.profile:
            last = config.recipe.epochs - 1
            self._callbacks.append(Profile(f"{config.output}/{run_folder.LOGS}", min(place.epoch + 1, last)))
        try:
            with naming_damaged_shards(self.splits), self._interruption.noted():
                self._fit(place, log)
        finally:
            progress.close()
        if self._interruption.number:  # it came when no step was left to end at
            raise Stopped(
                "stopped after the last epoch; give the same command with --resume to finish the run",
                self._interruption.number,
            )
        self._tell_waiting(progress)

    def _fit(self, place: Place, log: RunLog) -> None:
        resident = held_out = None
        if self._cache.kind == MEMORY:
            self.splits = [keep(split) for split in self.splits]
        elif self._cache.kind == DEVICE:
            resident, held_out = (
                Resident(split, weights) for split, weights in zip(self.splits, (self._weights, None), strict=True)
            )
        epochs = self._config.recipe.epochs - place.epoch
        self._held_out = make_feed(self.splits[1], self._how, training=False, resident=held_out, epochs=epochs)
        if place != Place():
            restore_checkpoint(self._config.output, self._model)
        if place.logs is not None:
            self._validate(place, log)
            place = Place(place.epoch + 1)
        elif place.step:
            self._fit_from(place, 1, resident)
            place = Place(place.epoch + 1)
        epochs = self._config.recipe.epochs - place.epoch
        if epochs > 0 and not self._model.stop_training:
            self._fit_from(place, epochs, resident)

    def _fit_from(self, place: Place, epochs: int, resident: Resident | None) -> None:
        """Trains for some epochs, each of them from the step of `place` on."""
        feed = make_feed(
            self.splits[0], self._how, True, self._weights, place.epoch, place.step, resident, self._waiting, epochs
        )
        self._model.steps_per_execution = steps_per_call(self._hardware, feed.steps)
        self._model.fit(
            feed.data,
            steps_per_epoch=feed.told_steps,
            validation_data=self._held_out.data,
            validation_steps=self._held_out.told_steps,
            initial_epoch=place.epoch,
            epochs=place.epoch + epochs,
            callbacks=[ExactSteps(feed, self._held_out), *self._callbacks],
            shuffle=False,  # the feed has done it
            verbose=0,
        )

    def _validate(self, place: Place, log: RunLog) -> None:
        """Finishes an epoch that was stopped in its validation."""
        figures = evaluate(self._model, self._held_out)
        log.set_model(self._model)
        log.on_epoch_end(place.epoch, {**(place.logs or {}), **{f"val_{name}": figures[name] for name in figures}})

    def _tell_waiting(self, progress: Progress) -> None:
        share = progress.share_of_waiting()
        if share is None:
            return
        advice = f"; to wait less: {faster(self._cache, self._hardware)}" if share > MUCH else ""
        print(f"steps: {share:.1%} of the time waiting for input, {1 - share:.1%} computing{advice}")
