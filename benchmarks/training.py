"""What does training from shards cost beyond Keras? `python -m benchmarks.training [--examples N] [--rounds N] [--small]`

Three things are measured, each in processes of their own:
- an epoch of model3, against Keras' fit on arrays in memory with the same batches. All ways must end with the same weights,
  bit for bit.
- the time from the start of the process to the first step, against a minimal Keras script.
- the memory while a set is streamed that is ten times larger than the two windows that are in memory at a time.
"""

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.readers.process import ROOT
from benchmarks.reading import machine
from benchmarks.trainers.data import write_dataset
from benchmarks.trainers.figures import HALF, OURS, SCRIPT, WHOLE, draw, table
from tests.gcs.bucket import fresh_bucket, running_server
from tests.gcs.tls_front import running_front
from training.models.recipes import MODEL3
from training.reading.arrays import READ_AHEAD_BYTES

_PACKAGES = ("radrecords", "tensorflow-cpu", "keras", "numpy")
_SHARDS, _SIDE = 8, 64
_LARGE_SIDE, _LARGE_SHARD_BYTES = 224, 8 << 20
_LARGE_SETS = 10 * READ_AHEAD_BYTES  # two windows are in memory: the one in use and the next
_MEMORY_BATCH, _MEMORY_EPOCHS = 64, 3
_SECONDS = 3600  # no process takes longer


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table; writes training.json, training.md and training.png."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=4_992, help="images of an epoch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--small", action="store_true", help="few images, one round, all at once: says nothing of speed"
    )
    parser.add_argument("--output", type=Path, help="folder (default: benchmarks/results; with --small, none)")
    flags = parser.parse_args(arguments)
    if flags.examples % MODEL3.batch_size:
        parser.error(f"--examples {flags.examples}: must be a multiple of {MODEL3.batch_size}, the size of a batch")
    result = _measured(64, 1, 4 << 20, True) if flags.small else _measured(flags.examples, flags.rounds, _LARGE_SETS)
    print(table(result))
    output = flags.output or (None if flags.small else ROOT / "benchmarks/results")
    if output:
        output.mkdir(parents=True, exist_ok=True)
        (output / "training.json").write_text(json.dumps(result, indent=1) + "\n")
        (output / "training.md").write_text(table(result))
        draw(result, output / "training.png")


def _measured(examples: int, rounds: int, large_bytes: int, at_once: bool = False) -> dict[str, Any]:
    """What training.json holds. `at_once`: the three parts do not wait for each other."""
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(3 if at_once else 1) as pool:
        folder = Path(name)
        write_dataset(folder / "data", {"train": examples, "validation": MODEL3.batch_size}, _SIDE, _SHARDS)
        parts = {
            "epochs": pool.submit(_epochs, folder, examples, rounds),
            "start": pool.submit(_start, folder, rounds),
            "memory": pool.submit(_memory, folder, large_bytes, rounds),
        }
        found = {part: future.result() for part, future in parts.items()}
    return {
        "machine": machine(load),
        "versions": {"python": platform.python_version(), **{package: version(package) for package in _PACKAGES}},
        "rounds": rounds,
        **found,
    }


def _epochs(folder: Path, examples: int, rounds: int) -> dict[str, Any]:
    with contextlib.ExitStack() as stack:
        address = stack.enter_context(running_server())
        environment = stack.enter_context(running_front(address, folder)).environment
        bucket = stack.enter_context(fresh_bucket(address))
        bucket.upload_folder(folder / "data", "data")
        results = _ask("epochs", folder / "data", f"{bucket.uri}/data", rounds, environment=environment)
    if len({weights for result in results for weights in result["weights"]}) != 1:
        sys.exit("error: the ways do not end with the same weights, so they have not trained on the same batches")
    return {"data": {"examples": examples, "batch": MODEL3.batch_size, "shape": [_SIDE, _SIDE, 1]}, "results": results}


def _start(folder: Path, rounds: int) -> dict[str, Any]:
    runs: dict[str, list[Any]] = {OURS: [], SCRIPT: []}
    for number in range(rounds):
        runs[OURS].append(_ask("start", time.monotonic(), folder / "data", folder / f"run{number}"))
        runs[SCRIPT].append(_ask("start_keras", time.monotonic()))
    return {"results": [{"way": way, "runs": of_way} for way, of_way in runs.items()]}


def _memory(folder: Path, size: int, rounds: int) -> dict[str, Any]:
    count = max(2, size // _LARGE_SHARD_BYTES)
    images = size // _LARGE_SIDE**2
    write_dataset(folder / "large", {"train": images}, _LARGE_SIDE, count)
    runs: dict[str, list[Any]] = {HALF: [], WHOLE: []}
    for _ in range(rounds):
        found = _ask("memory", folder / "large", _MEMORY_BATCH, _MEMORY_EPOCHS, count // 2, count)
        for of_way, run in zip(runs.values(), found, strict=True):
            for earlier in of_way:
                earlier.pop("samples", None)  # the plot shows the last run
            of_way.append(run)
    return {
        "data": {"batch": _MEMORY_BATCH, "epochs": _MEMORY_EPOCHS, "shape": [_LARGE_SIDE, _LARGE_SIDE, 1]},
        "results": [{"way": way, "runs": of_way} for way, of_way in runs.items()],
    }


def _ask(module: str, *arguments: object, environment: Mapping[str, str] | None = None) -> Any:
    """The JSON that a process with this module of benchmarks prints last. Ends the program with its log if it fails."""
    command = [sys.executable, "-m", f"benchmarks.trainers.{module}", *map(str, arguments)]
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **(environment or {})}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=quiet, timeout=_SECONDS)
    if done.returncode:
        sys.exit(f"error: {module} failed:\n{done.stderr[-5000:]}")
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
