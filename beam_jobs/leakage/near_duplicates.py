"""Finds records of the same exposure: all pairs whose signatures (signature.py) differ in at most 30 of 256 signs.

The search does not compare every record with every other. Each record has 20 *values*, five for each of the four words
of its signs: the word's 40 key signs as they are, the same with the weakest or the second weakest sign flipped, and the
key signs of the two cropped signatures. Records that share a value are compared sign by sign. A pair that shares
several values is found at the lowest one.

The values are divided into parts, which workers search one at a time. A whole record is sent to each part that holds
one of its values. Records with equal signatures are treated as one (crowds.py). If more than MOST_MEETING different
signatures share a value, each is compared only with the next ones in the order of signatures, so many that the work is
that of MOST_MEETING signatures. The comparisons that are left out are counted.
"""

import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from beam_jobs.leakage.crowds import HASHED, Crowds, Integers, Rows, crowds, shortened
from beam_jobs.leakage.signature import KEY_BITS, MARGINS, WORDS, distance_of

MOST_DISTANCE = 30
# What the distance of a pair measures. Older data sets have another text, because their pairs mean something else.
MEASURE = f"signs of 256 DCT coefficients of the stored pixels, of which up to {MOST_DISTANCE} differ"
PAIRS_SHOWN = 100_000
MOST_MEETING = 1_000
_LEAST_COMPARED = 20
_COMPARED_AT_ONCE = 1 << 13
_OF_WORD = 3 + len(MARGINS)
_VALUES = _OF_WORD * WORDS  # of one record
_VALUES_IN_A_PART = 1 << 15  # about 30 MB while they are searched
_NO_VALUE = np.uint64(0xFFFF_FFFF_FFFF_FFFF)

_PAIR = np.dtype([("distance", "u1"), ("ids", "<u8", 4), ("splits", "u1", 2)])
# Two crowds: their indices, and the first id of each, by which matches are ordered.
_MATCH = np.dtype([("distance", "u1"), ("crowds", "<i8", 2), ("ids", "<u8", 4)])

Values = NDArray[np.uint64]


class Pair(NamedTuple):
    """Two records of one exposure. Pairs sort in the order of the report. The splits are indices into SPLITS, with the
    earlier split first."""

    distance: int
    first_id: str
    second_id: str
    first_split: int
    second_split: int


class Found(NamedTuple):
    """What was found in some parts: the number of pairs at each distance, the number of comparisons left out, and the first
    PAIRS_SHOWN pairs, as _PAIR rows."""

    by_distance: tuple[int, ...]
    not_compared: int
    pairs: bytes


def hashed(signatures: Iterable[bytes], ids: Iterable[str]) -> Rows:
    """HASHED rows of these records, without those that have no signature."""
    content = b"".join(s + bytes.fromhex(i) for s, i in zip(signatures, ids, strict=True) if s)
    return np.frombuffer(content, HASHED)


