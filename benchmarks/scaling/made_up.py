"""Names, and shards without pixels: what replaces a bucket and its images in a simulation.

Everything depends only on a number, so nothing is kept. The archive is like a hospital's: patients with two or three
images each, paths of 70 characters, files of all sizes with checksums, as a bucket lists them.
"""

import collections
import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator

import apache_beam as beam
import numpy as np

from beam_jobs.elements import Plan, Quarantined, Reference, ShardResult
from beam_jobs.passing.blocks import Block
from beam_jobs.settings.config import ConvertConfig
from beam_jobs.storage import storage
from beam_jobs.write.image_counts import empty_table, packed
from beam_jobs.write.shards import shard_in_work
from schemas.dataset import Shard
from schemas.example import Example, encode_example, frame_record
from schemas.labels import encode_label, positives
from schemas.shard_name import ShardName
from schemas.source import File

PATTERN = r"/(patient\d+)/"  # the patient in a path
_PARTS = 1_000  # folders that are listed in parallel, as by the conversion
_DUPLICATES = 999  # one in so many files repeats the one before it, of the same patient
QUARANTINED = 200  # one in so many images is rejected; the default allows one in 100
_PREVIEWED = 1_000  # records of a split's first shard that are real, because the contact sheet shows some


def place_of(images: int) -> str:
    """The input that stands for an archive of this many images."""
    return f"gs://made-up/{images}"


def list_prefixes(root: str) -> list[tuple[str, bool]]:
    """Like prefixes.list_prefixes: the parts of the archive."""
    return [(f"{root}/site{part:03}", True) for part in range(_PARTS)]


def list_part(part: tuple[str, bool], root: str) -> Iterator[File]:
    """Like prefixes._begun: the files of one part."""
    number, images = int(part[0][-3:]), int(root.rsplit("/", 1)[1])
    return (file_of(each, root) for each in range(number * images // _PARTS, (number + 1) * images // _PARTS))


def file_of(number: int, root: str) -> File:
    """File `number` of the archive. Some are byte-identical to the file before them."""
    label = "PNEUMONIA" if number // 3 % 3 else "NORMAL"  # by patient, so that duplicates have one label
    path = f"site{number // 3 % 997:03}/patient{number // 3:09}/study{number % 2}/{label}/{number:012}.dcm"
    content = number - 1 if number % _DUPLICATES == 2 else number
    digest = hashlib.md5(str(content).encode(), usedforsecurity=False).hexdigest()
    return File(f"{root}/{path}", path, 50_000 + int(digest[:5], 16), f"md5:{digest}", 1_700_000_000_000_000 + number)


class Shards(beam.DoFn):
    """Like shards.WriteShards, but of images that nobody reads: a shard is an empty file of the right size."""

    def __init__(self, config: ConvertConfig, prefix: str, work: str, _: str) -> None:
        self._config, self._prefix, self._work = config, prefix, work

    def process(self, keyed: tuple[tuple[str, int], Iterable[Block[Reference]]], plan: Plan) -> Iterator[ShardResult]:
        (split, index), references = keyed
        ordered = sorted(itertools.chain.from_iterable(references), key=lambda reference: reference.id)
        name = ShardName(self._prefix, split, index, plan.shards[split])
        yield shard_without_pixels(name, ordered, plan, self._config, self._work)


def shard_without_pixels(
    name: ShardName, references: list[Reference], plan: Plan, config: ConvertConfig, work: str
) -> ShardResult:
    """The result of a shard, and its file: real records, few except in the first shard, and a hole."""
    bad = [reference for reference in references if int(reference.id[:8], 16) % QUARANTINED == 0]
    rejected = {reference.id for reference in bad}
    good = [reference for reference in references if reference.id not in rejected]
    labels, record = collections.Counter[int](), b""
    pixels = np.zeros(config.image.shape, np.uint8)
    with storage.new_file(work) as file:
        for at, reference in enumerate(good):
            label = encode_label(reference.source.label, plan.classes, plan.label_kind)
            labels.update(positives(label))
            if at < (1 if name.index else _PREVIEWED):
                record = frame_record(encode_example(Example(pixels, label, reference.id, reference.group)))
                file.write(record)
        file.truncate(len(good) * len(record))
        file.seek(0, os.SEEK_END)
        counts = tuple(labels[at] for at in range(len(plan.classes)))
        digest = hashlib.sha256(str(name).encode()).hexdigest()
        shard = Shard(str(name), file.tell(), digest, len(good), counts, digest[:8])
        storage.keep(file, shard_in_work(work, shard))
    table = packed(empty_table(len(plan.classes)))
    entries = tuple(_quarantined(reference) for reference in bad)
    return ShardResult(name.split, name.index, shard, entries, {}, {}, digest[:16], table)


def _quarantined(reference: Reference) -> Quarantined:
    source = reference.source
    detail = "the pixel data has 1048576 bytes, but 2048 rows of 2048 columns need 8388608"
    return Quarantined(
        source.uri, source.checksum, source.size, "decode", "size_mismatch", detail, "dicom", reference.id
    )
