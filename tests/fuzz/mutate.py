"""Mutates files, each in a way that depends only on a seed."""

import random
from collections.abc import Sequence

_EXTREMES = tuple(map(bytes.fromhex, "00 ff 7f 80 00000000 ffffffff 7fffffff ffffff7f 0001".split()))


def mutated(seed: str, files: Sequence[bytes]) -> bytes:
    """One of `files`, mutated in one to four places."""
    chance = random.Random(seed)
    data = bytearray(chance.choice(files))
    for _ in range(chance.randint(1, 4)):
        chance.choice((_flip, _cut, _splice, _repeat, _header))(data, chance, files)
    return bytes(data)


def _flip(data: bytearray, chance: random.Random, files: Sequence[bytes]) -> None:
    for _ in range(chance.choice((1, 8, 64)) if data else 0):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _cut(data: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    del data[chance.randint(0, len(data)) :]


def _splice(data: bytearray, chance: random.Random, files: Sequence[bytes]) -> None:
    other = chance.choice(files)
    start, at = chance.randint(0, len(other)), chance.randint(0, len(data))
    data[at : at + chance.randint(0, 100)] = other[start : start + chance.randint(0, 2000)]


def _repeat(data: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    at, length = chance.randint(0, len(data)), chance.randint(1, 500)
    data[at:at] = data[at : at + length] * chance.choice((1, 2, 50))


def _header(data: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    """Overwrites some of the first bytes, which hold sizes, depths, lengths and offsets (in DICOM, after the preamble)."""
    value = chance.choice(_EXTREMES)
    at = chance.randrange(max(1, min(len(data), chance.choice((40, 200, 1000)))))
    data[at : at + len(value)] = value
