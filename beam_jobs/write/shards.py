"""Step 3: write whole shards: read -> pixels -> record -> one finished file.

A shard is the unit of retry, of resuming and of progress. Its bytes depend only on its inputs and the settings, so two
workers that write the same shard do no harm.
"""

import collections
import hashlib
import hmac
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import apache_beam as beam
import google_crc32c
import numpy as np
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from beam_jobs.elements import Converted, Outcome, Plan, Quarantined, Reference, ShardResult, Skipped
from beam_jobs.leakage.crowds import HASHED
from beam_jobs.leakage.near_duplicates import hashed
from beam_jobs.passing import counters, status
from beam_jobs.passing.blocks import Block
from beam_jobs.passing.counters import Measured
from beam_jobs.remote.start import check
from beam_jobs.settings.config import ConvertConfig
from beam_jobs.settings.id_key import id_key
from beam_jobs.storage import storage
from beam_jobs.storage.parallel import begun
from beam_jobs.write import reuse
from beam_jobs.write.image_counts import Counts, packed, table_of, unpacked
from beam_jobs.write.images import convert_all
from schemas.dataset import Shard
from schemas.labels import Label, positives
from schemas.shard_name import ShardName

# With more shards in a bucket, other images are read while a shard waits for its slowest one, and for its upload.
_AT_ONCE, _AT_ONCE_IN_BUCKET = 2, 6


class WriteShards(beam.DoFn):
    """((split, index), blocks of References) -> the ShardResult of `write_shard`.

    Writes a few shards at a time, so that the decoders have work while one shard ends and the next one starts.
    """

    def __init__(self, config: ConvertConfig, prefix: str, work: str, status_folder: str) -> None:
        self._settings = config, prefix, work, status_folder
        self._at_once = _AT_ONCE_IN_BUCKET if storage.is_shared(config.input) else _AT_ONCE

    def start_bundle(self) -> None:
        self._threads = ThreadPoolExecutor(self._at_once, "shard")
        self._begun: collections.deque[Future[tuple[ShardResult, Measured | None]]] = collections.deque()

    def process(self, keyed: tuple[tuple[str, int], Iterable[Block[Reference]]], plan: Plan) -> Iterator[ShardResult]:
        key, references = keyed
        # A list, because only this thread may read what a runner passes.
        self._begun.append(self._threads.submit(write_shard, (key, list(references)), plan, *self._settings))
        if len(self._begun) > self._at_once:
            yield self._first_begun()

    def finish_bundle(self) -> Iterator[WindowedValue]:
        while self._begun:
            yield GlobalWindows.windowed_value(self._first_begun())
        self._threads.shutdown()

    def _first_begun(self) -> ShardResult:
        try:
            result, measured = self._begun.popleft().result()
        except BaseException:
            self._threads.shutdown(cancel_futures=True)  # wait for the running shards before the bundle ends
            raise
        reasons = [entry.reason for entry in result.quarantined]
        counters.count_shard(result.shard.examples, reasons, result.skipped, result.shard.bytes, measured)
        return result


def write_shard(
    keyed: tuple[tuple[str, int], Iterable[Block[Reference]]],
    plan: Plan,
    config: ConvertConfig,
    prefix: str,
    work: str,
    status_folder: str,
) -> tuple[ShardResult, Measured | None]:
    """Writes the shard of one ((split, index), references) into the folder `work` and returns the outcomes of its
    inputs, and what that took. Progress is reported in `status_folder`. A shard that an earlier run finished from the
    same inputs is kept, with None for what it took. Raises JobFailed on a worker that differs from the launcher."""
    (split, index), references = keyed
    with status.failures(status_folder):
        check(config.launcher, status_folder)
        ordered = sorted(itertools.chain.from_iterable(references), key=lambda reference: reference.id)
        name = ShardName(prefix, split, index, plan.shards[split])
        mark = storage.join(work, f"{name}.{inputs_hash(ordered, plan, config)}.json")
        finished = finished_shard(mark, work, config, _check_blobs)
        if finished is not None:
            status.count_done(status_folder, len(ordered))
            return finished, None
        measured = Measured()
        to_convert = plan, config, status_folder, measured
        result = _retried(name, ordered, work, mark, *to_convert) if config.retry_quarantine else None
        if result is None:
            result = _write(name, ordered, convert_all(ordered, *to_convert), plan, config, work, mark)
        return result, measured


def signatures_of(result: ShardResult) -> tuple[str, bytes]:
    """The split of a shard and the signatures of its records, for the search for near-duplicates."""
    return result.split, result.signatures


def without_signatures(result: ShardResult) -> ShardResult:
    """The result without the signatures, which grow with the records: one worker gathers all results."""
    return replace(result, signatures=b"")


def shard_in_work(work: str, shard: Shard) -> str:
    """The path of a finished shard in the work folder. The name is unique to its content."""
    return storage.join(work, f"{shard.file}.{shard.sha256[:16]}")


