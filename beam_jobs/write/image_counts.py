"""What dataset.html counts: the gray levels of the records, and the formats and sizes of the files that they come from.

The counts of a shard are a table, int64 [rows, COLUMNS]. They are made where the shard is written and kept in its mark,
so a run that continues another one has them too. The first row is of all images, then comes one for each class, and the
last is of the images without a class. With more than MOST_CLASSES classes there is only the first row, so that a table
stays small.

The records do not show what the files were like. So the page keeps that part of each table, in a comment, for
--retry_quarantine.
"""

import json
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from beam_jobs.elements import ShardResult
from schemas.labels import positives
from schemas.pixels.sniff import FORMATS

PAGE = "dataset.html"
MOST_CLASSES = 40
GRAY_BINS = 32  # of 8 levels each
SIDES = (64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192)  # where bins begin, in pixels
ASPECTS = (1 / 2, 2 / 3, 4 / 5, 9 / 10, 10 / 9, 5 / 4, 3 / 2, 2)  # where bins begin: width / height

GRAY = slice(0, GRAY_BINS)
FORMAT = slice(GRAY.stop, GRAY.stop + len(FORMATS))
SIDE = slice(FORMAT.stop, FORMAT.stop + len(SIDES) + 1)  # the longer side of the file
ASPECT = slice(SIDE.stop, SIDE.stop + len(ASPECTS) + 1)
COLUMNS = ASPECT.stop
FILE = slice(FORMAT.start, COLUMNS)  # what only the file shows

_FORMAT_INDEX = {name: index for index, name in enumerate(FORMATS)}
_BEGINS, _ENDS = b"<!-- of shards, for --retry_quarantine: ", b" -->"

Counts = NDArray[np.int64]


def counts_of_pixels(image: NDArray[np.uint8]) -> Counts:
    """int64 [COLUMNS] with the gray levels of a uint8 [height, width, channels] image, in pixels of its first channel (the
    others repeat it)."""
    from PIL import Image  # here, because the flags are parsed without it

    levels = np.array(Image.fromarray(image[:, :, 0]).histogram())  # for large images a third of the time of bincount
    counts = np.zeros(COLUMNS, np.int64)
    counts[GRAY] = levels.reshape(GRAY_BINS, -1).sum(1)
    return counts


def counts_of_file(format: str, size: tuple[int, int]) -> Counts:
    """int64 [COLUMNS] with a 1 for the format of a file, for its longer side and for its aspect. `size`: width, height."""
    width, height = size
    counts = np.zeros(COLUMNS, np.int64)
    counts[FORMAT.start + _FORMAT_INDEX[format]] = 1
    counts[SIDE.start + bisect_right(SIDES, max(size))] = 1
    counts[ASPECT.start + bisect_right(ASPECTS, width / height)] = 1
    return counts


def empty_table(classes: int) -> Counts:
    """The table of no images."""
    return np.zeros((classes + 2 if classes <= MOST_CLASSES else 1, COLUMNS), np.int64)


def table_of(by_label: Mapping[Any, Counts], classes: int) -> Counts:
    """The table of images whose counts are added up by Label."""
    table = empty_table(classes)
    for label, counts in by_label.items():
        table[0] += counts
        if len(table) > 1:
            for row in [1 + index for index in positives(label)] or [-1]:
                table[row] += counts
    return table


def packed(table: Counts) -> bytes:
    """The table as a ShardResult holds it."""
    return table.astype("<i8").tobytes()


def unpacked(counts: bytes, classes: int) -> Counts:
    """The inverse of `packed`. Raises ValueError if it is not the table of a shard with this number of classes."""
    return np.frombuffer(counts, "<i8").astype(np.int64).reshape(empty_table(classes).shape)


def comment(results: Iterable[ShardResult]) -> str:
    """What the page keeps of the files of each shard, as a comment in HTML."""
    tables = {result.shard.file: unpacked(result.counts, len(result.shard.label_counts)) for result in results}
    content = {file: table[:, FILE].tolist() for file, table in sorted(tables.items())}
    return f"{_BEGINS.decode()}{json.dumps(content, separators=(',', ':'))}{_ENDS.decode()}"


def of_shards(page: bytes, classes: int) -> Mapping[str, Counts]:
    """The tables that a page keeps of its shards, by the name of the shard, without gray levels. Empty if the page is
    damaged or of another release, which may count other things."""
    _, _, rest = page.rpartition(_BEGINS)
    text, _, _ = rest.partition(_ENDS)
    found = {}
    try:
        for file, rows in json.loads(text).items():
            table = empty_table(classes)
            table[:, FILE] = np.array(rows, np.int64).reshape(len(table), -1)
            if table.min() < 0:
                return {}
            found[file] = table
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return {}
    return found
