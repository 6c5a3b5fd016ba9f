"""The launcher or a worker is killed (kill -9) at a random moment; then the same command is run again."""

import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from beam_jobs import verify
from tests.conftest import Result
from tests.faults.launch import PROCESSES, Launch, Place, finish, processes, start

pytestmark = pytest.mark.faults

MOMENTS = 10


@pytest.mark.parametrize("seed", range(MOMENTS))
def test_the_same_command_completes_a_killed_run(
    seed: int, place: Place, raw: Path, undisturbed: dict[str, bytes], command: Callable[..., Result], tmp_path: Path
) -> None:
    draw = random.Random(seed)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    where = {"TMPDIR": str(temporary)}
    # To save time, half of the runs in a bucket use no worker processes.
    flags = () if place.bucket and seed % 2 == 0 else PROCESSES
    launch = start(raw, place.uri, *flags, environment=where)
    wait_for(draw, launch, place)
    running = processes(launch)
    victims = running[:1] if seed % 2 == 0 else running[1:]
    if victims:  # otherwise the run had already ended
        os.kill(draw.choice(victims), signal.SIGKILL)
    killed = finish(launch)
    kept = finished_shards(place)
    again = finish(start(raw, place.uri, *flags, environment=where))
    # The first run may have finished, or nearly.
    through = "already holds a published data set" in again.err and "manifest.json" in place.names()
    assert again.code == 0 or through, (killed, again)
    assert place.files() == undisturbed
    assert not list(temporary.iterdir())
    if place.bucket is None:
        assert not list(Path(place.uri).glob("_work"))
        assert finished_times(Path(place.uri), kept) == kept
    assert command(verify.main, place.uri).code == 0


def wait_for(draw: random.Random, launch: Launch, place: Place) -> None:
    """Waits until a random number of files has been seen, of about 40 that come and go, and then a moment longer."""
    goal, seen = draw.choice([0, 1, *range(2, 40, 4)]), set[str]()
    while len(seen) < goal and launch.process.poll() is None:
        seen.update(place.names())
        time.sleep(0.005)
    time.sleep(draw.random() * (0.05 if goal > 1 else 3))


def finished_shards(place: Place) -> dict[str, int]:
    """The shards that are marked as finished, and when each was written. Empty for a bucket, which publishes copies."""
    if place.bucket is not None:
        return {}
    marks = [json.loads(path.read_text()) for path in Path(place.uri).glob("_work/r1/*.tfrecord-*.json")]
    return finished_times(Path(place.uri), {mark["shard"]["file"]: 0 for mark in marks})


def finished_times(folder: Path, names: dict[str, int]) -> dict[str, int]:
    paths = {name: [*folder.glob(f"_work/r1/{name}.*[!n]"), *folder.glob(name)] for name in names}
    return {name: found[0].stat().st_mtime_ns for name, found in paths.items()}
