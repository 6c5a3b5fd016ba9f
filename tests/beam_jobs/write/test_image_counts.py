"""What dataset.html counts in images, compared with plain computations; and what its page keeps of the shards."""

import json

import numpy as np
import pytest

from beam_jobs.elements import ShardResult
from beam_jobs.write.image_counts import (
    ASPECT,
    COLUMNS,
    FILE,
    FORMAT,
    GRAY,
    MOST_CLASSES,
    SIDE,
    SIDES,
    comment,
    counts_of_file,
    counts_of_pixels,
    empty_table,
    of_shards,
    packed,
    table_of,
    unpacked,
)
from schemas.dataset import Shard
from schemas.pixels.sniff import FORMATS


@pytest.mark.parametrize("shape", [(8, 8, 1), (64, 64, 3), (300, 300, 1)])
def test_gray_levels_are_those_of_a_plain_histogram(shape: tuple[int, int, int]) -> None:
    image = np.random.default_rng(3).integers(0, 256, shape[:2]).astype(np.uint8)
    repeated = np.repeat(image[:, :, np.newaxis], shape[2], axis=2)
    counts = counts_of_pixels(repeated)
    assert counts[GRAY].tolist() == np.histogram(image, 32, (0, 256))[0].tolist()
    assert counts.sum() == image.size


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("size", "side", "aspect"),
    [
        ((64, 64), 1, 4),
        ((63, 31), 0, 8),
        ((640, 480), 7, 6),
        ((480, 640), 7, 2),
        ((1000, 2001), 10, 0),
        ((9000, 9001), len(SIDES), 4),
    ],
)
def test_a_file_counts_once_as_a_format_a_side_and_an_aspect(
    format: str, size: tuple[int, int], side: int, aspect: int
) -> None:
    counts = counts_of_file(format, size)
    assert counts.shape == (COLUMNS,)
    assert counts[FORMAT].tolist() == [int(name == format) for name in FORMATS]
    assert np.flatnonzero(counts[SIDE]).tolist() == [side]
    assert np.flatnonzero(counts[ASPECT]).tolist() == [aspect]
    assert counts.sum() == 3


def test_an_image_counts_for_each_of_its_findings() -> None:
    one = np.ones(COLUMNS, np.int64)
    findings = {(1, 0, 1): one, (0, 0, 0): 2 * one, (2, 1, 0): 4 * one}
    assert table_of(findings, 3)[:, 0].tolist() == [7, 1, 4, 1, 2]  # all, the classes, and without a class
    assert table_of({0: one, 1: 2 * one}, 2)[:, -1].tolist() == [3, 1, 2, 0]


def test_many_classes_are_not_told_apart() -> None:
    assert table_of({MOST_CLASSES: np.ones(COLUMNS, np.int64)}, MOST_CLASSES + 1)[:, 0].tolist() == [1]
    assert len(empty_table(MOST_CLASSES)) == MOST_CLASSES + 2


def result(file: str, seed: int, classes: int = 2) -> ShardResult:
    table = np.random.default_rng(seed).integers(0, 1 << 40, empty_table(classes).shape)
    shard = Shard(file, 0, "", 0, (0,) * classes)
    return ShardResult("train", 0, shard, (), {}, {}, "", packed(table))


def test_a_table_travels_and_is_of_one_number_of_classes() -> None:
    made = result("a", 1)
    assert ShardResult.from_json(made.to_json()) == made
    assert packed(unpacked(made.counts, 2)) == made.counts
    with pytest.raises(ValueError, match="reshape"):
        unpacked(made.counts, 3)


def test_a_page_keeps_what_only_the_files_show() -> None:
    results = [result("b", 2), result("a", 3)]
    page = f"<html><!-- another comment -->{comment(results)}</html>".encode()
    found = of_shards(page, 2)
    assert list(found) == ["a", "b"]
    for made in results:
        table = unpacked(made.counts, 2)
        assert np.array_equal(found[made.shard.file][:, FILE], table[:, FILE])
        assert not found[made.shard.file][:, GRAY].any()
    assert comment(results[::-1]) == comment(results)


@pytest.mark.parametrize(
    "content", ['{"a": [[1]]}', '{"a": 1}', "[]", "{", '{"a": [["x"]]}', '{"a": [[-1]]}', f'{{"a": [[{1 << 70}]]}}', ""]
)
def test_a_damaged_page_keeps_nothing(content: str) -> None:
    whole = comment([result("a", 1)])
    start = whole.index("{")
    assert of_shards(f"{whole[:start]}{content} -->".encode(), 2) == {}
    assert of_shards(whole[: len(whole) // 2].encode(), 2) == {}
    assert of_shards(b"", 2) == {}
    assert of_shards(whole.encode(), 3) == {}


def test_negative_counts_are_damage() -> None:
    rows = np.full((4, FILE.stop - FILE.start), 1).tolist()
    rows[2][5] = -1
    whole = comment([])
    assert of_shards(whole.replace("{}", json.dumps({"a": rows})).encode(), 2) == {}
