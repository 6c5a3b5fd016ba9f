"""Which records hold the same exposure: all pairs whose signatures (signature.py) differ in at most 30 of 256 signs.

The search does not compare all with all. Each record has 20 *values*: of each of the four words of its signs, the 40 key
signs, as they are, with the weakest or the second weakest or both of them turned, and those of the cropped signature.
Records that have a value in common are compared, sign by sign. A pair that has several in common is found at the lowest.

The values are cut in parts that workers search one at a time; a record goes, whole, to the parts of its values. Where more
than _WINDOW records have one value, each is compared with the next _WINDOW in the order of signatures and ids,
and the meetings that are left out are counted: a million pictures of one test card take no longer than others.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from beam_jobs.signature import KEY_BITS, SIGNATURE, WORDS

MOST_DISTANCE = 30
PAIRS_SHOWN = 100_000
_WINDOW = 50
_COMPARED_AT_ONCE = 1 << 16
_VALUES = 5 * WORDS  # of one record
_VALUES_IN_A_PART = 1 << 17  # about 100 MB while they are searched

# One record: its signature and its id, whose 32 hexadecimal digits are two numbers here, so that arrays sort as ids do.
HASHED = np.dtype([("signature", SIGNATURE), ("id_head", ">u8"), ("id_tail", ">u8")])
_PAIR = np.dtype([("distance", "u1"), ("ids", "<u8", 4), ("splits", "u1", 2)])

Integers = NDArray[np.int64]
Values = NDArray[np.uint64]
Rows = NDArray[np.void]


class Pair(NamedTuple):
    """Two records of one exposure, in the order of a report. The splits are indices into SPLITS, the earlier first."""

    distance: int
    first_id: str
    second_id: str
    first_split: int
    second_split: int


class Found(NamedTuple):
    """What one part holds: how many pairs at each distance, how many meetings at a crowded value were not compared, and
    the first PAIRS_SHOWN pairs, as _PAIR rows."""

    by_distance: tuple[int, ...]
    not_compared: int
    pairs: bytes


def hashed(signatures: Iterable[bytes], ids: Iterable[str]) -> Rows:
    """HASHED rows of these records; none for one without a signature."""
    content = b"".join(s + bytes.fromhex(i) for s, i in zip(signatures, ids, strict=True) if s)
    return np.frombuffer(content, HASHED)


def part_count(records: int) -> int:
    """In how many parts of bounded size so many records are searched."""
    return max(1, -(-records * _VALUES // _VALUES_IN_A_PART))


def spread(rows: Rows, parts: int) -> Iterator[tuple[int, Rows]]:
    """(part, the rows that have a value in it)."""
    if not len(rows):
        return
    part = _part_of(_values(rows), parts)
    order = np.argsort(part, axis=None, kind="stable")
    member, sorted_parts = order // _VALUES, part.ravel()[order]
    starts = np.flatnonzero(np.diff(sorted_parts, prepend=-1))
    for start, end in zip(starts, np.append(starts[1:], len(order)), strict=True):
        yield int(sorted_parts[start]), rows[np.unique(member[start:end])]


def search(part: int, parts: int, splits: list[Rows]) -> Found:
    """The pairs across splits whose lowest common value is in `part`; `splits` holds the rows sent to it, for each of
    SPLITS."""
    rows = np.concatenate(splits)
    split = np.repeat(np.arange(len(splits)), [len(of_split) for of_split in splits])
    order = np.lexsort((rows["id_tail"], rows["id_head"], *rows["signature"]["plain"].T[::-1]))
    rows, split = rows[order], split[order]
    every = np.sort(_values(rows), axis=1)
    mine = _part_of(every, parts) == part
    mine[:, 1:] &= every[:, 1:] != every[:, :-1]
    member, column = np.nonzero(mine)
    order = np.argsort(every[member, column], kind="stable")
    values, member = every[member, column][order], member[order]

    by_distance = np.zeros(MOST_DISTANCE + 1, np.int64)
    found = [np.zeros(0, _PAIR)]
    at = np.arange(len(values))
    for step in range(1, _WINDOW + 1):
        at = at[at + step < len(values)]
        at = at[values[at] == values[at + step]]
        if not len(at):
            break
        for start in range(0, len(at), _COMPARED_AT_ONCE):
            some = at[start : start + _COMPARED_AT_ONCE]
            pairs = _pairs(rows, split, every, values[some], member[some], member[some + step])
            by_distance += np.bincount(pairs["distance"], minlength=MOST_DISTANCE + 1)
            found.append(pairs)
        if sum(map(len, found)) > 4 * PAIRS_SHOWN:
            found = [_first(found)]
    _, met = np.unique(values, return_counts=True)
    beyond = (met - _WINDOW - 1).clip(0)  # how many the first of a crowd is not compared with; the next one less
    return Found(tuple(by_distance.tolist()), int((beyond * (beyond + 1) // 2).sum()), _first(found).tobytes())


def pair_counts(found: Iterable[Found]) -> tuple[int, ...]:
    """The number of pairs at each distance, from what all parts found."""
    sums: Integers = sum((np.array(part.by_distance) for part in found), np.zeros(MOST_DISTANCE + 1, np.int64))
    return tuple(sums.tolist())


def first_pairs(found: Iterable[Found]) -> list[Pair]:
    """The first PAIRS_SHOWN pairs of all parts: by distance, then by ids."""
    first = np.zeros(0, _PAIR)
    for part in found:
        first = _first([first, np.frombuffer(part.pairs, _PAIR)])
    columns = (first[name].tolist() for name in ("distance", "ids", "splits"))
    return [
        Pair(distance, f"{a:016x}{b:016x}", f"{c:016x}{d:016x}", *splits)
        for distance, (a, b, c, d), splits in zip(*columns, strict=True)
    ]


def distance_of(one: Rows, other: Rows) -> Integers:
    """Of SIGNATURE rows, in pairs: in how many signs they differ, or one and the other cropped, whichever is least."""
    plain, cropped = (one["plain"], other["plain"]), (one["cropped"], other["cropped"])
    ways = [_differing(*plain), _differing(plain[0], cropped[1]), _differing(cropped[0], plain[1])]
    least: Integers = np.minimum.reduce(ways)
    return least


def _differing(one: Values, other: Values) -> Integers:
    """The number of bits in which rows of words differ. Not np.bitwise_count: NumPy 1.26, which tensorflow-io needs, has
    none. Source: H. Warren, Hacker's Delight, 2nd edition, section 5-1."""
    x = (one ^ other).astype(np.uint64)
    x -= (x >> np.uint64(1)) & np.uint64(0x5555_5555_5555_5555)
    x = (x & np.uint64(0x3333_3333_3333_3333)) + ((x >> np.uint64(2)) & np.uint64(0x3333_3333_3333_3333))
    x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F_0F0F_0F0F_0F0F)
    x = (x * np.uint64(0x0101_0101_0101_0101)) >> np.uint64(56)
    bits: Integers = x.sum(-1).astype(np.int64)
    return bits


