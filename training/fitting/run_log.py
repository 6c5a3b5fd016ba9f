"""Keeps a run while Keras trains: best weights, history, checkpoint and TensorBoard logs."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import keras
import numpy as np

from schemas.errors import JobFailed
from training.fitting.checkpoint import Place, restore_checkpoint, write_checkpoint
from training.fitting.interruption import Interruption, Stopped
from training.models.recipes import LAST_EPOCH
from training.runs import run_folder

MONITOR = "val_auc"

Row = dict[str, float]


def best_epoch(rows: list[Row]) -> int:
    """The index of the epoch with the highest validation AUC. Ties go to the lowest validation loss, then to the first."""
    return max(range(len(rows)), key=lambda index: (rows[index][MONITOR], -rows[index]["val_loss"], -index))


def kept_epoch(rows: list[Row], keep: str) -> int:
    """The index of the epoch whose weights a run keeps."""
    return len(rows) - 1 if keep == LAST_EPOCH else best_epoch(rows)


def epochs_since_best(rows: list[Row]) -> int:
    """The number of epochs after the best one."""
    return len(rows) - 1 - best_epoch(rows) if rows else 0


class RunLog(keras.callbacks.Callback):  # type: ignore[misc] # untyped
    """Keeps a run whose epochs have `steps` steps, and ends it when its patience is over or a signal has arrived.

    One callback does it all, because everything depends on the epochs so far, which a resumed run reads from history.csv,
    and because the order matters: best weights, history, checkpoint. A run that is killed between them does its last epoch
    again, with the same result. Keras' CSVLogger, ModelCheckpoint, EarlyStopping and BackupAndRestore would start over, know
    no step, and do not replace files as a whole. `kept` is called when all files are written.
    """

    def __init__(
        self,
        folder: str,
        place: Place,
        steps: int,
        patience: int,
        keep: str,
        interruption: Interruption,
        kept: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()
        self._folder, self._place, self._steps, self._patience, self._keep = folder, place, steps, patience, keep
        self._interruption, self._kept = interruption, kept
        self._rows = run_folder.read_history(folder)[: place.epoch]
        if len(self._rows) < place.epoch:
            raise JobFailed(f"{run_folder.HISTORY} of run {folder} is missing epochs; train again with --overwrite")
        self._training_logs: Row = {}
        self._write_events = _event_writer(f"{folder}/{run_folder.LOGS}")

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:  # noqa: ARG002
        if epoch != self._place.epoch:
            self._place = Place(epoch)
        if self._place.step:  # within an epoch the checkpoint has all of it, and Keras has just reset the metrics
            restore_checkpoint(self._folder, self.model)
            return
        # Dropout and augmentation draw from counters that no weights file holds: make them a function of the epoch too.
        for variable in self.model.variables:
            if variable.name == "seed_generator_state":
                seed, _ = keras.ops.convert_to_numpy(variable)
                variable.assign([seed, (epoch << 20) % 2**32])

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:  # noqa: ARG002
        if not self._interruption.number:
            return
        step = min(self._place.step + batch + 1, self._steps)
        self._stop(Place(self._place.epoch, step, self._figures() if step == self._steps else None))

    def on_test_begin(self, logs: Mapping[str, float] | None = None) -> None:  # noqa: ARG002
        self._training_logs = self._figures()

    def on_test_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:  # noqa: ARG002
        if self._interruption.number:
            self._stop(Place(self._place.epoch, self._steps, self._training_logs))

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        row = {"epoch": epoch + 1, **{name: float(value) for name, value in (logs or {}).items()}}
        if not math.isfinite(row["loss"]):
            raise JobFailed(f"the loss is {row['loss']} in epoch {epoch + 1}; give a lower --learning_rate")
        self._rows.append(row)
        since_best = epochs_since_best(self._rows)
        if since_best == 0 or self._keep == LAST_EPOCH:
            part = Path(self._folder, f".part.{run_folder.WEIGHTS}")
            self.model.save_weights(part, overwrite=True)
            part.replace(Path(self._folder, run_folder.WEIGHTS))
        run_folder.write_history(self._folder, self._rows)
        self._write_events(row)
        write_checkpoint(self._folder, self.model, Place(epoch + 1))
        self._kept()
        if self._patience and since_best >= self._patience:
            self.model.stop_training = True

    def _figures(self) -> Row:
        return {name: float(value) for name, value in self.model.get_metrics_result().items()}

    def _stop(self, place: Place) -> None:
        assert self._interruption.number
        write_checkpoint(self._folder, self.model, place)
        self._kept()
        raise Stopped(
            f"stopped in epoch {place.epoch + 1}, after {place.step} of {self._steps} steps; "
            "give the same command with --resume to continue",
            self._interruption.number,
        )


def _event_writer(folder: str) -> Callable[[Row], None]:
    """Writes the rows of history.csv for TensorBoard. Only TensorFlow can."""
    if keras.config.backend() != "tensorflow":
        return lambda _row: None
    import tensorflow as tf

    writer = tf.summary.create_file_writer(folder)
    # tf.summary.scalar needs the tensorboard package, which only the viewer should.
    plugin = tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars")
    metadata = tf.compat.v1.SummaryMetadata(plugin_data=plugin, data_class=1)

    def write(row: Row) -> None:
        with writer.as_default(step=int(row["epoch"])):
            for name, value in row.items():
                tf.summary.write(name, np.float32(value), metadata=metadata)
        writer.flush()

    return write
