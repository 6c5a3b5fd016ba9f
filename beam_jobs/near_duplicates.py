"""Which images look alike: 64-bit difference hashes, and all pairs of them within a Hamming distance of 2.

The search never compares all with all. Two hashes within distance 2 have a *middle*: a value within distance 1 of both.
So each hash stands for itself and for its 64 neighbours, and those that meet at a value are pairs. Pairs are counted from
the numbers that meet there, not one by one. Bands of equal bits, the usual way, would be quadratic here: the hashes of
chest X-rays are so alike that two of four 16-bit bands are equal in up to 4% of all pairs (measured on 2,500 of them).

The values are cut in parts that workers search one at a time. The part of a value is made of parities, each of its own
share of the 64 bits, so that flipping one bit changes one parity: a hash is sent to its own part and to one for each parity.
"""

import functools
import heapq
import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.dataset import SPLITS

MOST_DISTANCE = 2
PAIRS_SHOWN = 1000
_ROWS, _COLUMNS = 8, 9
_BITS = 64
_VALUES_IN_A_PART = 1 << 19  # about 50 MB while they are sorted

# One record: its hash and its id, whose 32 hexadecimal digits are two numbers here, so that arrays sort as ids do.
HASHED = np.dtype([("hash", ">u8"), ("id_head", ">u8"), ("id_tail", ">u8")])

Integers = NDArray[np.int64]
Hashes = NDArray[np.uint64]
Rows = NDArray[np.void]


class Pair(NamedTuple):
    """Two records that look alike, in the order of a report. The splits are indices into SPLITS, the earlier
    first."""

    distance: int
    first_id: str
    second_id: str
    first_split: int
    second_split: int


class Found(NamedTuple):
    """What one part holds: how often a pair at each distance 0, 1, 2 was met (those at 1 and 2 meet twice over all parts,
    see `pair_counts`), and the first PAIRS_SHOWN pairs."""

    meetings: tuple[int, int, int]
    pairs: list[Pair]


def difference_hash(image: NDArray[np.uint8]) -> int:
    """The 64-bit difference hash (dHash) of a uint8 [height, width, channels] image, by its first channel: reduced by
    area to 8 rows of 9 grays, each bit says whether a gray is darker than its right neighbour.

    Source: N. Krawetz, "Kind of Like That", The Hacker Factor Blog, 2013. The areas are weighed with whole numbers, so
    that equal grays are equal on every machine.
    """
    height, width = image.shape[:2]
    grays = _shares(height, _ROWS) @ image[:, :, 0].astype(np.float64) @ _shares(width, _COLUMNS).T
    return int.from_bytes(np.packbits(grays[:, :-1] < grays[:, 1:]).tobytes(), "big")


@functools.cache
def _shares(side: int, cells: int) -> NDArray[np.float64]:
    """[cells, side]: how much of each pixel lies in each of `cells` equal parts of `side` pixels, in units of a `cells`th
    of a pixel. Whole numbers in float64: exact in any order of summing, and fast."""
    pixel, cell = np.arange(side) * cells, np.arange(cells)[:, np.newaxis] * side
    overlap = np.minimum(pixel + cells, cell + side) - np.maximum(pixel, cell)
    return overlap.clip(0).astype(np.float64)


def hashed(hashes: Iterable[int], ids: Iterable[str]) -> Rows:
    """HASHED rows of these records."""
    return np.array([(h, int(i[:16], 16), int(i[16:], 16)) for h, i in zip(hashes, ids, strict=True)], HASHED)


def parity_bits(records: int) -> int:
    """How many parities cut the search of so many records in parts of bounded size: 2 ** this many parts."""
    parts = -(-records * (_BITS + 1) // _VALUES_IN_A_PART)
    return (parts - 1).bit_length()


def spread(rows: Rows, bits: int) -> Iterator[tuple[int, Rows]]:
    """(part, the rows that have a middle in it)."""
    own = _part_of(rows["hash"].astype(np.uint64), bits)
    for part in np.unique(own[:, np.newaxis] ^ np.array([0, *(1 << bit for bit in range(bits))])).tolist():
        away = own ^ part
        yield part, rows[away & (away - 1) == 0]  # the same part, or one parity away


def _part_of(values: Hashes, bits: int) -> Integers:
    part = np.zeros(len(values), np.int64)
    for parity in range(bits):
        mask = np.uint64(sum(1 << bit for bit in range(parity, _BITS, bits)))
        part |= (np.bitwise_count(values & mask).astype(np.int64) & 1) << parity
    return part


def search(part: int, bits: int, splits: list[Rows]) -> Found:
    """The pairs across splits that meet in `part`; `splits` holds the rows sent to it, for each of SPLITS. A pair at
    distance 0 is found in the part of its hash; one at distance 1 or 2 meets at two values, and is shown at the lower."""
    table = _Table(splits)
    own = np.flatnonzero(_part_of(table.hashes, bits) == part)
    values, members = _values_in(table.hashes, part, bits)
    order = np.argsort(values, kind="stable")
    values, members = values[order], members[order]
    starts = np.flatnonzero(np.concatenate(([True], values[1:] != values[:-1]))) if len(values) else np.zeros(0, int)
    run = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(values))))
    met = np.add.reduceat(table.counts[members], starts) if len(starts) else np.zeros((0, len(SPLITS)), np.int64)
    all_met = _across(met, met) // 2  # of each value
    same = _across(table.counts, table.counts) // 2  # of each hash
    centre = np.flatnonzero(values == table.hashes[members])
    centre_counts = table.counts[members[centre]]
    at_1 = int(_across(centre_counts, met[run[centre]] - centre_counts).sum())
    at_0_or_more = int(all_met.sum()) - int(same[members].sum())
    meetings = (int(same[own].sum()), at_1, at_0_or_more - at_1)

    shown = table.first_pairs(0, own, own)
    if len(shown) < PAIRS_SHOWN and at_1:
        hub = np.full(len(starts), -1)
        hub[run[centre]] = members[centre]
        one = hub[run]
        lower = (one >= 0) & (one < members)  # hashes are sorted: the lower index is the lower hash
        shown += table.first_pairs(1, one[lower], members[lower])
    if len(shown) < PAIRS_SHOWN and meetings[2]:
        shown += _pairs_at_2(table, values, members)
    return Found(meetings, heapq.nsmallest(PAIRS_SHOWN, shown))


