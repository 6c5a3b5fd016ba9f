"""Where the splits are kept between epochs."""

from collections.abc import Sequence
from dataclasses import dataclass

from schemas.errors import UsageError
from training.config import AUTO, DEVICE, DISK, MEMORY, NONE
from training.devices.hardware import Hardware
from training.reading.records import Split, are_arrays

_SHARE_OF_DEVICE = 4  # a split may take a quarter of its memory; the rest is for the model


@dataclass(frozen=True)
class Cache:
    """`kind`: one of config.CACHES but AUTO. `why`: one line for the user."""

    kind: str
    why: str


def choose_cache(choice: str, cache_mb: int, hardware: Hardware, splits: Sequence[Split]) -> Cache:
    """The cache for training on `splits`: `choice`, or for AUTO the fastest that they fit into. Raises UsageError for a
    choice that is not possible here."""
    size = sum(split.image_bytes for split in splits)
    remote = any("://" in split.folder for split in splits)
    if choice == DISK and not remote:
        raise UsageError("--cache disk: the data set is on a local disk already; give --cache memory or none")
    arrays = all(are_arrays(split) for split in splits)
    if choice == DISK and not arrays:
        raise UsageError(
            "--cache disk: not for data sets with source URIs, whose records differ in length; give --cache memory"
        )
    if choice == DEVICE and hardware.devices > 1:
        raise UsageError("--cache device: possible with --devices 1 only; give --cache memory")
    if choice != AUTO:
        return Cache(choice, f"as asked, {_mib(size)} of images")
    if hardware.is_gpu and hardware.devices == 1 and size * _SHARE_OF_DEVICE <= hardware.memory:
        return Cache(DEVICE, f"{_mib(size)} of images fit into a quarter of the memory of {hardware.name}")
    if size <= cache_mb << 20:
        return Cache(MEMORY, f"{_mib(size)} of images fit into --cache_mb {cache_mb}")
    reason = f"{_mib(size)} of images are more than --cache_mb {cache_mb}"
    if remote and arrays:
        return Cache(DISK, f"{reason}, and the shards are in a bucket")
    return Cache(NONE, f"{reason}; every epoch reads them again")


def _mib(size: int) -> str:
    return f"{size / (1 << 20):,.0f} MiB"


def faster(cache: Cache, hardware: Hardware) -> str:
    """The one setting to change where training waits for input."""
    if cache.kind in (DEVICE, DISK):
        return "a larger --batch_size" if cache.kind == DEVICE else "--cache memory, if the machine has enough memory"
    if cache.kind == MEMORY:
        return "--cache device" if hardware.is_gpu and hardware.devices == 1 else "a larger --batch_size"
    return "--cache memory, if the machine has enough memory; else a larger --read_ahead_mb"