def _values(rows: Rows) -> Values:
    """[rows, _VALUES]: the values of each."""
    of_rows = rows["signature"]
    number = np.arange(WORDS, dtype=np.uint64)
    plain = of_rows["plain"].astype(np.uint64) & np.uint64(KEY_BITS) | number
    cropped = of_rows["cropped"].astype(np.uint64) & np.uint64(KEY_BITS) | number
    turn = np.uint64(1) << of_rows["weak"].astype(np.uint64)
    one, two = turn[:, :, 0], turn[:, :, 1]
    return np.concatenate([plain, plain ^ one, plain ^ two, plain ^ one ^ two, cropped], axis=1)


def _part_of(values: Values, parts: int) -> Integers:
    mixed = (values * np.uint64(0x9E37_79B9_7F4A_7C15)) >> np.uint64(32)  # Fibonacci hashing: the upper bits are mixed
    part: Integers = (mixed % np.uint64(parts)).astype(np.int64)
    return part


def _pairs(rows: Rows, split: Integers, every: Values, values: Values, one: Integers, other: Integers) -> Rows:
    """_PAIR rows of those of the (one, other) that meet at `values` which are pairs and have no lower value in common."""
    across = np.flatnonzero(split[one] != split[other])
    one, other, values = one[across], other[across], values[across]
    distance = distance_of(rows["signature"][one], rows["signature"][other])
    near = np.flatnonzero(distance <= MOST_DISTANCE)
    common = every[one[near], :, np.newaxis] == every[other[near], np.newaxis, :]
    lowest = np.where(common.any(2), every[one[near]], np.uint64(0xFFFF_FFFF_FFFF_FFFF)).min(1)
    near = near[lowest == values[near]]
    one, other = one[near], other[near]
    swap = split[one] > split[other]
    one, other = np.where(swap, other, one), np.where(swap, one, other)
    pairs = np.zeros(len(near), _PAIR)
    pairs["distance"] = distance[near]
    ids = np.stack([rows["id_head"], rows["id_tail"]], axis=1)
    pairs["ids"] = np.concatenate([ids[one], ids[other]], axis=1)
    pairs["splits"] = np.stack([split[one], split[other]], axis=1)
    return pairs


def _first(found: list[Rows]) -> Rows:
    """The first PAIRS_SHOWN of these."""
    pairs = np.concatenate(found).astype(_PAIR)  # NumPy makes numbers native where it joins arrays
    order = np.lexsort((*pairs["ids"].T[::-1], pairs["distance"]))
    return pairs[order[:PAIRS_SHOWN]]
