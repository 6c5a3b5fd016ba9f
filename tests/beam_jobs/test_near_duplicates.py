"""Near-duplicates: copies of drawn radiographs and other exposures, and the search against plain loops over all pairs."""

import io
import itertools
import random
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from beam_jobs import near_duplicates
from beam_jobs.near_duplicates import (
    HASHED,
    MOST_DISTANCE,
    Found,
    Pair,
    first_pairs,
    hashed,
    pair_counts,
    search,
    spread,
)
from beam_jobs.phantom import Anatomy, draw_chest
from beam_jobs.signature import KEY_BITS, SIGNATURE, signature
from schemas.image import decode
from schemas.image_settings import ImageSettings

Records = list[tuple[bytes, str, int]]  # signature, id, split


def found_in_parts(records: Records, parts: int) -> list[Found]:
    """What the job does with these records, without a runner."""
    by_part: dict[int, list[list[np.ndarray]]] = {}
    for split in range(3):
        rows = hashed([s for s, _, at in records if at == split], [i for _, i, at in records if at == split])
        for part, some in spread(rows, parts):
            by_part.setdefault(part, [[rows[:0]], [rows[:0]], [rows[:0]]])[split].append(some)
    return [search(part, parts, [np.concatenate(rows) for rows in splits]) for part, splits in by_part.items()]


def plain_values(packed: bytes) -> set[tuple[int, int]]:
    """The (word, key) by which a record is found."""
    values = set()
    for word in range(4):
        plain, cropped = (int.from_bytes(packed[at + 8 * word : at + 8 * word + 8], "big") for at in (0, 32))
        one, two = (1 << packed[64 + 2 * word + k] for k in range(2))
        values |= {(word, v & KEY_BITS) for v in (plain, plain ^ one, plain ^ two, plain ^ one ^ two, cropped)}
    return values


def plain_distance(one: bytes, other: bytes) -> int:
    def differing(a: bytes, b: bytes) -> int:
        return bin(int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).count("1")

    return min(differing(one[:32], other[:32]), differing(one[:32], other[32:64]), differing(one[32:64], other[:32]))


def all_with_all(records: Records) -> list[Pair]:
    pairs = []
    for one, other in itertools.combinations(records, 2):
        (s, first, a), (t, second, b) = sorted((one, other), key=lambda record: record[2])
        distance = plain_distance(s, t)
        if a != b and distance <= MOST_DISTANCE and plain_values(s) & plain_values(t):
            pairs.append(Pair(distance, first, second, a, b))
    return sorted(pairs)


def made(seed: int, count: int, free_bits: int) -> Records:
    """Signatures that differ in `free_bits` places only: few make many pairs."""
    rng = random.Random(seed)
    base = rng.getrandbits(512)
    places = rng.sample(range(512), free_bits)
    weak = bytes(rng.sample([bit for bit in range(64) if KEY_BITS >> bit & 1], 8))
    records = []
    for _ in range(count):
        flips = sum(1 << place for place in places if rng.random() < 0.5)
        records.append(((base ^ flips).to_bytes(64, "big") + weak, f"{rng.getrandbits(128):032x}", rng.randrange(3)))
    return records


@pytest.mark.parametrize("parts", [1, 3, 40])
@pytest.mark.parametrize(("count", "free_bits"), [(0, 1), (1, 1), (2, 1), (60, 500), (120, 90), (50, 30), (40, 4)])
def test_exactly_the_pairs_of_comparing_all_with_all(parts: int, count: int, free_bits: int) -> None:
    records = made(count + parts, count, free_bits)
    expected = all_with_all(records)
    found = found_in_parts(records, parts)
    assert first_pairs(found) == expected
    assert pair_counts(found) == tuple(sum(p.distance == d for p in expected) for d in range(MOST_DISTANCE + 1))
    assert not sum(part.not_compared for part in found)


def test_a_crowd_of_one_signature_is_bounded_and_what_was_not_compared_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(near_duplicates, "PAIRS_SHOWN", 7)
    (packed, _, _), *_ = made(0, 1, 1)
    records = [(packed, f"{n:032x}", n % 3) for n in range(3000)]
    found = found_in_parts(records, 2)
    assert 0 < sum(pair_counts(found)) <= 3000 * 50
    assert len(first_pairs(found)) == 7
    values = len(plain_values(packed))
    assert sum(part.not_compared for part in found) == values * sum(range(3000 - 50))


