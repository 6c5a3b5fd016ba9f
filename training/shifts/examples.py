"""The examples of a data set, read one by one, and data sets that hold some of them."""

import hashlib
import io
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import google_crc32c
import numpy as np
import numpy.typing as npt

from schemas.dataset import MANIFEST, Manifest, Shard
from schemas.errors import JobFailed
from schemas.example import DamagedRecord, Example, decode_example, encode_example, frame_record, read_records
from training.reading import files

SPLITS = TRAIN, VALIDATION = "train", "validation"  # test is never read


class Entry(NamedTuple):
    """What is known of an example without its image. `label`: the index of its class."""

    id: str
    group: str
    label: int
    split: str


class Labelled(NamedTuple):
    """Images uint8 [examples, height, width, channels] and labels int64 [examples]."""

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]


def entries(folder: str, manifest: Manifest) -> list[Entry]:
    """Every example of the splits train and validation, in stored order, of a data set with one class per image. Raises
    JobFailed for a shard that is damaged or cannot be read."""
    return [
        Entry(example.id, example.group, _index(example), split)
        for split in SPLITS
        for shard in manifest.shards(split)
        for example in _examples(folder, manifest, shard)
    ]


def batches(folder: str, manifest: Manifest) -> Iterator[list[Example]]:
    """The examples of train and validation, shard by shard. Raises as entries does."""
    for split in SPLITS:
        for shard in manifest.shards(split):
            if shard.examples:
                yield list(_examples(folder, manifest, shard))


def select(folder: str, manifest: Manifest, ids: Collection[str]) -> Labelled:
    """The examples of train and validation with these ids, in stored order. Raises as entries does."""
    found = [example for batch in batches(folder, manifest) for example in batch if example.id in ids]
    images = np.stack([example.image for example in found]) if found else np.zeros((0, *manifest.shape), np.uint8)
    return Labelled(images, np.array([_index(example) for example in found], np.int64))


def write_without(folder: str, manifest: Manifest, left_out: Collection[str], output: str) -> Manifest:
    """Writes a data set of the splits train and validation without the examples with these ids into `output`, a new local
    folder, and returns its manifest. The shards keep their names and the order of their records. Raises as entries does."""
    Path(output).mkdir(parents=True)
    splits = {
        split: tuple(
            _write(folder, manifest, shard, lambda example: example.id not in left_out, Path(output, shard.file))
            for shard in manifest.shards(split)
        )
        for split in SPLITS
    }
    written = sum(shard.examples for shards in splits.values() for shard in shards)
    inputs = {"listed": written, "written": written, "quarantined": 0, "duplicates": 0, "skipped": 0}
    subset = replace(manifest, splits=splits, inputs=inputs, skipped={}, quarantined={}, notes={})
    Path(output, MANIFEST).write_text(subset.to_json(), encoding="utf-8")
    return subset


def _write(folder: str, manifest: Manifest, shard: Shard, keep: Callable[[Example], bool], path: Path) -> Shard:
    kept = [example for example in _examples(folder, manifest, shard) if keep(example)]
    data = b"".join(frame_record(encode_example(example)) for example in kept)
    path.write_bytes(data)
    return Shard(
        shard.file,
        len(data),
        hashlib.sha256(data).hexdigest(),
        len(kept),
        tuple(sum(example.label == index for example in kept) for index in range(len(manifest.classes))),
        f"{google_crc32c.value(data):08x}",
    )


def _index(example: Example) -> int:
    """The class of an example that has one."""
    assert isinstance(example.label, int)
    return example.label


def _examples(folder: str, manifest: Manifest, shard: Shard) -> Iterator[Example]:
    try:
        content = files.read(f"{folder.rstrip('/')}/{shard.file}")
        for record in read_records(io.BytesIO(content)):
            yield decode_example(record, manifest.shape)
    except (OSError, DamagedRecord) as error:
        why = files.message(error) if isinstance(error, OSError) else str(error)
        raise JobFailed(f"{folder}: {shard.file}: {why}; copy or convert the data set again") from error
