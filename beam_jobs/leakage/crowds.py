"""Crowds: groups of records with equal signatures, so that a million pictures of one test card cost as much as one.

Each crowd keeps the first MOST_NAMED ids of each split, and the number of all its records.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from beam_jobs.leakage.signature import SIGNATURE

MOST_NAMED = 100

# One record: its signature, and the 32 hexadecimal digits of its id as two numbers, so that arrays sort like ids.
HASHED = np.dtype([("signature", SIGNATURE), ("id_head", ">u8"), ("id_tail", ">u8")])
# A record in the search, where a row may stand for several records.
ROW = np.dtype([*((name, HASHED[name]) for name in HASHED.names or ()), ("records", ">u8")])

_WORD = np.dtype(">u8")
_MULTIPLIER = np.uint64(0x9E37_79B9_7F4A_7C15)  # Fibonacci hashing

Integers = NDArray[np.int64]
Rows = NDArray[np.void]


class Crowds(NamedTuple):
    """Distinct signatures. For each split, `records` is the number of records, `named` the number of those whose ids
    are in `ids`, and `first` the position of the first of these ids. `where` has a bit for each split that has any
    records."""

    signatures: Rows
    where: Integers
    records: Integers  # [signatures, splits]
    first: Integers  # [signatures, splits]
    named: Integers  # [signatures, splits]
    ids: NDArray[np.uint64]  # [rows, 2]


def shortened(records: Rows) -> Rows:
    """These HASHED records of one split as ROWs: the first MOST_NAMED of each signature. The first row of a signature
    also counts the records that are left out."""
    rows = np.zeros(len(records), ROW)
    for name in HASHED.names or ():
        rows[name] = records[name]
    rows["records"] = 1
    order, starts = _runs(rows, np.zeros(len(rows), np.int64))
    rows = rows[order]
    sizes = np.diff(starts, append=len(rows))
    rows["records"][starts] += (sizes - MOST_NAMED).clip(0).astype(np.uint64)
    return rows[np.arange(len(rows)) - np.repeat(starts, sizes) < MOST_NAMED]


def crowds(splits: Sequence[Rows]) -> Crowds:
    """The crowds of these ROWs, given for each split."""
    rows = np.concatenate(splits)
    split = np.repeat(np.arange(len(splits)), [len(of_split) for of_split in splits])
    order, starts = _runs(rows, split)
    rows, split = rows[order], split[order]
    new = np.ones(len(starts), bool)
    new[1:] = rows["signature"][starts[1:]] != rows["signature"][starts[:-1]]
    of_run = np.cumsum(new) - 1, split[starts]
    number = int(new.sum())
    result = Crowds(
        rows["signature"][starts[new]],
        np.zeros(number, np.int64),
        np.zeros((number, len(splits)), np.int64),
        np.zeros((number, len(splits)), np.int64),
        np.zeros((number, len(splits)), np.int64),
        np.stack([rows["id_head"], rows["id_tail"]], axis=1).astype(np.uint64),
    )
    if len(rows):
        np.bitwise_or.at(result.where, of_run[0], 1 << of_run[1])
        result.records[of_run] = np.add.reduceat(rows["records"].astype(np.int64), starts)
        result.first[of_run] = starts
        result.named[of_run] = np.diff(starts, append=len(rows)).clip(max=MOST_NAMED)
    return result


def _runs(rows: Rows, split: Integers) -> tuple[Integers, Integers]:
    """The order that puts rows of equal signature and split next to each other, sorted by id, and the start of each
    run."""
    mixed = np.zeros(len(rows), np.uint64)
    for word in np.ascontiguousarray(rows["signature"]).view(_WORD).reshape(len(rows), SIGNATURE.itemsize // 8).T:
        mixed = (mixed ^ word.astype(np.uint64)) * _MULTIPLIER
        mixed ^= mixed >> np.uint64(32)
    # Two signatures with equal `mixed` may interrupt each other's runs. Then there are more runs, with the same
    # content.
    order = np.lexsort((rows["id_tail"], rows["id_head"], split, mixed))
    same = (mixed[order][1:] == mixed[order][:-1]) & (split[order][1:] == split[order][:-1])
    at = np.flatnonzero(same) + 1
    same[at - 1] = rows["signature"][order[at]] == rows["signature"][order[at - 1]]
    return order, np.flatnonzero(np.concatenate([[True], ~same])[: len(rows)])
