"""What do latency and faults of a bucket cost an epoch of training? `python -m benchmarks.bucket_epochs --help`

A data set is read from a local bucket, without a cache, through a proxy that adds latency to each request and makes some
fail (tests/gcs/front.py): with TensorFlow's client, and with that of the other backends; by a consumer that takes a few
milliseconds for each batch, as a fast GPU does, and by one that takes nothing. An epoch is timed from its first batch on.
In each round all ways take turns. All must give the same batches in the same order, as far as the consumer looks at them.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.readers.process import ROOT
from benchmarks.reading import machine
from benchmarks.trainers.data import write_dataset
from tests.gcs.bucket import fresh_bucket, running_server
from tests.gcs.front import RETRYABLE, Traffic, no_faults, random_faults, running_front
from tests.gcs.tls_front import running_front as running_tls_front
from training.reading.buckets.tensorflow_settings import SETTINGS

CLEAN, LATENCY, FAULTS = "no latency", "50 ms", "50 ms, 5% fail"
TENSORFLOW, OTHERS = "tensorflow", "jax"  # values of KERAS_BACKEND
MOST = 1.1  # times an epoch of CLEAN
_SECONDS, _FRACTION = 0.05, 0.05
_BATCH, _EPOCHS = 64, 4


@dataclass(frozen=True)
class _Client:
    """A process that reads, and what its proxy does."""

    backend: str
    process: "subprocess.Popen[str]"
    traffic: Traffic

    def ask(self, way: str, seed: int, **question: Any) -> dict[str, Any]:
        """The worker's answer, and the number of requests that failed."""
        self.traffic.clear()
        self.traffic.latency = 0.0 if way == CLEAN else _SECONDS
        self.traffic.faults = random_faults(seed, _FRACTION, RETRYABLE) if way == FAULTS else no_faults
        assert self.process.stdin
        assert self.process.stdout
        print(json.dumps(question), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"error: the process with KERAS_BACKEND={self.backend} ended")
        return {**json.loads(line), "failed": len(self.traffic.failed)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table; writes bucket_epochs.json and bucket_epochs.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=40_000)
    parser.add_argument("--shards", type=int, default=16)
    parser.add_argument("--work", type=float, nargs="+", default=[0.005, 0.0], help="seconds that a batch takes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results", help="folder of the results")
    flags = parser.parse_args(arguments)
    result = measured(flags.examples, flags.shards, flags.work, flags.rounds)
    flags.output.mkdir(parents=True, exist_ok=True)
    (flags.output / "bucket_epochs.json").write_text(json.dumps(result, indent=1) + "\n")
    (flags.output / "bucket_epochs.md").write_text(table(result))
    print(table(result))


def measured(examples: int, shards: int, works: Sequence[float], rounds: int) -> dict[str, Any]:
    """The mean seconds of an epoch in each round, for each client, consumer and way, and the requests that failed. Ends the
    program if batches differ."""
    load = os.getloadavg()[0]
    results: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        address = stack.enter_context(running_server())
        bucket = stack.enter_context(fresh_bucket(address))
        write_dataset(folder / "data", {"train": examples}, 64, shards)
        bucket.upload_folder(folder / "data", "data")
        for client in [stack.enter_context(one) for one in (_tensorflow(address, folder), _others(address))]:
            for work in works:
                ways: dict[str, dict[str, list[float]]] = {
                    way: {"seconds": [], "failed": []} for way in (CLEAN, LATENCY, FAULTS)
                }
                seen = set()
                for number in range(rounds):
                    for way, found in ways.items():
                        answer = client.ask(
                            way, number, folder=f"{bucket.uri}/data", batch=_BATCH, epochs=_EPOCHS, work=work
                        )
                        found["seconds"].append(round(statistics.mean(answer["seconds"]), 4))
                        found["failed"].append(answer["failed"])
                        seen.add(answer["crc32c"])
                if len(seen) > 1:
                    sys.exit(f"error: {client.backend}: the batches differ")
                results.append({"backend": client.backend, "work": work, "ways": ways})
    data = {"examples": examples, "shards": shards, "batch": _BATCH, "epochs": _EPOCHS}
    return {"machine": machine(load), "data": data, "rounds": rounds, "results": results}


@contextlib.contextmanager
def _tensorflow(address: str, folder: Path) -> Iterator[_Client]:
    with running_tls_front(address, folder) as front:
        settings = {name: str(value) for name, value in SETTINGS.items()}
        with _client(TENSORFLOW, {**front.environment, **settings}, front.traffic) as client:
            yield client


@contextlib.contextmanager
def _others(address: str) -> Iterator[_Client]:
    traffic = Traffic()
    with (
        running_front(address, traffic) as proxy,
        _client(OTHERS, {"STORAGE_EMULATOR_HOST": proxy}, traffic) as client,
    ):
        yield client


@contextlib.contextmanager
def _client(backend: str, environment: Mapping[str, str], traffic: Traffic) -> Iterator[_Client]:
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.readers.bucket_worker"],
        cwd=ROOT,
        env={**os.environ, **environment, "KERAS_BACKEND": backend},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        yield _Client(backend, process, traffic)


def table(result: Mapping[str, Any]) -> str:
    """Markdown: for each way the medians of the seconds of an epoch and of its ratio to CLEAN in the same round."""
    machine, data = result["machine"], result["data"]
    lines = [
        f"{data['examples']:,} gray images of 64x64 pixels in {data['shards']} shards, batches of {data['batch']}; "
        f"{machine['cores']} cores ({machine['cpu']}, {machine['system']}); means of {data['epochs']} epochs, medians of "
        f"{result['rounds']} rounds; load of the machine before: {machine['load_before']}.",
        "",
        "| client | a batch takes | bucket | seconds | requests that failed | ratio | at most |",
        "| --- | ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    for found in result["results"]:
        client = "TensorFlow" if found["backend"] == TENSORFLOW else "google-cloud-storage"
        for way, figures in found["ways"].items():
            seconds, failed = (statistics.median(figures[name]) for name in ("seconds", "failed"))
            pairs = zip(figures["seconds"], found["ways"][CLEAN]["seconds"], strict=True)
            ratio = "" if way == CLEAN else f"{statistics.median(mine / clean for mine, clean in pairs):.2f}"
            most = MOST if found["work"] and ratio else ""
            lines.append(
                f"| {client} | {found['work'] * 1000:g} ms | {way} | {seconds:.2f} | {failed:.0f} | {ratio} | {most} |"
            )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
