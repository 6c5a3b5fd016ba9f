"""How long the images of a run take: --dry_run works on a few of them on this machine, and keeps nothing."""

import heapq
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import NamedTuple

import apache_beam as beam
from apache_beam.pvalue import PCollection
from apache_beam.transforms.combiners import Top

from beam_jobs.elements import Reference
from beam_jobs.passing.blocks import Block
from beam_jobs.passing.counters import Measured
from beam_jobs.storage import storage
from beam_jobs.write.images import batches_of
from schemas.source import Source

# What is done with some images. It adds what that took to the Measured.
OfBatch = Callable[[list[Reference], Measured], object]

_CHOSEN = "chosen.json"
_IMAGES, _WARM_UP = 32, 2
_MOST_BYTES = 64 << 20  # of all files together; larger images are fewer


class Rate(NamedTuple):
    """Images per CPU second, 0 if none could be decoded, and the number of images that it was measured on."""

    images_per_cpu_second: float
    images: int


@dataclass
class ChooseImages(beam.PTransform[PCollection[Block[Reference]], PCollection[None]]):
    """Blocks of References -> a file in `status_folder` that names a few of them. An id is a hash, so those with the
    lowest ids are a random sample."""

    status_folder: str

    def expand(self, references: PCollection[Block[Reference]]) -> PCollection[None]:
        written: PCollection[None] = (
            references
            | "LowestOfBlock" >> beam.FlatMap(lowest_ids)
            | "Lowest" >> Top.Smallest(_IMAGES, key=attrgetter("id"))
            | "WriteChosen" >> beam.Map(_write_chosen, self.status_folder)
        )
        return written


def lowest_ids(references: Block[Reference]) -> list[Reference]:
    """The references of a block that can be among the chosen ones."""
    return heapq.nsmallest(_IMAGES, references, key=attrgetter("id"))


def _write_chosen(chosen: list[Reference], status_folder: str) -> None:
    storage.write_bytes(storage.join(status_folder, _CHOSEN), json.dumps(chosen).encode())


def rate(status_folder: str, of_batch: OfBatch) -> Rate:
    """Gives the images that ChooseImages chose to `of_batch`, one batch after the other, and measures the processor time of
    this process and of the decoder. The first two only load the libraries, if there are more."""
    chosen = json.loads(storage.read_bytes(storage.join(status_folder, _CHOSEN)))
    references: list[Reference] = []
    total = 0
    for source, *rest in chosen:
        reference = Reference(Source(*source), *rest)
        total += max(0, reference.source.size)
        if references and total > _MOST_BYTES:
            break
        references.append(reference)
    warm = _WARM_UP if len(references) > _WARM_UP else 0
    _cpu_seconds(references[: warm or 1], of_batch)
    seconds, decoded = _cpu_seconds(references[warm:], of_batch)
    images = len(references[warm:])
    return Rate(images / seconds, images) if decoded else Rate(0, len(references))


def _cpu_seconds(references: list[Reference], of_batch: OfBatch) -> tuple[float, int]:
    """The CPU seconds of the work on these references, and how many were decoded."""
    measured, start = Measured(), time.process_time()
    for batch in batches_of(references):
        of_batch(batch, measured)
    spent = time.process_time() - start + sum(measured.decode_microseconds) / 1e6
    return spent, len(measured.decode_microseconds)
