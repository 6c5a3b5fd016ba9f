"""How fast are shuffled batches read? `python -m benchmarks.reading [--examples N] [--rounds N] [--small]`

The limit is to read the raw records with TensorFlow and to do nothing with them. The peers are the usual tutorial and the
data loaders of other libraries (benchmarks/readers). All read the same images in turn: from the disk, and from a bucket if
they can. First, the contents of two epochs are compared. Then each way is timed in each round. The figures to quote are
medians: of a speed, and of the ratio of two speeds in the same round.

`make bench-reading` makes the environment of the peers that need one, and runs this.
"""

import argparse
import contextlib
import json
import os
import platform
import random
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.readers.data import make_data
from benchmarks.readers.figures import BUCKET, DISK, draw, table
from benchmarks.readers.process import ROOT, Reader, reader
from benchmarks.readers.way import Data
from tests.gcs.bucket import fresh_bucket, running_server
from tests.gcs.tls_front import running_front
from training.reading.buckets.tensorflow_settings import SETTINGS

# Ours has a process of its own, because it sets TensorFlow's client for gs:// as it needs it.
_OURS, _TENSORFLOW = "ours", "tensorflow_peers"
_PLACES = [DISK, BUCKET]
_EXAMPLES = 112_120  # as NIH ChestX-ray14 has
_OTHERS = ("torch_peers", "grain_peers")


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints images/s in the first and the second epoch; writes reading.json, reading.md and reading.png."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=_EXAMPLES)
    parser.add_argument("--shards", type=int, default=16)
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 1024])
    parser.add_argument("--places", nargs="+", default=_PLACES, choices=_PLACES, help="to read from")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--small", action="store_true", help="1,000 examples, batches of 64, one round, no --peers")
    parser.add_argument(
        "--peers", type=Path, default=ROOT / ".venv-bench", metavar="VENV", help="made by bench-reading"
    )
    parser.add_argument("--output", type=Path, help="folder (default: benchmarks/results; with --small, none)")
    flags = parser.parse_args(arguments)
    if flags.small:
        flags.examples, flags.shards, flags.batch, flags.rounds = 1000, 2, [64], 1
    elif not flags.peers.exists():
        print(
            "PyTorch, tfrecord, webdataset and grain are left out, because they are not installed: make bench-reading"
        )
    peers = flags.peers if flags.peers.exists() and not flags.small else None
    result = _measured(flags.examples, flags.shards, flags.places, flags.batch, flags.rounds, peers)
    print(table(result))
    output = flags.output or (None if flags.small else ROOT / "benchmarks/results")
    if output:
        output.mkdir(parents=True, exist_ok=True)
        (output / "reading.json").write_text(json.dumps(result, indent=1) + "\n")
        (output / "reading.md").write_text(table(result))
        draw(result, output / "reading.png")


def _measured(
    examples: int, shards: int, places: Sequence[str], batches: Sequence[int], rounds: int, peers: Path | None
) -> dict[str, Any]:
    """What reading.json holds: the machine, the versions, the data, and images/s of each way, place and size of a batch."""
    load = os.getloadavg()[0]
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        address = stack.enter_context(running_server())
        environment = {**os.environ, **stack.enter_context(running_front(address, folder)).environment}
        readers = _start(stack, peers, {**environment, "TF_CPP_MIN_LOG_LEVEL": "3"})
        data = make_data(folder, examples, shards, stack.enter_context(fresh_bucket(address)))
        for one in readers:
            one.prepare(data)
        results: list[dict[str, Any]] = [
            {"way": way, "place": place, "batch": batch, "epoch_1": [], "epoch_2": []}
            for place in places
            for batch in batches
            for one in readers
            for way, (on_disk, in_bucket) in one.ways.items()
            if (on_disk if place == DISK else in_bucket)
        ]
        _check(readers, results, data)
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr)
            # In another order each time: a way is slower when its process, or the machine, has been idle.
            for result in random.Random(number).sample(results, len(results)):
                answer = _ask(readers, result, data, checked=False)
                for epoch, seconds in zip(("epoch_1", "epoch_2"), answer["seconds"], strict=True):
                    result[epoch].append(round(examples / seconds, 1))
    versions = {package: version for one in readers for package, version in one.versions.items()}
    return {
        "machine": machine(load),
        "versions": {"python": platform.python_version(), **versions},
        "data": {"examples": examples, "shape": data.shape, "shards": data.shards},
        "results": results,
    }


def _start(stack: contextlib.ExitStack, peers: Path | None, environment: Mapping[str, str]) -> list[Reader]:
    """The processes that read. They load their libraries while the data is made."""
    # The commands set up TensorFlow's gs:// client; the peers have it as it comes.
    ours = {**environment, **{name: str(value) for name, value in SETTINGS.items()}}
    here = [reader(Path(sys.executable), name, ours if name == _OURS else environment) for name in (_OURS, _TENSORFLOW)]
    others = [reader(peers / "bin/python", name, environment) for name in _OTHERS] if peers else []
    return [stack.enter_context(one) for one in (*here, *others)]


def _ask(readers: Sequence[Reader], result: Mapping[str, Any], data: Data, checked: bool) -> dict[str, Any]:
    """Two epochs of the way, place and batch that `result` names. Ends the program unless both have all examples."""
    (one,) = (one for one in readers if result["way"] in one.ways)
    folder = data.bucket if result["place"] == BUCKET else data.records
    answer = one.ask(data, way=result["way"], folder=folder, batch=result["batch"], checked=checked)
    if answer["examples"] != [data.examples] * 2:
        sys.exit(f"error: {result['way']} gave {answer['examples']} examples, not {data.examples}, in each epoch")
    return answer


def _check(readers: Sequence[Reader], results: Sequence[dict[str, Any]], data: Data) -> None:
    """Adds to each result the checksum of its contents, and whether the second epoch has another order than the first. Ends
    the program if contents differ."""
    for result in results:
        contents = _ask(readers, result, data, checked=True)["contents"]
        result["shuffled"] = contents[0]["order"] != contents[1]["order"]
        result["contents"] = contents[0]["any_order"]
        if {epoch["any_order"] for epoch in contents} != {results[0]["contents"]}:
            sys.exit(f"error: {result['way']}, {result['place']}: other pixels or labels than {results[0]['way']}")


def machine(load: float) -> dict[str, Any]:
    """What results say of this machine; `load`: its load average before the benchmark."""
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "load_before": round(load, 2),
    }


def cpu_name() -> str:
    """The name of the processor, where the system says it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":")[1].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