def part_count(records: int) -> int:
    """The number of parts, each of bounded size, in which this many records are searched."""
    return max(1, -(-records * _VALUES // _VALUES_IN_A_PART))


def spread(records: Rows, parts: int) -> Iterator[tuple[int, Rows]]:
    """Yields (part, the ROWs that have a value in it) for these HASHED records of one split."""
    if not len(records):
        return
    rows = shortened(records)
    part = _part_of(_values(rows["signature"]), parts)
    order = np.argsort(part, axis=None, kind="stable")
    member, sorted_parts = order // _VALUES, part.ravel()[order]
    starts = np.flatnonzero(np.diff(sorted_parts, prepend=-1))
    for start, end in zip(starts, np.append(starts[1:], len(order)), strict=True):
        yield int(sorted_parts[start]), rows[np.unique(member[start:end])]


def search(part: int, parts: int, splits: list[Rows], most_meeting: int = MOST_MEETING) -> Found:
    """The pairs across splits whose lowest common value is in `part`; `splits` holds the ROWs that were sent to this
    part, for each of SPLITS."""
    found = crowds(splits)
    every = _values(found.signatures)
    mine = _part_of(every, parts) == part
    by_distance = np.zeros(MOST_DISTANCE + 1, np.int64)
    equal = np.flatnonzero(mine[np.arange(len(every)), every.argmin(1)]) if len(every) else np.zeros(0, np.int64)
    matches = [_matches(found, equal, equal, np.zeros(len(equal), np.int64), by_distance)]
    values, member = _meetings(found, every, mine)
    reach, not_compared = _reach(values, most_meeting)
    at = np.arange(len(values))
    step = 0
    while len(at := at[reach[at] > step]):
        step += 1
        for start in range(0, len(at), _COMPARED_AT_ONCE):
            some = at[start : start + _COMPARED_AT_ONCE]
            near = _near(found, every, values[some], member[some], member[some + step])
            matches.append(_matches(found, *near, by_distance))
        if sum(map(len, matches)) > 4 * PAIRS_SHOWN:
            matches = [_first(matches)]
    return Found(tuple(by_distance.tolist()), not_compared, _named(found, _first(matches)).tobytes())


def merged(found: Iterable[Found]) -> Found:
    """The findings of several parts, combined."""
    by_distance = np.zeros(MOST_DISTANCE + 1, np.int64)
    not_compared, pairs = 0, np.zeros(0, _PAIR)
    for part in found:
        by_distance += part.by_distance
        not_compared += part.not_compared
        pairs = _first([pairs, np.frombuffer(part.pairs, _PAIR)])
    return Found(tuple(by_distance.tolist()), not_compared, pairs.tobytes())


def pairs_of(found: Found) -> list[Pair]:
    """The named pairs, sorted by distance, then by ids."""
    columns = (np.frombuffer(found.pairs, _PAIR)[name].tolist() for name in ("distance", "ids", "splits"))
    return [
        Pair(distance, f"{a:016x}{b:016x}", f"{c:016x}{d:016x}", *splits)
        for distance, (a, b, c, d), splits in zip(*columns, strict=True)
    ]


def _values(signatures: Rows) -> Values:
    """[signatures, _VALUES]: the values of each signature, in the order of its words."""
    key, number = np.uint64(KEY_BITS), np.arange(WORDS, dtype=np.uint64)
    plain = signatures["plain"].astype(np.uint64) & key | number
    cropped = signatures["cropped"].astype(np.uint64) & key | number
    turn = np.uint64(1) << signatures["weak"].astype(np.uint64)
    values = np.stack([plain, plain ^ turn[:, :, 0], plain ^ turn[:, :, 1], *cropped.transpose(1, 0, 2)], axis=2)
    return values.reshape(len(signatures), _VALUES)


def _part_of(values: Values, parts: int) -> Integers:
    mixed = (values * np.uint64(0x9E37_79B9_7F4A_7C15)) >> np.uint64(32)  # Fibonacci hashing: the upper bits are mixed
    part: Integers = (mixed % np.uint64(parts)).astype(np.int64)
    return part


def _meetings(found: Crowds, every: Values, mine: NDArray[np.bool_]) -> tuple[Values, Integers]:
    """The values of this part, sorted, and the crowd that has each of them. Crowds with equal values are in the order
    of signatures."""
    rank = np.empty(len(every), np.int64)
    rank[np.lexsort(found.signatures["plain"].T[::-1])] = np.arange(len(every))
    member, column = np.nonzero(mine)
    values = every[member, column]
    order = np.lexsort((rank[member], values))
    values, member = values[order], member[order]
    once = np.ones(len(values), bool)
    once[1:] = (values[1:] != values[:-1]) | (member[1:] != member[:-1])
    return values[once], member[once]


def _reach(values: Values, most: int) -> tuple[Integers, int]:
    """With how many of the values after it each value is compared, and how many comparisons are left out in all."""
    starts = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]])[: len(values)])
    sizes = np.diff(starts, append=len(values))
    window = np.where(sizes <= most, sizes, (most**2 // 2 // sizes.clip(1)).clip(_LEAST_COMPARED))
    beyond = (sizes - 1 - window).clip(0)  # left out for the first crowd of a value; one less for each crowd after it
    last = np.repeat(starts + sizes - 1, sizes)
    return np.minimum(last - np.arange(len(values)), np.repeat(window, sizes)), int((beyond * (beyond + 1) // 2).sum())


def _near(
    found: Crowds, every: Values, values: Values, one: Integers, other: Integers
) -> tuple[Integers, Integers, Integers]:
    """Those pairs of crowds (one, other), which meet at `values`, that have records in different splits, have no lower
    value in common and are near; and their distances."""
    where = found.where[one]
    across = np.flatnonzero((where != found.where[other]) | (where & (where - 1) > 0))
    one, other, values = one[across], other[across], values[across]
    words = every[one].reshape(-1, WORDS, _OF_WORD), every[other].reshape(-1, WORDS, _OF_WORD)
    common = (words[0][:, :, :, np.newaxis] == words[1][:, :, np.newaxis, :]).any(3)
    lowest = np.where(common, words[0], _NO_VALUE).min((1, 2)) == values
    one, other = one[lowest], other[lowest]
    distance = distance_of(found.signatures[one], found.signatures[other])
    near = distance <= MOST_DISTANCE
    return one[near], other[near], distance[near]


def _matches(found: Crowds, one: Integers, other: Integers, distance: Integers, by_distance: Integers) -> Rows:
    """_MATCH rows of these pairs of near crowds. Adds their pairs of records across splits to `by_distance`. A crowd
    may be paired with itself."""
    here, there = found.records[one], found.records[other]
    pairs = here.sum(1) * there.sum(1) - (here * there).sum(1)
    pairs[one == other] //= 2
    np.add.at(by_distance, distance, pairs)
    some = np.flatnonzero(pairs)
    one, other = one[some], other[some]
    of_one, of_other = (np.argmax(found.records[crowd] > 0, axis=1) for crowd in (one, other))
    swap = of_one > of_other
    one, other = np.where(swap, other, one), np.where(swap, one, other)
    of_one, of_other = np.where(swap, of_other, of_one), np.where(swap, of_one, of_other)
    rows = np.zeros(len(some), _MATCH)
    rows["distance"] = distance[some]
    rows["crowds"] = np.stack([one, other], axis=1)
    rows["ids"] = np.hstack([found.ids[found.first[one, of_one]], found.ids[found.first[other, of_other]]])
    return rows


def _named(found: Crowds, matches: Rows) -> Rows:
    """_PAIR rows of the named records of these crowds, up to PAIRS_SHOWN."""
    one, other = matches["crowds"].T
    here, there = found.named[one], found.named[other]
    pairs = np.cumsum(here.sum(1) * there.sum(1) - (here * there).sum(1))
    # Twice as many, because a crowd paired with itself counts each pair twice.
    matches = matches[: np.searchsorted(pairs, 2 * PAIRS_SHOWN) + 1]
    one, other = matches["crowds"].T
    named = [np.zeros(0, _PAIR)]
    for split, another in itertools.permutations(range(found.named.shape[1]), 2):
        many = found.named[other, another] * ((one != other) | (split < another))
        number = found.named[one, split] * many
        match = np.repeat(np.arange(len(matches)), number)
        place = np.arange(len(match)) - np.repeat(np.cumsum(number) - number, number)
        ids = [
            found.ids[found.first[one, split][match] + place // many[match]],
            found.ids[found.first[other, another][match] + place % many[match]],
        ]
        rows = np.zeros(len(match), _PAIR)
        rows["distance"] = matches["distance"][match]
        rows["ids"] = np.hstack(ids if split < another else ids[::-1])
        rows["splits"] = sorted((split, another))
        named.append(rows)
    return _first(named)


def _first(found: list[Rows]) -> Rows:
    """The first PAIRS_SHOWN of these rows, sorted."""
    rows = np.concatenate(found).astype(found[0].dtype)  # joining arrays makes the byte order native
    order = np.lexsort((*rows["ids"].T[::-1], rows["distance"]))
    return rows[order[:PAIRS_SHOWN]]
