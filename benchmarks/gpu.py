"""How close to a GPU's own speed is training? `python -m benchmarks.gpu [--examples N] [--epochs N] [--small]`

For each model and size of a batch: images/s with the data set streamed from the disk, kept in memory and kept on the device;
and, as the limit, of the same training step on one batch that is on the device already. Needs JAX, and no TensorFlow.
"""

import argparse
import json
import os
import platform
import re
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.trainers.data import write_dataset
from training.loading import BACKEND

_MODELS = ("model3", "small_resnet")
_SIDE, _SHARDS = 64, 16
_LIMIT = "one resident batch"
_TARGETS = {"device": 0.95, "none": 0.8}  # of the limit
_RESULTS = Path(__file__).parent / "results"


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table; writes gpu-DEVICE.json and gpu-DEVICE.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=262_144, help="64x64 images of an epoch")
    parser.add_argument("--batch", type=int, nargs="+", default=[256, 1024, 4096])
    parser.add_argument("--epochs", type=int, default=5, help="of each, after one that is not counted")
    parser.add_argument(
        "--small", action="store_true", help="few images and batches, on any device; says nothing of speed"
    )
    parser.add_argument("--output", type=Path, help="folder (default: benchmarks/results; with --small, none)")
    flags = parser.parse_args(arguments)
    if flags.small:
        flags.examples, flags.batch, flags.epochs = 16, [8], 1
    os.environ.setdefault(BACKEND, "jax")
    if os.environ[BACKEND] != "jax":
        sys.exit(f"error: {BACKEND}={os.environ[BACKEND]}: this benchmark is for jax")
    result = _measured(flags.examples, flags.batch, flags.epochs, flags.small)
    print(table(result))
    output = flags.output or (None if flags.small else _RESULTS)
    if output:
        output.mkdir(parents=True, exist_ok=True)
        name = "gpu-" + re.sub("[^a-z0-9]+", "-", result["device"]["name"].lower()).strip("-")
        (output / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
        (output / f"{name}.md").write_text(table(result))


def _measured(examples: int, batches: Sequence[int], epochs: int, small: bool) -> dict[str, Any]:
    from benchmarks.trainers import gpu_ways  # loads Keras, which reads KERAS_BACKEND once

    device = gpu_ways.device()
    print(f"device: {device.name}, {device.memory / 2**30:.0f} GiB", file=sys.stderr)
    if not (device.is_gpu or small):
        sys.exit("error: JAX sees no GPU; install jax[cuda12], or try this on the CPU with --small")
    with tempfile.TemporaryDirectory() as name:
        folder = f"{name}/data"
        gpu_ways.keep_compiled(f"{name}/compiled")
        write_dataset(Path(folder), {"train": examples}, _SIDE, _SHARDS)
        for batch in batches:
            if len(set(gpu_ways.contents(folder, batch).values())) != 1:
                sys.exit(f"error: batches of {batch} differ between caches")
        results = [
            result for model in _MODELS for batch in batches for result in gpu_ways.speeds(folder, model, batch, epochs)
        ]
    return {
        "device": {"name": device.name, "memory": device.memory, "host_cores": os.cpu_count()},
        "versions": {"python": platform.python_version(), **gpu_ways.versions()},
        "data": {"examples": examples, "shape": [_SIDE, _SIDE, 1], "shards": _SHARDS},
        "epochs": epochs,
        "results": results,
    }


def table(measured: Mapping[str, Any]) -> str:
    """Markdown: medians of images/s and, in brackets, the share of the limit; then the targets."""
    device, data = measured["device"], measured["data"]
    results = measured["results"]
    ways = list(dict.fromkeys(result["way"] for result in results))
    lines = [
        f"Images/s; in brackets, as a share of the limit, which is the same step on {_LIMIT}. {device['name']}, "
        f"{device['host_cores']} cores; {data['examples']:,} images of {'x'.join(map(str, data['shape']))}; medians of "
        f"{measured['epochs']} epochs.",
        "",
        f"| model | batch | {' | '.join(way if way == _LIMIT else f'cache {way}' for way in ways)} |",
        f"| --- | ---: |{' ---: |' * len(ways)}",
    ]
    for model, batch in dict.fromkeys((result["model"], result["batch"]) for result in results):
        speed = _speeds(measured, model, batch)
        cells = (f"{speed[way]:,.0f} ({speed[way] / speed[_LIMIT]:.2f})" for way in ways)
        lines.append(f"| {model} | {batch} | {' | '.join(cells)} |")
    lines += ["", "| target, share of the limit | at least | measured |", "| --- | ---: | ---: |"]
    lines += [f"| {name} | {least} | {share:.2f} |" for name, least, share in _targets(measured)]
    versions = ", ".join(f"{package} {version}" for package, version in measured["versions"].items())
    return "\n".join([*lines, "", f"Versions: {versions}.", ""])


def _targets(measured: Mapping[str, Any]) -> Iterator[tuple[str, float, float]]:
    for model, batch in dict.fromkeys((result["model"], result["batch"]) for result in measured["results"]):
        speed = _speeds(measured, model, batch)
        for way, least in _TARGETS.items():
            yield f"{model}, batches of {batch}, cache {way}", least, speed[way] / speed[_LIMIT]


def _speeds(measured: Mapping[str, Any], model: str, batch: int) -> dict[str, float]:
    """The median images/s of each way."""
    return {
        result["way"]: statistics.median(result["images_per_second"])
        for result in measured["results"]
        if (result["model"], result["batch"]) == (model, batch)
    }


if __name__ == "__main__":
    main()
