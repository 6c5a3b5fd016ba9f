"""Does anything grow with the number of images? `python -m benchmarks.scale [--images N ...] [--references N ...]`

First, conversions of --images different small images on this machine: the time an image, and the peak memory, should be
the same for ten thousand and for a million. The images are PNGs of 16x16 random pixels, so nearly all of the time is what
an image costs beside its decoding. Second, a simulation: the conversion's own graph over --references made-up names,
without a bucket and without pixels, up to the plan, the sorting into shards, and the publication of the data set. It shows
what the steps take that see all names or all shards.

Everything but the results is deleted again. A million images take 11 GB: the files, the records, and what waits
between the steps.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.memory import MODES, measured
from benchmarks.reading import machine
from benchmarks.scaling.figures import draw, table
from tests.conftest import ROOT

_START_IMAGES = 100  # a conversion of so few images is nearly nothing but its start
_ONCE_FROM = 500_000  # this many images are converted once only
_PACKAGES = ("apache-beam", "numpy", "radrecords")


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table; writes scale.json, scale.md and scale.png."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--references", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--rounds", type=int, default=3, help=f"of conversions with fewer than {_ONCE_FROM:,} images")
    parser.add_argument("--mode", default=next(iter(MODES)), choices=MODES)
    parser.add_argument("--small", action="store_true", help="hundreds of images and references, one round")
    parser.add_argument("--output", type=Path, help="folder (default: benchmarks/results; with --small, none)")
    flags = parser.parse_args(arguments)
    if flags.small:
        flags.images, flags.references, flags.rounds = [200, 400], [2_000, 4_000], 1
    found = {
        "machine": machine(os.getloadavg()[0]),
        "versions": {"python": platform.python_version(), **{package: version(package) for package in _PACKAGES}},
        "mode": flags.mode,
        "conversions": [_conversion(count, flags.rounds, flags.mode) for count in (_START_IMAGES, *flags.images)],
        "simulations": [_simulation(count) for count in flags.references],
    }
    print(table(found))
    output = flags.output or (None if flags.small else ROOT / "benchmarks/results")
    if output:
        output.mkdir(parents=True, exist_ok=True)
        (output / "scale.json").write_text(json.dumps(found, indent=1) + "\n")
        (output / "scale.md").write_text(table(found))
        draw(found, output / "scale.png")


def _conversion(count: int, rounds: int, mode: str) -> dict[str, Any]:
    """The medians of some conversions of `count` images each."""
    runs = []
    for number in range(1 if count >= _ONCE_FROM else rounds):
        print(f"converting {count:,} images, round {number + 1}", file=sys.stderr)
        runs.append(measured(count, MODES[mode]))
    return {**{name: statistics.median(run[name] for run in runs) for name in runs[0]}, "rounds": len(runs)}


def _simulation(images: int) -> dict[str, Any]:
    """{"plan": ..., "publish": ...}: what the functions of these names in benchmarks/scaling/simulation.py give."""
    with tempfile.TemporaryDirectory() as folder:
        return {step: _step(step, images, folder) for step in ("plan", "publish")}


def _step(step: str, images: int, folder: str) -> Any:
    print(f"simulating {images:,} images: {step}", file=sys.stderr)
    command = [sys.executable, "-m", "benchmarks.scaling.simulation", step, str(images), folder]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, "TMPDIR": folder})
    if done.returncode:
        sys.exit(f"error: the simulation failed:\n{done.stderr[-5000:]}")
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
