"""Beam's counters of a conversion: what became of the images, the bytes, and the time that decoding took.

Engines show them in their user interfaces, and the launcher prints them at the end of a run. They are updated once per
shard, by the thread that Beam knows: its containers belong to that thread, and a call from another one counts nothing.

    images_written              images that became a record
    images_quarantined_REASON   images that could not be converted, by the reason in quarantine.jsonl
    images_skipped_REASON       files that are not inputs, by reason
    images_duplicate            files that are byte-identical to one that is kept
    bytes_read, bytes_written   bytes of image files that were read, and of finished shards
    shards_written, shards_kept shards that this run wrote, and those that an earlier run had finished
    file_bytes                  distribution: the size of each file that was read
    decode_microseconds         distribution: the processor time that each decoded image took
"""

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from apache_beam.metrics.metric import Metrics, MetricsFilter
from apache_beam.runners.runner import PipelineResult

NAMESPACE = "radrecords"
FILE_BYTES, DECODE_MICROSECONDS = "file_bytes", "decode_microseconds"


@dataclass
class Measured:
    """What reading and decoding the images of a shard took. Several threads append to the arrays."""

    file_bytes: "array[int]" = field(default_factory=lambda: array("Q"))
    decode_microseconds: "array[int]" = field(default_factory=lambda: array("I"))


class Spread(NamedTuple):
    """A distribution of whole numbers."""

    number: int
    total: int
    least: int
    most: int


@dataclass(frozen=True)
class Counted:
    """The counters and distributions of a run, by name."""

    counters: Mapping[str, int]
    distributions: Mapping[str, Spread]


def count_plan(duplicates: int, skipped: Mapping[str, int]) -> None:
    """Counts what is not converted. For the thread that Beam calls."""
    _add("images_duplicate", duplicates)
    for reason, number in skipped.items():
        _add(f"images_skipped_{reason}", number)


def count_shard(
    written: int, quarantined: Iterable[str], skipped: Mapping[str, int], shard_bytes: int, measured: Measured | None
) -> None:
    """Counts a shard: its records, the reasons of its quarantined images, and what it took. `measured`: None if an
    earlier run finished the shard. For the thread that Beam calls."""
    _add("images_written", written)
    for reason, number in Counter(quarantined).items():
        _add(f"images_quarantined_{reason}", number)
    for reason, number in skipped.items():
        _add(f"images_skipped_{reason}", number)
    if measured is None:
        _add("shards_kept", 1)
        return
    _add("shards_written", 1)
    _add("bytes_written", shard_bytes)
    _add("bytes_read", sum(measured.file_bytes))
    for name in (FILE_BYTES, DECODE_MICROSECONDS):
        update = Metrics.distribution(NAMESPACE, name).update
        for value in getattr(measured, name):
            update(value)  # type: ignore[no-untyped-call]


def _add(name: str, number: int) -> None:
    if number:
        Metrics.counter(NAMESPACE, name).inc(number)


def counted(result: PipelineResult) -> Counted | None:
    """What a job counted, added up over its steps. None if its engine does not tell."""
    try:
        found = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))
    except Exception:  # a service that refuses must not fail a job that has published
        return None
    counters: Counter[str] = Counter()
    for one in found["counters"]:
        counters[one.key.metric.name] += one.result or 0
    distributions: dict[str, Spread] = {}
    for one in found["distributions"]:
        if one.result is not None and one.result.count:
            name, data = one.key.metric.name, one.result
            spread = Spread(data.count, data.sum, data.min, data.max)
            distributions[name] = _together(distributions[name], spread) if name in distributions else spread
    return Counted(counters, distributions) if counters else None


def _together(one: Spread, other: Spread) -> Spread:
    return Spread(
        one.number + other.number,
        one.total + other.total,
        min(one.least, other.least),
        max(one.most, other.most),
    )