def phantom(seed: int, side: int = 160) -> Image.Image:
    rng = np.random.default_rng(seed)
    grays = draw_chest(Anatomy.draw(rng), None, (side, side), rng)
    return Image.fromarray((np.asarray(grays) / np.max(grays) * 235 + 10).astype(np.uint8))


def stored(image: Image.Image, format: str = "PNG", **options: int) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return signature(decode(file.getvalue(), ImageSettings()).pixels)


def changed(image: Image.Image, factor: float, offset: float) -> Image.Image:
    grays = np.asarray(image, np.float64) * factor + offset
    return Image.fromarray(grays.round().clip(0, 255).astype(np.uint8))


def cropped(image: Image.Image) -> Image.Image:
    margin = round(image.width * 0.02)
    return image.crop((margin, margin, image.width - margin, image.height - margin))


def resized(image: Image.Image, factor: float) -> Image.Image:
    side = round(image.width * factor)
    return image.resize((side, side), Image.Resampling.LANCZOS)


COPIES: dict[str, Callable[[Image.Image], bytes]] = {
    "quality 50": lambda image: stored(image, "JPEG", quality=50),
    "quality 95": lambda image: stored(image, "JPEG", quality=95),
    "smaller": lambda image: stored(resized(image, 0.4)),
    "larger": lambda image: stored(resized(image, 1.5)),
    "cropped": lambda image: stored(cropped(image)),
    "brighter": lambda image: stored(changed(image, 1.1, 0)),
    "darker": lambda image: stored(changed(image, 0.9, 0)),
    "more contrast": lambda image: stored(changed(image, 1.1, -12.75)),
    "less contrast": lambda image: stored(changed(image, 0.9, 12.75)),
    "bmp": lambda image: stored(image, "BMP"),
}


@pytest.fixture(scope="module")
def exposures() -> list[Image.Image]:
    return [phantom(seed) for seed in range(60)]


@pytest.mark.parametrize("kind", COPIES)
def test_copies_of_an_exposure_are_found(exposures: list[Image.Image], kind: str) -> None:
    originals = [(stored(image), f"{n:032x}", 0) for n, image in enumerate(exposures)]
    copies = [(COPIES[kind](image), f"{n:032x}", 1) for n, image in enumerate(exposures, 1000)]
    pairs = first_pairs(found_in_parts(originals + copies, 3))
    right = [pair for pair in pairs if int(pair.second_id, 16) - int(pair.first_id, 16) == 1000]
    assert right == pairs
    assert len(right) >= 57  # 95%


def test_other_exposures_are_not(exposures: list[Image.Image]) -> None:
    assert not first_pairs(found_in_parts([(stored(x), f"{n:032x}", n % 3) for n, x in enumerate(exposures)], 3))


def test_blank_and_regular_images_have_no_signature() -> None:
    stripes = np.tile(np.arange(64, dtype=np.uint8) * 3, (64, 1))[:, :, np.newaxis]
    for image in (np.full((64, 64, 1), 37, np.uint8), stripes):
        assert signature(image) == b""
    assert len(hashed([b"", signature(np.zeros((8, 8, 1), np.uint8))], ["0" * 32, "1" * 32])) == 0


def test_signs_follow_the_cosine_transform_and_brightness_does_not_change_them() -> None:
    image = np.asarray(phantom(1, 64))[:, :, np.newaxis] // 2
    packed = signature(image)
    assert len(packed) == SIGNATURE.itemsize == HASHED.itemsize - 16
    assert signature(image + 50)[:32] == packed[:32]
    cells = image[:, :, 0].astype(float).reshape(32, 2, 32, 2).mean((1, 3))
    cosines = np.cos(np.pi * np.outer(np.arange(18), (np.arange(32) + 0.5) / 32))
    transform = cosines @ cells @ cosines.T
    # The lowest orders are dealt to the words in turn: (0, 4), (1, 3), ... by radius, horizontal order first.
    orders = sorted(
        ((u, v) for u in range(18) for v in range(18) if u + v >= 4), key=lambda o: (o[0] ** 2 + o[1] ** 2, o)
    )[:256]
    bits = np.unpackbits(np.frombuffer(packed[:32], np.uint8)).reshape(4, 64)
    sure = [i for i, (u, v) in enumerate(orders) if abs(transform[v, u]) > 20]
    assert len(sure) > 50
    assert all(bits[i % 4, i // 4] == (transform[orders[i][1], orders[i][0]] > 0) for i in sure)