def inputs_hash(references: list[Reference], plan: Plan, config: ConvertConfig) -> str:
    """A hash of everything that determines the shard's bytes. It changes if a file is replaced under the same name."""
    # Keyed like the ids, because the hash is published and without a key anyone could check a guessed input against it.
    digest = hmac.new(id_key(config), config.fingerprint().encode(), hashlib.sha256)
    digest.update(json.dumps([plan.label_kind, *plan.classes]).encode())
    for reference in references:
        # Not the checksum: a local listing has one only if another file happens to have the same size.
        source = reference.source._replace(uri="", checksum="")
        digest.update(repr((reference.id, reference.group, *source)).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def _check_blobs(result: ShardResult) -> None:
    np.frombuffer(result.signatures, HASHED)
    unpacked(result.counts, len(result.shard.label_counts))


def finished_shard(
    mark: str, work: str, config: ConvertConfig, check: Callable[[ShardResult], None] = lambda _: None
) -> ShardResult | None:
    """The result of a shard that an earlier run finished, or None. `check` raises ValueError for a result that is not
    usable."""
    try:
        result = ShardResult.from_json(storage.read_bytes(mark).decode())
        check(result)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    if not result.shard.crc32c:  # of an earlier release
        return None
    # A run that was stopped while publishing may have moved some shards already.
    for place in (shard_in_work(work, result.shard), storage.join(config.output, result.shard.file)):
        file = storage.stat(place, "")
        if file is not None and file.size == result.shard.bytes:
            return result
    return None


def _retried(
    name: ShardName,
    references: list[Reference],
    work: str,
    mark: str,
    plan: Plan,
    config: ConvertConfig,
    status_folder: str,
    measured: Measured,
) -> ShardResult | None:
    """Writes the shard from the old data set's records and the images that it quarantined. None if the old data set has no
    intact shard that was made from the other inputs."""
    old = reuse.old_dataset(config.retry_quarantine)
    again = [reference for reference in references if reference.source.uri in old.quarantined]
    others = [reference for reference in references if reference.source.uri not in old.quarantined]
    found = old.shards.get(inputs_hash(others, plan, config))
    kept = reuse.kept_records(old.folder, found, config.image) if found else None
    if found is None or kept is None:
        return None
    status.count_done(status_folder, len(others))
    outcomes = merge(references, kept, again, convert_all(again, plan, config, status_folder, measured))

    def with_kept(result: ShardResult) -> ShardResult:
        return replace(
            result,
            counts=packed(unpacked(result.counts, len(plan.classes)) + found.counts),
            skipped=dict(collections.Counter(result.skipped) + collections.Counter(found.skipped)),
            notes=dict(collections.Counter(result.notes) + collections.Counter(found.notes)),
        )

    return _write(name, references, outcomes, plan, config, work, mark, with_kept)


def merge(
    references: list[Reference], kept: Iterator[reuse.Kept], again: list[Reference], converted: Iterator[Outcome]
) -> Iterator[Outcome]:
    """Old records and new outcomes in the order of the references. An input with neither was skipped: it is not an image."""
    retried = {reference.id for reference in again}
    record = next(kept, None)
    for reference in references:
        if reference.id in retried:
            yield next(converted)
        elif record is not None and record.id == reference.id:
            yield Converted(record.record, record.label, (), record.id, record.signature, record.counts)
            record = next(kept, None)


def _write(
    name: ShardName,
    references: list[Reference],
    outcomes: Iterator[Outcome],
    plan: Plan,
    config: ConvertConfig,
    work: str,
    mark: str,
    complete: Callable[[ShardResult], ShardResult] = lambda result: result,
) -> ShardResult:
    """Writes the records of the `outcomes` as a shard, and its result, which `complete` may add to, as `mark`."""
    labels = [0] * len(plan.classes)
    notes: collections.Counter[str] = collections.Counter()
    skipped: collections.Counter[str] = collections.Counter()
    quarantined = []
    digest, crc = hashlib.sha256(), google_crc32c.Checksum()
    signatures: list[bytes] = []
    ids: list[str] = []
    counts: dict[Label, Counts] = {}
    with storage.writing(storage.join(work, str(name))), storage.new_file(work) as file:
        for outcome in outcomes:
            if isinstance(outcome, Quarantined):
                quarantined.append(outcome)
            elif isinstance(outcome, Skipped):
                skipped[outcome.reason] += 1
            else:
                file.write(outcome.record)
                digest.update(outcome.record)
                crc.update(outcome.record)
                for index in positives(outcome.label):
                    labels[index] += 1
                if counts.setdefault(outcome.label, outcome.counts) is not outcome.counts:
                    counts[outcome.label] += outcome.counts
                notes.update(outcome.notes)
                signatures.append(outcome.signature)
                ids.append(outcome.id)
        shard = Shard(str(name), file.tell(), digest.hexdigest(), len(ids), tuple(labels), crc.digest().hex())
        bad = {entry.uri for entry in quarantined}
        inputs = inputs_hash([reference for reference in references if reference.source.uri not in bad], plan, config)
        blobs = packed(table_of(counts, len(plan.classes))), hashed(signatures, ids).tobytes()
        result = complete(
            ShardResult(name.split, name.index, shard, tuple(quarantined), dict(skipped), dict(notes), inputs, *blobs)
        )
        # In a bucket at the same time: a mark whose shard is not there counts for nothing.
        marking = partial(storage.write_bytes, mark, result.to_json().encode())
        with begun(marking, storage.reads_at_once(work)) as marked:
            storage.keep(file, shard_in_work(work, shard))
            marked()
    return result
