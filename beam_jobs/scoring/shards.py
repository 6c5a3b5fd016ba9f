"""Scores whole shards: read -> pixels -> probabilities -> one finished file, kept and marked as one of a conversion."""

import collections
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from beam_jobs.elements import Plan, Quarantined, Reference, ShardResult, Skipped
from beam_jobs.passing import status
from beam_jobs.passing.blocks import Block
from beam_jobs.passing.counters import Measured
from beam_jobs.remote.start import check
from beam_jobs.scoring.config import ScoringConfig
from beam_jobs.scoring.plan import ALL
from beam_jobs.scoring.rows import Hashed, Row, predicted_in, rows_of, writing_rows
from beam_jobs.storage import storage
from beam_jobs.write.images import all_outcomes, decoded_batch, notes_of
from beam_jobs.write.shards import finished_shard, inputs_hash, shard_in_work
from schemas.dataset import Shard
from schemas.pixels.rejection import Decoded
from schemas.prediction import Probabilities
from schemas.shard_name import ScoresName

# Images, uint8 [height, width, channels] each -> float64 [images, outputs].
Predict = Callable[[Sequence[NDArray[np.uint8]]], Probabilities]


class ShardToScore(NamedTuple):
    """One shard: its number, its images and the plan."""

    number: int
    references: list[Block[Reference]]
    plan: Plan

    @property
    def bytes(self) -> int:
        """The size of the image files."""
        return sum(max(0, reference.source.size) for block in self.references for reference in block)


class Scored(NamedTuple):
    """One image that has a row, and what is noted about it."""

    row: Row
    notes: tuple[str, ...]


ScoredOutcome = Scored | Quarantined | Skipped


def shard_to_score(keyed: tuple[tuple[str, int], Iterable[Block[Reference]]], plan: Plan) -> ShardToScore:
    """The shard of one ((split, index), references)."""
    (_, number), references = keyed
    return ShardToScore(number, list(references), plan)  # a list, because the runner may take back what it passes


def score_shard(
    shard: ShardToScore, predict: Predict, config: ScoringConfig, prefix: str, work: str, status_folder: str
) -> tuple[ShardResult, Measured | None]:
    """Writes a shard into the folder `work` and returns the outcomes of its inputs, and what that took. Progress is
    reported in `status_folder`. A shard that an earlier run finished from the same inputs is kept, with None for what it
    took. Raises JobFailed on a worker that differs from the launcher."""
    with status.failures(status_folder):
        check(config.launcher, status_folder)
        ordered = sorted(itertools.chain.from_iterable(shard.references), key=lambda reference: reference.id)
        name = ScoresName(prefix, shard.number, shard.plan.shards[ALL], config.format)
        mark = storage.join(work, f"{name}.{inputs_hash(ordered, shard.plan, config)}.json")
        finished = finished_shard(mark, work, config)
        if finished is not None:
            status.count_done(status_folder, len(ordered))
            return finished, None
        measured = Measured()
        outcomes = all_outcomes(
            ordered, lambda batch: score_batch(batch, predict, config, measured), config, status_folder
        )
        result = _write(name, outcomes, config, work)
        with storage.writing(work):
            storage.write_bytes(mark, result.to_json().encode())
        return result, measured


def score_batch(
    batch: list[Reference], predict: Predict, config: ScoringConfig, measured: Measured
) -> list[ScoredOutcome]:
    """The row of each of some inputs, or why there is none. Adds what that took to `measured`."""
    images = decoded_batch(batch, config, measured)
    scored = [(reference, image) for reference, image in zip(batch, images, strict=True) if isinstance(image, Decoded)]
    probabilities = predict([image.pixels for _, image in scored])
    ids, uris = [reference.id for reference, _ in scored], [reference.source.uri for reference, _ in scored]
    rows = iter(rows_of(probabilities, ids, uris, config))
    return [
        Scored(next(rows), notes_of(reference, image)) if isinstance(image, Decoded) else image
        for reference, image in zip(batch, images, strict=True)
    ]


def _write(name: ScoresName, outcomes: Iterator[ScoredOutcome], config: ScoringConfig, work: str) -> ShardResult:
    predicted = [0] * len(config.exported.classes)
    notes: collections.Counter[str] = collections.Counter()
    skipped: collections.Counter[str] = collections.Counter()
    quarantined = []
    rows = 0
    with storage.writing(storage.join(work, str(name))), storage.new_file(work) as file:
        hashed = Hashed(file)
        with writing_rows(hashed, config) as append:
            for outcome in outcomes:
                if isinstance(outcome, Quarantined):
                    quarantined.append(outcome)
                elif isinstance(outcome, Skipped):
                    skipped[outcome.reason] += 1
                else:
                    append(outcome.row)
                    rows += 1
                    notes.update(outcome.notes)
                    for index in predicted_in(outcome.row, config.exported.classes):
                        predicted[index] += 1
        shard = Shard(str(name), hashed.bytes, hashed.sha256, rows, tuple(predicted), hashed.crc32c)
        storage.keep(file, shard_in_work(work, shard))
    counts = dict(skipped), dict(notes)
    return ShardResult(ALL, name.index, shard, tuple(quarantined), *counts, inputs="", counts=b"")
