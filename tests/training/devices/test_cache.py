"""Where the splits are kept."""

from dataclasses import replace

import pytest

from schemas.dataset import Shard
from schemas.errors import UsageError
from schemas.example import layout_of
from training.devices.cache import choose_cache, faster
from training.devices.hardware import Hardware
from training.reading.records import Split

CPU = Hardware("tensorflow", "2", 1, False, "CPU")
GPU = Hardware("jax", "1", 1, True, "GPU", memory=100 << 20)


def splits(mib: int, folder: str = "/data", longer: int = 0) -> list[Split]:
    """Two splits that hold `mib` MiB of 64x64 images, in shards that are `longer` than such records are."""
    count = mib << 7  # 2^12 bytes an image, half of them in each split
    shard = Shard("x", count * layout_of((64, 64, 1), None).record_bytes + longer, "", count, (count,))
    return [Split(folder, name, (shard,), (64, 64, 1)) for name in ("train", "validation")]


@pytest.mark.parametrize(
    ("hardware", "mib", "folder", "expected"),
    [
        (CPU, 8, "/data", "memory"),
        (CPU, 9, "/data", "none"),
        (CPU, 9, "gs://bucket/data", "disk"),
        (GPU, 25, "/data", "device"),
        (GPU, 26, "/data", "none"),
        (replace(GPU, devices=2), 8, "gs://bucket/data", "memory"),
        (replace(GPU, memory=0), 8, "/data", "memory"),
    ],
)
def test_auto_takes_the_fastest_that_the_splits_fit_into(
    hardware: Hardware, mib: int, folder: str, expected: str
) -> None:
    cache = choose_cache("auto", 8, hardware, splits(mib, folder))
    assert cache.kind == expected
    assert f"{mib} MiB of images" in cache.why


@pytest.mark.parametrize("choice", ["none", "memory", "device"])
def test_a_choice_is_a_choice(choice: str) -> None:
    assert choose_cache(choice, 8, CPU, splits(999)).kind == choice


def test_choices_that_are_not_possible() -> None:
    with pytest.raises(UsageError, match="on a local disk already"):
        choose_cache("disk", 8, CPU, splits(1))
    with pytest.raises(UsageError, match="possible with --devices 1 only"):
        choose_cache("device", 8, replace(GPU, devices=2), splits(1))


def test_records_with_source_uris_are_not_kept_on_the_disk() -> None:
    found = splits(9, "gs://bucket/data", longer=30)
    assert choose_cache("auto", 8, CPU, found).kind == "none"
    with pytest.raises(UsageError, match="not for data sets with source URIs"):
        choose_cache("disk", 8, CPU, found)


def test_advice_to_those_who_wait() -> None:
    assert "--cache memory" in faster(choose_cache("none", 8, CPU, splits(1)), CPU)
    assert "--cache device" in faster(choose_cache("memory", 8, GPU, splits(1)), GPU)
    assert "--batch_size" in faster(choose_cache("memory", 8, CPU, splits(1)), CPU)
    assert "--batch_size" in faster(choose_cache("device", 8, GPU, splits(1)), GPU)
