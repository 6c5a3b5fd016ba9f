"""What do latency and faults of a bucket cost a conversion? `python -m benchmarks.buckets --help`

Our command converts small images from a local bucket to another folder of it, through a proxy that adds latency to each
request and makes some fail (tests/gcs/front.py). In each round all ways take turns, and each is timed as a whole process,
including its start. All must give the same bytes.
"""

import argparse
import contextlib
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from benchmarks.reading import cpu_name
from tests.gcs.bucket import Bucket, bucket_environment, fresh_bucket, running_server
from tests.gcs.front import EACH_RETRYABLE, RETRYABLE, Fault, Traffic, no_faults, random_faults, running_front

_LATENCY, _EACH = 0.05, 0.05  # seconds, and the fraction of the requests that fails with each kind of fault


class Way(NamedTuple):
    """`faults`: what happens to this `fraction` of the requests. `other`: the way with which it is compared. `most`: its
    target."""

    latency: float
    faults: tuple[Fault, ...]
    fraction: float
    other: str
    most: float | None


NONE, LATENCY = "no latency", "50 ms"
WAYS = {
    NONE: Way(0.0, (), 0.0, "", None),
    LATENCY: Way(_LATENCY, (), 0.0, NONE, 1.3),
    "50 ms, 5% each of 429, 503, resets, cut bodies": Way(_LATENCY, RETRYABLE, 4 * _EACH, LATENCY, 1.3),
    "50 ms, 5% each of 408, 429, 5xx, resets, cut bodies": Way(_LATENCY, EACH_RETRYABLE, 5 * _EACH, LATENCY, 1.3),
}


def main() -> None:
    """Prints the table, and writes it and the measurements to --output."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"), help="folder of the results")
    flags = parser.parse_args()
    load = os.getloadavg()[0]
    result = measured(flags.images, flags.rounds)
    result["machine"]["load_before"] = round(load, 2)
    flags.output.mkdir(parents=True, exist_ok=True)
    (flags.output / "buckets.json").write_text(json.dumps(result, indent=1) + "\n")
    (flags.output / "buckets.md").write_text(table(result))
    print(table(result))


def measured(images: int, rounds: int) -> dict[str, Any]:
    """The seconds of each way in each round, and the requests and faults of each conversion."""
    machine = {"cpu": cpu_name(), "cores": os.cpu_count(), "system": sys.platform}
    ways: dict[str, dict[str, list[float]]] = {name: {"seconds": [], "requests": [], "failed": []} for name in WAYS}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        address = stack.enter_context(running_server())
        bucket = stack.enter_context(fresh_bucket(address))
        traffic = Traffic()
        proxy = stack.enter_context(running_front(address, traffic))
        environment = {**os.environ, **bucket_environment(address, folder), "STORAGE_EMULATOR_HOST": proxy}
        _write_images(bucket, images)
        digests = set()
        for number in range(rounds):
            for name, way in WAYS.items():
                traffic.clear()
                traffic.latency = way.latency
                traffic.faults = random_faults(number, way.fraction, way.faults) if way.faults else no_faults
                output = f"{len(ways[name]['seconds'])}-{list(WAYS).index(name)}/1.0.0"
                ways[name]["seconds"].append(_convert(bucket, output, environment))
                ways[name]["requests"].append(len(traffic.requests))
                ways[name]["failed"].append(len(traffic.failed))
                digests.add(_digest(bucket, output))
                if len(digests) > 1:
                    raise SystemExit(f"{name}: the data set differs from that of the other ways")
    return {"images": images, "rounds": rounds, "machine": machine, "ways": ways}


def _write_images(bucket: Bucket, images: int) -> None:
    for number in range(images):
        pixels = np.random.default_rng(number).integers(0, 256, (64, 64), np.uint8)
        with tempfile.TemporaryFile() as file:
            Image.fromarray(pixels).save(file, "PNG")
            file.seek(0)
            split, label = ("train", "train", "train", "val", "test")[number % 5], "AB"[number // 5 % 2]
            bucket.write({f"raw/{split}/{label}/{number}.png": file.read()})


def _convert(bucket: Bucket, output: str, environment: Mapping[str, str]) -> float:
    """Converts, and gives the seconds that it took."""
    words = [sys.executable, "-m", "beam_jobs.convert", "--input", f"{bucket.uri}/raw"]
    start = time.perf_counter()
    done = subprocess.run(
        [*words, "--output", f"{bucket.uri}/{output}"], env=environment, capture_output=True, text=True
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(done.stderr)
    return round(seconds, 3)


def _digest(bucket: Bucket, output: str) -> str:
    digest = hashlib.sha256()
    for name in bucket.names():
        if name.startswith(f"{output}/"):
            digest.update(name.removeprefix(output).encode() + b"\0" + bucket.read(name))
    return digest.hexdigest()


def table(result: Mapping[str, Any]) -> str:
    """Markdown: for each way the medians of the seconds and of the ratio to the other way in the same round."""
    machine = result["machine"]
    lines = [
        f"{result['images']:,} gray images of 64x64 pixels; {machine['cores']} cores ({machine['cpu']}, "
        f"{machine['system']}); medians of {result['rounds']}; load of the machine before: {machine['load_before']}.",
        "",
        "| a conversion from and to a bucket | seconds | requests | failed | ratio | at most |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, way in WAYS.items():
        found = result["ways"][name]
        middle = {column: statistics.median(found[column]) for column in ("seconds", "requests", "failed")}
        ratio = ""
        if way.other:
            pairs = zip(found["seconds"], result["ways"][way.other]["seconds"], strict=True)
            ratio = f"{statistics.median(mine / other for mine, other in pairs):.2f} of {way.other}"
        lines.append(
            f"| {name} | {middle['seconds']:.2f} | {middle['requests']:,.0f} | {middle['failed']:,.0f} | {ratio} | "
            f"{way.most or ''} |"
        )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
