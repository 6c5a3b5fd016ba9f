"""The state from which a run continues, in one file that is replaced as a whole: `backup/state.npz`.

It holds every variable of the model, the optimizer and the metrics as NumPy arrays, in the order of Keras, so a run goes on
as if it had never stopped. A process that is killed leaves either the old file or the new one.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from zipfile import BadZipFile

import keras
import numpy as np

from schemas.errors import JobFailed, UsageError
from training.runs.run_folder import BACKUP

STATE = "state.npz"
_PLACE = "place"
_OF_EARLIER_RELEASES = "latest.weights.h5"


@dataclass(frozen=True)
class Place:
    """Where a run is: `epoch`, from 0, and `step`, the number of batches of that epoch that the weights have seen.

    logs: the training figures of an epoch in which only the validation is left to do.
    """

    epoch: int = 0
    step: int = 0
    logs: Mapping[str, float] | None = None


def write_checkpoint(run: str, model: keras.Model, place: Place) -> None:
    """Replaces the checkpoint of the run. Raises OSError."""
    folder = Path(run, BACKUP)
    folder.mkdir(exist_ok=True)
    arrays = {f"{index:06d}": keras.ops.convert_to_numpy(each) for index, each in enumerate(_variables(model))}
    part = folder / f".{STATE}.part"
    with part.open("wb") as file:
        np.savez(file, **{_PLACE: np.array(json.dumps(asdict(place)))}, **arrays)  # type: ignore[arg-type] # allow_pickle comes first
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, folder / STATE)


def read_place(run: str) -> Place:
    """Where the checkpoint of the run was written; the start if there is none. Raises JobFailed if it is damaged, and
    UsageError if it is of an earlier release."""
    path = Path(run, BACKUP, STATE)
    if not path.exists():
        if Path(run, BACKUP, _OF_EARLIER_RELEASES).exists():
            raise UsageError(f"run {run} was begun by an earlier release; train again with --overwrite")
        return Place()
    with _naming(path), path.open("rb") as file, np.load(file) as arrays:
        return Place(**json.loads(str(arrays[_PLACE])))


def restore_checkpoint(run: str, model: keras.Model) -> None:
    """Gives a model that objective.compile_model has compiled the state of the checkpoint. Raises JobFailed if it is
    damaged."""
    path = Path(run, BACKUP, STATE)
    with _naming(path), path.open("rb") as file, np.load(file) as arrays:
        names = sorted(name for name in arrays.files if name != _PLACE)
        for name, variable in zip(names, _variables(model), strict=True):
            variable.assign(arrays[name])


def _variables(model: keras.Model) -> list[keras.Variable]:
    return [*model.variables, *model.optimizer.variables, *model.metrics_variables]


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
        raise JobFailed(f"checkpoint {path} is damaged; train again with --overwrite") from error
