"""The conversion's own graph over made-up names: the steps up to the plan, the sorting into shards, and publishing.

Each of the two has a process of its own, so that the memory of one does not hide that of the other. `python -c` of
benchmarks/scale.py calls `plan` and `publish`, which print JSON.
"""

import contextlib
import json
import os
import pickle
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

from apache_beam.options.pipeline_options import PipelineOptions

from beam_jobs import pipeline
from beam_jobs.discover import listing, prefixes
from beam_jobs.elements import Plan, ShardResult
from beam_jobs.publish import publish as publish_step
from beam_jobs.publish import releases
from beam_jobs.settings.config import ConvertConfig
from beam_jobs.write import shards
from benchmarks.scaling import made_up

_GATHERED = "gathered.pickle"
_SAMPLED_SECONDS = 0.05


def config_of(images: int, folder: Path) -> ConvertConfig:
    """The conversion of the made-up archive."""
    output = str(folder / "out/1.0.0")
    return ConvertConfig(made_up.place_of(images), output, group_pattern=made_up.PATTERN, launch="simulated")


def plan(images: int, folder: Path) -> dict[str, Any]:
    """Runs all steps up to the plan, sorts the references into shards without pixels, and gathers their results in
    `folder`. Gives {images, shards, plan_seconds, sort_seconds, cpu_seconds, start_bytes, peak_bytes, shuffled_bytes}."""
    config = config_of(images, folder)
    release = releases.next_release(config)
    assert release
    releases.enter(config, release)
    with contextlib.ExitStack() as stack:
        for module, name, stand_in in (
            (listing, "list_prefixes", made_up.list_prefixes),
            (prefixes, "_begun", made_up.list_part),
            (shards, "WriteShards", made_up.Shards),
            (publish_step, "publish", _gather),
        ):
            stack.enter_context(patch.object(module, name, stand_in))
        waiting = stack.enter_context(tempfile.TemporaryDirectory())
        memory = stack.enter_context(_watched())
        start, cpu, began = time.time(), time.process_time(), memory["bytes"]
        pipeline.run(config, release, waiting, PipelineOptions([]))
        end, cpu = time.time(), time.process_time() - cpu
        planned = os.stat(f"{waiting}/plan.json").st_mtime
        shuffled = sum(file.stat().st_size for file in Path(waiting).glob("blocks-*"))
    made: Plan = pickle.loads((folder / _GATHERED).read_bytes())[2]  # noqa: S301 - written by this process
    return {
        "images": images,
        "shards": sum(made.shards.values()),
        "plan_seconds": round(planned - start, 2),
        "sort_seconds": round(end - planned, 2),
        "cpu_seconds": round(cpu, 2),
        "start_bytes": began,
        "peak_bytes": memory["peak"],
        "shuffled_bytes": shuffled,
    }


def _gather(
    _: Any,
    results: Iterable[ShardResult],
    near: Any,
    made: Plan,
    config: ConvertConfig,
    release: releases.Release,
    *_status_folder: str,
) -> None:
    """What publish.publish gets, for the other process."""
    folder = Path(config.output).parent.parent
    (folder / _GATHERED).write_bytes(pickle.dumps((list(results), near, made, release)))


def publish(images: int, folder: Path) -> dict[str, Any]:
    """Publishes what `plan` gathered in `folder`. Gives {images, shards, quarantined, seconds, start_bytes, peak_bytes,
    gathered_bytes}; the first of the two sizes is that of the process before it has the results."""
    config = config_of(images, folder)
    with _watched() as memory:
        began = memory["bytes"]
        gathered = (folder / _GATHERED).read_bytes()
        size = len(gathered)
        results, near, made, release = pickle.loads(gathered)  # noqa: S301 - written by `plan`
        del gathered
        start = time.perf_counter()
        publish_step.publish(None, results, near, made, config, release, str(folder))
        seconds = time.perf_counter() - start
    releases.tidy(config, release)
    manifest = json.loads((Path(config.output) / "manifest.json").read_text())
    assert manifest["inputs"]["listed"] == images, manifest["inputs"]
    return {
        "images": images,
        "shards": len(results),
        "quarantined": manifest["inputs"]["quarantined"],
        "seconds": round(seconds, 2),
        "start_bytes": began,
        "peak_bytes": memory["peak"],
        "gathered_bytes": size,
    }


@contextlib.contextmanager
def _watched() -> Iterator[dict[str, int]]:
    """The resident memory of this process when the body of the `with` begins (`bytes`), and its peak (`peak`)."""
    found = {"bytes": _resident(), "peak": 0}
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_SAMPLED_SECONDS):
            found["peak"] = max(found["peak"], _resident())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        done.set()
        thread.join()
        found["peak"] = max(found["peak"], _resident())


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main(step: str, images: str, folder: str) -> None:
    """Prints what `plan` or `publish` gives, as JSON."""
    steps: dict[str, Callable[[int, Path], dict[str, Any]]] = {"plan": plan, "publish": publish}
    print(json.dumps(steps[step](int(images), Path(folder))))


if __name__ == "__main__":
    # Beam pickles functions by the name of their module, which must not be __main__.
    from benchmarks.scaling import simulation

    simulation.main(*sys.argv[1:])
