"""Data sets for the benchmarks of training, written by the functions that define the format, without Beam."""

import hashlib
import itertools
from collections.abc import Mapping
from pathlib import Path

import google_crc32c
import numpy as np

from schemas.dataset import MANIFEST, Manifest, Shard
from schemas.example import Example, encode_example, frame_record, layout_of
from schemas.pixels.settings import ImageSettings
from schemas.shard_name import ShardName

CLASSES = ("NORMAL", "PNEUMONIA")
_NAME = "made"


def write_dataset(folder: Path, examples: Mapping[str, int], side: int, shards: int) -> Manifest:
    """Writes splits of that many gray images of side x side pixels, each in `shards` files. The images are noise, and those
    of every second example, which are of the second class, are brighter."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    settings = ImageSettings(image_size=side)
    splits, done = {}, 0
    for split, count in examples.items():
        bounds = [count * number // shards for number in range(shards + 1)]
        entries = []
        for number, (start, end) in enumerate(itertools.pairwise(bounds)):
            name = str(ShardName(_NAME, split, number, shards))
            entries.append(_write_shard(folder / name, done + start, done + end, settings.shape, random))
        splits[split] = tuple(entries)
        done += count
    inputs = {"listed": done, "written": done, "quarantined": 0, "duplicates": 0, "skipped": 0}
    length = layout_of(settings.shape, None).record_bytes
    manifest = Manifest(_NAME, "1.0.0", 1, CLASSES, settings, inputs, {}, {}, {}, splits, {}, record_bytes=length)
    (folder / MANIFEST).write_text(manifest.to_json())
    return manifest


def _write_shard(path: Path, start: int, end: int, shape: tuple[int, int, int], random: np.random.Generator) -> Shard:
    images = random.integers(0, 200, (end - start, *shape), dtype=np.uint8)
    labels = np.arange(start, end) % 2
    images[labels == 1] += 50
    records = (
        Example(image, int(label), f"{start + row:032x}", f"{start + row:032x}")
        for row, (image, label) in enumerate(zip(images, labels, strict=True))
    )
    data = b"".join(frame_record(encode_example(record)) for record in records)
    path.write_bytes(data)
    counts = (int((labels == 0).sum()), int((labels == 1).sum()))
    crc = f"{google_crc32c.value(data):08x}"
    return Shard(path.name, len(data), hashlib.sha256(data).hexdigest(), end - start, counts, crc)
