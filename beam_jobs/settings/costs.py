"""What a job would cost on Dataflow with its images in Cloud Storage: an estimate for --dry_run.

The prices are in the table Prices; --prices names a JSON file that replaces some of them. Formula:

    class B requests  one per image that is read and per shard, and 30
    class A requests  one per 1,000 names that are listed, three per shard, and 20
    vCPU hours        images / images per CPU second / 3,600
    shuffle           bytes per image of the kind of job: references and, in a conversion, signatures of images
    cost              requests, vCPU hours with their memory and disk, and shuffled bytes, each times its price

Not counted: the start of workers and the time in which they wait, retries, and traffic between locations.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any, NamedTuple

from beam_jobs.storage import storage
from schemas.errors import UsageError

_LISTED_AT_ONCE = 1_000  # names in one page of a listing
_PER_SHARD_A = 3  # the shard, its mark, and its copy into place
_PER_SHARD_B = 1  # the look for its mark
_OTHERS_A, _OTHERS_B = 20, 30  # claims, reports, the preview, and the files beside the shards


class Kind(NamedTuple):
    """A kind of job: what it does, what it writes, and the bytes per image that move between its steps."""

    does: str
    writes: str
    shuffled_bytes: int


CONVERSION = Kind("convert", "records", 2_800)  # benchmarks/scale.py
SCORING = Kind("score", "scores", 120)  # benchmarks/memory.py


@dataclass(frozen=True)
class Usage:
    """What a job uses."""

    kind: Kind
    images: int
    listed: int
    shards: int
    read_bytes: int
    written_bytes: int
    images_per_cpu_second: float

    @property
    def class_a(self) -> int:
        """Requests that list and write."""
        return math.ceil(self.listed / _LISTED_AT_ONCE) + _PER_SHARD_A * self.shards + _OTHERS_A

    @property
    def class_b(self) -> int:
        """Requests that read."""
        return self.images + _PER_SHARD_B * self.shards + _OTHERS_B

    @property
    def vcpu_hours(self) -> float:
        """The work of all vCPUs."""
        return self.images / self.images_per_cpu_second / 3600

    @property
    def shuffled_bytes(self) -> int:
        """What moves between the steps."""
        return self.images * self.kind.shuffled_bytes


@dataclass(frozen=True)
class Prices:
    """The table of prices, without tax and discounts. The values are the list prices for us-central1, in the month `date`,
    of cloud.google.com/dataflow/pricing (batch) and cloud.google.com/storage/pricing (Standard storage)."""

    date: str = "2025-06"
    currency: str = "USD"
    dataflow_vcpu_hour: float = 0.056
    dataflow_memory_gb_hour: float = 0.003557
    dataflow_disk_gb_hour: float = 0.000054
    dataflow_shuffle_gb: float = 0.011
    storage_class_a_1000: float = 0.005
    storage_class_b_1000: float = 0.0004
    storage_gb_month: float = 0.02
    worker_memory_gb_per_vcpu: float = 4  # of n2-standard machines
    worker_disk_gb_per_vcpu: float = 6.25  # 25 GB for each machine with 4 vCPUs

    @property
    def worker_vcpu_hour(self) -> float:
        """The price of a vCPU with its share of memory and disk, per hour."""
        memory = self.worker_memory_gb_per_vcpu * self.dataflow_memory_gb_hour
        return self.dataflow_vcpu_hour + memory + self.worker_disk_gb_per_vcpu * self.dataflow_disk_gb_hour


def read_prices(place: str) -> Prices:
    """Our table, with the values that the JSON object at `place` replaces, if that is not "". Raises UsageError, naming the
    key, if it cannot be used."""
    if not place:
        return Prices()
    try:
        content: Mapping[str, Any] = json.loads(storage.read_bytes(place))
    except FileNotFoundError:
        raise UsageError(f"--prices {place} does not exist") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"--prices {place} cannot be read as JSON: {error}") from error
    kinds = {field.name: type(field.default) for field in fields(Prices)}
    if not isinstance(content, dict) or "date" not in content or content.keys() - kinds.keys():
        raise UsageError(
            f"--prices {place} must be a JSON object with the date of the prices and any of {', '.join(kinds)}"
        )
    for key, value in content.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf
        if not (isinstance(value, str) if kinds[key] is str else number):
            kind = "a text" if kinds[key] is str else "a number from 0"
            raise UsageError(f"--prices {place}: {key} is {value!r}; it must be {kind}")
    return Prices(**content)


def lines(usage: Usage, prices: Prices) -> list[str]:
    """The estimate, for people: each line with its cost and how that comes about, and the total."""
    images, rate = f"{usage.images:,} images", _short(usage.images_per_cpu_second)
    shuffled = f"{_gb(usage.shuffled_bytes)} ({images} x {usage.kind.shuffled_bytes:,} bytes)"
    rows = [
        (
            "read",
            usage.class_b * prices.storage_class_b_1000 / 1000,
            f"{_gb(usage.read_bytes)}, {usage.class_b:,} class B requests x {prices.storage_class_b_1000:g} per 1,000",
        ),
        (
            "list, write",
            usage.class_a * prices.storage_class_a_1000 / 1000,
            f"{_gb(usage.written_bytes)}, {usage.class_a:,} class A requests x {prices.storage_class_a_1000:g} per 1,000",
        ),
        (
            usage.kind.does,
            usage.vcpu_hours * prices.worker_vcpu_hour,
            f"{_short(usage.vcpu_hours)} vCPU hours ({images} / {rate} per CPU second / 3,600) x "
            f"{prices.worker_vcpu_hour:.4f} with memory and disk",
        ),
        (
            "shuffle",
            usage.shuffled_bytes / 1e9 * prices.dataflow_shuffle_gb,
            f"{shuffled} x {prices.dataflow_shuffle_gb:g} per GB",
        ),
    ]
    storing = (
        f"storing the {usage.kind.writes} costs {usage.written_bytes / 1e9 * prices.storage_gb_month:,.2f} a month"
    )
    left_out = f"without the start of workers, retries, and traffic between locations; {storing}"
    rows.append(("total", sum(cost for _, cost, _ in rows), left_out))
    return [f"  {name:<11} {cost:>10,.4f} {prices.currency}  {how}" for name, cost, how in rows]


def _gb(count: int) -> str:
    return f"{_short(count / 1e9)} GB"


def _short(value: float) -> str:
    """Three digits, or all digits of a large number."""
    return f"{value:,.0f}" if value >= 100 else format(Decimal(f"{value:.3g}"), "f")