def pair_counts(found: Iterable[Found]) -> tuple[int, ...]:
    """The number of pairs at each distance, from what all parts found."""
    sums = np.array([part.meetings for part in found], dtype=object).reshape(-1, MOST_DISTANCE + 1).sum(0)
    return int(sums[0]), int(sums[1]) // 2, int(sums[2]) // 2


def first_pairs(found: Iterable[Found]) -> list[Pair]:
    """The first PAIRS_SHOWN pairs of all parts: by distance, then by ids."""
    return heapq.nsmallest(PAIRS_SHOWN, itertools.chain.from_iterable(part.pairs for part in found))


def _across(one: Integers, other: Integers) -> Integers:
    """Of rows of counts by split: in how many ways something of `one` and something of `other` are of unlike splits."""
    ways: Integers = one.sum(1) * other.sum(1) - (one * other).sum(1)
    return ways


def _values_in(hashes: Hashes, part: int, bits: int) -> tuple[Hashes, Integers]:
    """The values of `part` within distance 1 of the hashes, and whose they are."""
    away = _part_of(hashes, bits) ^ part
    values, members = [hashes[away == 0]], [np.flatnonzero(away == 0)]
    for bit in range(_BITS):
        mine = np.flatnonzero(away == (1 << bit % bits if bits else 0))
        values.append(hashes[mine] ^ np.uint64(1 << bit))
        members.append(mine)
    return np.concatenate(values), np.concatenate(members)


def _pairs_at_2(table: "_Table", values: Hashes, members: Integers) -> list[Pair]:
    """The first pairs at distance 2 among those (sorted) that meet at a value; at most 64 do, however many hashes."""
    beside = values != table.hashes[members]
    values, members = values[beside], members[beside]
    shown: list[Pair] = []
    for step in range(1, _BITS):
        meet = np.flatnonzero(values[step:] == values[:-step])
        if not len(meet):
            break
        one, other = members[meet], members[meet + step]
        lower = values[meet] < (table.hashes[one] ^ table.hashes[other] ^ values[meet])
        shown = heapq.nsmallest(PAIRS_SHOWN, shown + table.first_pairs(2, one[lower], other[lower]))
    return shown


class _Table:
    """The rows by hash and split. `hashes`: each once, sorted. `counts`: [hashes, splits] rows of each."""

    def __init__(self, splits: list[Rows]) -> None:
        rows = np.concatenate(splits)
        split = np.repeat(np.arange(len(splits)), [len(of_split) for of_split in splits])
        order = np.lexsort((rows["id_tail"], rows["id_head"], split, rows["hash"]))
        self._rows, split = rows[order], split[order]
        self.hashes, index = np.unique(self._rows["hash"].astype(np.uint64), return_inverse=True)
        self.counts = np.bincount(index * len(SPLITS) + split, minlength=len(self.hashes) * len(SPLITS)).reshape(
            -1, len(SPLITS)
        )
        # The rows of each hash and split lie together, in the order of their ids.
        self._starts = np.concatenate(([0], self.counts.ravel().cumsum()))[:-1].reshape(-1, len(SPLITS))
        by_id = np.lexsort((self._rows["id_tail"], self._rows["id_head"]))
        self._rank = np.empty(len(rows), np.int64)
        self._rank[by_id] = np.arange(len(rows))

    def first_pairs(self, distance: int, one: Integers, other: Integers) -> list[Pair]:
        """The first PAIRS_SHOWN pairs between the rows of hashes one[i] and other[i], for each i."""
        places = []
        for a, b in itertools.combinations(range(len(SPLITS)), 2):
            for left, right in ((one, other), (other, one))[: 2 if distance else 1]:
                some = (self.counts[left, a] > 0) & (self.counts[right, b] > 0)
                left, right = left[some], right[some]
                key = self._rank[self._starts[left, a]] * len(self._rank) + self._rank[self._starts[right, b]]
                places += [
                    (int(key[i]), int(left[i]), a, int(right[i]), b)
                    for i in np.argsort(key, kind="stable")[:PAIRS_SHOWN]
                ]
        # A pair among the first of all is one of the places with the lowest first pairs.
        lowest = heapq.nsmallest(PAIRS_SHOWN, places)
        return list(
            itertools.islice(heapq.merge(*(self._pairs(distance, *place[1:]) for place in lowest)), PAIRS_SHOWN)
        )

    def _pairs(self, distance: int, one: int, a: int, other: int, b: int) -> Iterator[Pair]:
        for first in self._ids(one, a):
            for second in self._ids(other, b):
                yield Pair(distance, first, second, a, b)

    def _ids(self, index: int, split: int) -> Iterator[str]:
        start = self._starts[index, split]
        for row in self._rows[start : start + self.counts[index, split]]:
            yield f"{int(row['id_head']):016x}{int(row['id_tail']):016x}"
