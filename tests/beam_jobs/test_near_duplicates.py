"""Near-duplicates, against plain loops over bits and over all pairs."""

import itertools
import random

import numpy as np
import pytest
from PIL import Image

from beam_jobs import near_duplicates
from beam_jobs.near_duplicates import Found, Pair, difference_hash, first_pairs, hashed, pair_counts, search, spread

Records = list[tuple[int, str, int]]  # hash, id, split


def found_in_parts(records: Records, bits: int) -> list[Found]:
    """What the job does with these records, without a runner."""
    by_part: dict[int, list[list[np.ndarray]]] = {}
    for split in range(3):
        rows = hashed(*zip(*[(h, i) for h, i, s in records if s == split] or [(0, "0" * 32)], strict=True))
        rows = rows if any(s == split for *_, s in records) else rows[:0]
        for part, some in spread(rows, bits):
            by_part.setdefault(part, [[rows[:0]], [rows[:0]], [rows[:0]]])[split].append(some)
    return [search(part, bits, [np.concatenate(rows) for rows in splits]) for part, splits in by_part.items()]


def all_with_all(records: Records) -> list[Pair]:
    pairs = []
    for one, other in itertools.combinations(records, 2):
        (h, first, a), (g, second, b) = sorted((one, other), key=lambda record: record[2])
        if a != b and bin(h ^ g).count("1") <= 2:
            pairs.append(Pair(bin(h ^ g).count("1"), first, second, a, b))
    return sorted(pairs)


def made(seed: int, count: int, free_bits: int) -> Records:
    """Hashes that differ in `free_bits` of 64 bits only: few make many pairs."""
    rng = random.Random(seed)
    places = rng.sample(range(64), free_bits)
    base = rng.getrandbits(64)
    return [
        (
            base ^ sum(1 << place for place in places if rng.random() < 0.5),
            f"{rng.getrandbits(128):032x}",
            rng.randrange(3),
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("bits", [0, 1, 3, 6])
@pytest.mark.parametrize(("count", "free_bits"), [(0, 1), (1, 1), (2, 1), (60, 64), (150, 8), (150, 5), (40, 2)])
def test_exactly_the_pairs_of_comparing_all_with_all(bits: int, count: int, free_bits: int) -> None:
    records = made(count + bits, count, free_bits)
    expected = all_with_all(records)
    found = found_in_parts(records, bits)
    assert pair_counts(found) == tuple(sum(pair.distance == d for pair in expected) for d in range(3))
    assert first_pairs(found) == expected[: near_duplicates.PAIRS_SHOWN]


def test_one_hash_for_all_is_counted_and_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_duplicates, "PAIRS_SHOWN", 7)
    records = [(42, f"{n:032x}", n % 3) for n in range(3000)]
    found = found_in_parts(records, 2)
    assert pair_counts(found) == (3 * 1000 * 1000, 0, 0)
    assert first_pairs(found) == all_with_all(records[:30])[:7]


@pytest.mark.parametrize("flipped", [(), (0,), (63,), (5, 9), (0, 32), (31, 63)])
def test_planted_pairs_among_random_hashes_are_found_in_some_part(flipped: tuple[int, ...]) -> None:
    rng = random.Random(1)
    records = [(rng.getrandbits(64), f"{n:032x}", n % 3) for n in range(2000)]
    twin = records[100][0] ^ sum(1 << bit for bit in flipped)
    found = found_in_parts([*records, (twin, "f" * 32, 2)], 5)
    assert first_pairs(found) == [Pair(len(flipped), f"{100:032x}", "f" * 32, 1, 2)]


def plain_hash(image: np.ndarray) -> int:
    """The definition, on an enlargement in which every cell is a whole number of pixels."""
    height, width = image.shape[:2]
    large = image[:, :, 0].astype(int).repeat(8, 0).repeat(9, 1)
    cells = large.reshape(8, height, 9, width).sum((1, 3))
    return int("".join("1" if row[x] < row[x + 1] else "0" for row in cells for x in range(8)), 2)


@pytest.mark.parametrize("shape", [(64, 64, 1), (64, 64, 3), (32, 32, 1), (8, 8, 1), (100, 100, 1)])
def test_the_hash_is_its_definition(shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(0)
    for low in (0, 250):  # nearly flat images have equal neighbours, which are no rise
        image = rng.integers(low, 256, shape, dtype=np.uint8)
        assert difference_hash(image) == plain_hash(image)
    assert difference_hash(np.full(shape, 37, np.uint8)) == 0


def test_a_saved_again_radiograph_stays_near_and_another_does_not() -> None:
    def blobs(seed: int) -> np.ndarray:
        grays = np.random.default_rng(seed).integers(0, 256, (9, 9), dtype=np.uint8)
        return np.asarray(Image.fromarray(grays).resize((64, 64), Image.Resampling.BICUBIC))[:, :, np.newaxis]

    brighter = (blobs(0) * 0.9 + 10).astype(np.uint8)
    assert bin(difference_hash(blobs(0)) ^ difference_hash(brighter)).count("1") <= 2
    assert bin(difference_hash(blobs(0)) ^ difference_hash(blobs(1))).count("1") > 15
