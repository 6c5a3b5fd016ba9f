"""scope.json of a run folder: the scope of its model (scope.py), as numbers in JSON."""

import json
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from schemas.errors import UsageError
from training.predicting.descriptors import COARSE, EDGES, FINE
from training.predicting.scope import Normal, Scope, Scores
from training.runs.run_folder import SCOPE

FORMAT, FORMAT_VERSION = "radrecords-scope", 1
_DIGITS = 7  # what float32 can hold


def write_scope(run: str, scope: Scope) -> None:
    """Writes scope.json to a run folder, atomically."""
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        **{
            name: {part: _numbers(getattr(normal, part)) for part in ("mean", "spread")}
            | {"whitening": _numbers(normal.whitening[np.tril_indices(len(normal.mean))])}
            for name, normal in (("coarse", scope.coarse), ("fine", scope.fine))
        },
        **{name: _numbers(getattr(scope, name)) for name in ("upright", "middle", "span")},
    }
    part = Path(run, f".{SCOPE}.part")
    part.write_text(json.dumps(content) + "\n", encoding="utf-8")
    os.replace(part, Path(run, SCOPE))


def read_scope(run: str) -> Scope | None:
    """The scope of a run, or None if it has none. Raises UsageError if scope.json is damaged or of a newer version."""
    try:
        content = json.loads(Path(run, SCOPE).read_bytes())
        if content["format"] != FORMAT:
            raise ValueError("another format")
        version = int(content["format_version"])
        if version <= FORMAT_VERSION:
            scope = Scope(
                coarse=_read_normal(content["coarse"], COARSE),
                fine=_read_normal(content["fine"], FINE),
                upright=_array(content["upright"], COARSE**2).astype(np.float32),
                middle=_array(content["middle"], 3),
                span=_array(content["span"], 3),
            )
            if not (scope.span > 0).all():
                raise ValueError("a span is not above 0")
            return scope
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"cannot read {SCOPE} of run {run}: {error.strerror}") from error
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise UsageError(f"{SCOPE} of run {run} is damaged; train again with --resume") from error
    raise UsageError(
        f"{SCOPE} of run {run} has format version {version}, but this radrecords reads up to {FORMAT_VERSION}; "
        "upgrade radrecords"
    )


def _read_normal(content: dict[str, list[float]], side: int) -> Normal:
    size = side**2 + EDGES
    lower = np.zeros((size, size), np.float32)
    lower[np.tril_indices(size)] = _array(content["whitening"], size * (size + 1) // 2)
    mean, spread = (_array(content[name], size).astype(np.float32) for name in ("mean", "spread"))
    if not (spread > 0).all():
        raise ValueError("a spread is not above 0")
    return Normal(mean, spread, lower)


def _array(values: list[float], length: int) -> Scores:
    found = np.asarray(values, np.float64)
    if found.shape != (length,) or not np.isfinite(found).all():
        raise ValueError(f"{length} numbers expected")
    return found


def _numbers(values: npt.NDArray[np.floating]) -> list[float]:
    return [float(f"{value:.{_DIGITS}g}") for value in values.tolist()]
