"""The training steps that benchmarks.gpu times: as training.fitting.epochs runs them, and on one batch again and again."""

import itertools
import statistics
import sys
from collections.abc import Iterator
from typing import Any

import google_crc32c
import jax
import keras
import numpy as np

from benchmarks.trainers.clock import Clock
from training.config import DEVICE, MEMORY, NONE
from training.devices.feeds import ArrayFeed, Feed, Feeding, make_feed
from training.devices.hardware import Hardware, find_hardware, jit, steps_per_call
from training.devices.resident import Resident
from training.devices.steps import ExactSteps
from training.devices.waiting import Waiting
from training.models.networks import build_model
from training.models.objective import compile_model
from training.models.recipes import RECIPES
from training.reading.array_batches import keep
from training.reading.records import Split, open_dataset, open_split
from training.task import task_of

LIMIT = "one resident batch"
WAYS = (NONE, MEMORY, DEVICE, LIMIT)
_SEED = 0


def device() -> Hardware:
    """What trains, and what benchmarks.gpu names its files by."""
    return find_hardware()


def versions() -> dict[str, str]:
    return {"jax": jax.__version__, "keras": keras.__version__, "numpy": np.__version__}


def keep_compiled(folder: str) -> None:
    """Keeps compiled steps in `folder`: all ways take the same, and compile them in the epoch that is not counted."""
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


def contents(folder: str, batch: int) -> dict[str, str]:
    """For each cache, a checksum of the images and labels of one epoch in their order."""
    split = open_split(folder, open_dataset(folder), "train")
    found = {}
    for way in (NONE, MEMORY, DEVICE):
        feed = _feed(way, split, batch, Resident(split) if way == DEVICE else None)
        feed.begin()
        checksum = 0
        for number in range(feed.steps):
            for part in feed.data[number]:
                checksum = google_crc32c.extend(checksum, np.asarray(part).tobytes())
        found[way] = f"{checksum:08x}"
    return found


def speeds(folder: str, name: str, batch: int, epochs: int) -> list[dict[str, Any]]:
    """For each way: images/s in each of `epochs` epochs, and the steps of one. A first epoch, which compiles and fills the
    caches, is not counted."""
    split = open_split(folder, open_dataset(folder), "train")
    results = []
    for way in WAYS:
        clock = _trained(way, folder, split, name, batch, epochs + 1)
        if set(clock.steps) != {-(-split.examples // batch)}:
            sys.exit(f"error: {name}, batches of {batch}, {way}: the epochs have {clock.steps} steps")
        speed = [round(split.examples / seconds, 1) for seconds in clock.seconds[1:]]
        results.append(
            {"model": name, "batch": batch, "way": way, "steps": clock.steps[-1], "images_per_second": speed}
        )
        print(
            f"{name}, batches of {batch}, {way}: {statistics.median(speed):,.0f} images/s", file=sys.stderr, flush=True
        )
    return results


def _trained(way: str, folder: str, split: Split, name: str, batch: int, epochs: int) -> Clock:
    recipe, manifest, hardware, clock = RECIPES[name], open_dataset(folder), find_hardware(), Clock()
    keras.utils.set_random_seed(_SEED)
    model = build_model(recipe, split.shape, task_of(manifest))
    compile_model(model, recipe, task_of(manifest), manifest, jit_compile=jit("auto"))
    resident = Resident(split) if way == DEVICE else None
    feed = _feed(way, split, batch, resident)
    model.steps_per_execution = steps_per_call(hardware, feed.steps)
    # In place of the validation data, which fit is not given.
    exact = ExactSteps(feed, _feed(LIMIT, split, batch, None))
    model.fit(
        feed.data, steps_per_epoch=feed.told_steps, epochs=epochs, callbacks=[exact, clock], shuffle=False, verbose=0
    )
    return clock


def _feed(way: str, split: Split, batch: int, resident: Resident | None) -> Feed:
    if way == LIMIT:
        steps = -(-split.examples // batch)
        return Feed(ArrayFeed(_one_batch(split, batch), steps), steps, True, Waiting())
    return make_feed(keep(split) if way == MEMORY else split, Feeding(batch, _SEED), training=True, resident=resident)


def _one_batch(split: Split, batch: int) -> Iterator[tuple[Any, ...]]:
    """The same batch of noise, which is on the device, forever."""
    random = np.random.default_rng(_SEED)
    images = random.integers(0, 256, (batch, *split.shape), dtype=np.uint8)
    labels = (np.arange(batch) % 2).astype(np.float32).reshape(-1, 1)
    yield from itertools.repeat(jax.device_put((images, labels)))
