"""Near-duplicates: the search compared with plain loops over all pairs, and its results on drawn radiographs."""

import io
import itertools
import random
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from beam_jobs.leakage import crowds, near_duplicates
from beam_jobs.leakage.crowds import HASHED
from beam_jobs.leakage.near_duplicates import (
    MOST_DISTANCE,
    MOST_MEETING,
    Found,
    Pair,
    hashed,
    merged,
    pairs_of,
    search,
    spread,
)
from beam_jobs.leakage.signature import KEY_BITS, SIGNATURE, signatures
from beam_jobs.phantom import Anatomy, draw_chest
from schemas.pixels.decode import decode
from schemas.pixels.settings import ImageSettings

Records = list[tuple[bytes, str, int]]  # signature, id, split


def found_in_parts(records: Records, parts: int, shard: int = 40, most_meeting: int = MOST_MEETING) -> Found:
    """Searches these records as the job does, in shards of `shard` records, but without a runner."""
    none = np.zeros(0, crowds.ROW)
    by_part: dict[int, list[list[crowds.Rows]]] = {}
    for split in range(3):
        of_split = [(s, i) for s, i, at in records if at == split]
        for start in range(0, len(of_split), shard):
            for part, some in spread(hashed(*zip(*of_split[start : start + shard], strict=True)), parts):
                by_part.setdefault(part, [[none], [none], [none]])[split].append(some)
    return merged(
        search(part, parts, [np.concatenate(rows) for rows in splits], most_meeting)
        for part, splits in sorted(by_part.items())
    )


def parts_of(packed: bytes) -> list[int]:
    """The signs of the whole image and of its two cropped versions."""
    return [int.from_bytes(packed[at : at + 32], "big") for at in (0, 32, 64)]


def plain_values(packed: bytes) -> set[tuple[int, int]]:
    """The (word, key) values by which a record is found."""
    values = set()
    for word in range(4):
        plain, *cropped = (signs >> 64 * (3 - word) & (1 << 64) - 1 for signs in parts_of(packed))
        turned = [plain ^ 1 << packed[96 + 2 * word + k] for k in range(2)]
        values |= {(word, value & KEY_BITS) for value in (plain, *turned, *cropped)}
    return values


def plain_distance(one: bytes, other: bytes) -> int:
    (plain, *cropped), (plain_other, *cropped_other) = parts_of(one), parts_of(other)
    ways = [(plain, plain_other), *((plain, c) for c in cropped_other), *((c, plain_other) for c in cropped)]
    return min(bin(a ^ b).count("1") for a, b in ways)


def all_with_all(records: Records) -> list[Pair]:
    pairs = []
    for one, other in itertools.combinations(records, 2):
        (s, first, a), (t, second, b) = sorted((one, other), key=lambda record: record[2])
        distance = plain_distance(s, t)
        if a != b and distance <= MOST_DISTANCE and plain_values(s) & plain_values(t):
            pairs.append(Pair(distance, first, second, a, b))
    return sorted(pairs)


def made(seed: int, count: int, free_bits: int) -> Records:
    """Records whose signatures differ in only `free_bits` places: few give many pairs, very few give equal signatures."""
    rng = random.Random(seed)
    base = rng.getrandbits(768)
    places = rng.sample(range(768), free_bits)
    weak = bytes(rng.sample([bit for bit in range(64) if KEY_BITS >> bit & 1], 8))
    records = []
    for _ in range(count):
        flips = sum(1 << place for place in places if rng.random() < 0.5)
        records.append(((base ^ flips).to_bytes(96, "big") + weak, f"{rng.getrandbits(128):032x}", rng.randrange(3)))
    return records


@pytest.mark.parametrize("parts", [1, 3, 40])
@pytest.mark.parametrize(
    ("count", "free_bits"), [(0, 1), (1, 1), (2, 1), (60, 700), (120, 120), (50, 40), (40, 4), (90, 0), (150, 2)]
)
def test_the_search_finds_exactly_the_pairs_of_a_full_comparison(parts: int, count: int, free_bits: int) -> None:
    records = made(count + parts, count, free_bits)
    expected = all_with_all(records)
    found = found_in_parts(records, parts)
    assert pairs_of(found) == expected
    assert found.by_distance == tuple(sum(p.distance == d for p in expected) for d in range(MOST_DISTANCE + 1))
    assert found.not_compared == 0


@pytest.mark.parametrize("free_bits", [0, 3, 60])
def test_only_the_first_pairs_are_named_if_there_are_too_many(monkeypatch: pytest.MonkeyPatch, free_bits: int) -> None:
    monkeypatch.setattr(near_duplicates, "PAIRS_SHOWN", 25)
    records = made(5, 80, free_bits)
    found = found_in_parts(records, 7)
    expected = all_with_all(records)
    assert sum(found.by_distance) == len(expected)
    named = pairs_of(found)
    assert len(named) == 25
    assert {*named} <= {*expected}
    assert [p.distance for p in named] == [p.distance for p in expected[:25]]
    if free_bits == 60:  # no two are equal
        assert named == expected[:25]


def test_all_pairs_of_equal_signatures_are_counted_but_only_the_first_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(crowds, "MOST_NAMED", 4)
    (packed, _, _), (other, _, _) = made(0, 2, 700)
    near = packed[:31] + bytes([packed[31] ^ 1]) + packed[32:]
    sizes = ((packed, 0, 900), (packed, 1, 50), (packed, 2, 7), (near, 0, 2), (near, 1, 300), (other, 2, 40))
    records = [
        (signature, f"{n:032x}", split)
        for n, (signature, split) in enumerate((s, at) for s, at, size in sizes for _ in range(size))
    ]
    random.Random(0).shuffle(records)
    found = found_in_parts(records, 5)
    assert found.by_distance[0] == 900 * 50 + 900 * 7 + 50 * 7 + 2 * 300
    assert found.by_distance[1] == 957 * 302 - 900 * 2 - 50 * 300
    assert found.not_compared == sum(found.by_distance[2:]) == 0
    firsts = [
        sorted(i for s, i, at in records if s == signature and at == split)[:4] for signature, split, _ in sizes[:-1]
    ]
    equal = [(0, a, b) for x, y in ((0, 1), (0, 2), (1, 2), (3, 4)) for a in firsts[x] for b in firsts[y]]
    alike = [(1, a, b) for x, y in ((0, 4), (3, 1), (3, 2), (4, 2)) for a in firsts[x] for b in firsts[y]]
    assert [pair[:3] for pair in pairs_of(found)] == sorted(equal) + sorted(alike)


def test_comparisons_of_similar_signatures_are_limited_and_those_left_out_are_counted() -> None:
    free = [word * 64 + bit for word in range(4) for bit in range(64) if not KEY_BITS >> bit & 1]
    rng = random.Random(3)
    (packed, _, _), *_ = made(0, 1, 1)
    base = int.from_bytes(packed[:32], "big")
    records = []
    for n in range(600):
        flips = sum(1 << bit for bit in rng.sample(free, 10))
        records.append(((base ^ flips).to_bytes(32, "big") + packed[32:], f"{n:032x}", n % 3))
    values = len(plain_values(packed))
    assert len({record[0] for record in records}) == 600
    assert sum(found_in_parts(records, 2).by_distance) == 3 * 200 * 200
    found = found_in_parts(records, 2, most_meeting=100)
    compared = sum(min(20, 599 - n) for n in range(600))
    assert found.not_compared == values * (600 * 599 // 2 - compared)
    assert compared / 2 < sum(found.by_distance) < compared


def phantom(seed: int, side: int = 160) -> Image.Image:
    rng = np.random.default_rng(seed)
    grays = draw_chest(Anatomy.draw(rng), None, (side, side), rng)
    return Image.fromarray((np.asarray(grays) / np.max(grays) * 235 + 10).astype(np.uint8))


def stored(image: Image.Image, format: str = "PNG", resize_mode: str = "stretch", **options: int) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    settings = ImageSettings(resize_mode=resize_mode)
    return signatures([decode(file.getvalue(), settings).pixels], settings.letterboxed)[0]


def changed(image: Image.Image, factor: float, offset: float) -> Image.Image:
    grays = np.asarray(image, np.float64) * factor + offset
    return Image.fromarray(grays.round().clip(0, 255).astype(np.uint8))


def cropped(image: Image.Image, fraction: float = 0.02) -> Image.Image:
    x, y = round(image.width * fraction), round(image.height * fraction)
    return image.crop((x, y, image.width - x, image.height - y))


def resized(image: Image.Image, factor: float) -> Image.Image:
    return image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.LANCZOS)


COPIES: dict[str, Callable[[Image.Image], bytes]] = {
    "quality 50": lambda image: stored(image, "JPEG", quality=50),
    "quality 95": lambda image: stored(image, "JPEG", quality=95),
    "smaller": lambda image: stored(resized(image, 0.4)),
    "larger": lambda image: stored(resized(image, 1.5)),
    "cropped": lambda image: stored(cropped(image)),
    "cropped a little": lambda image: stored(cropped(image, 0.01)),
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
    pairs = pairs_of(found_in_parts(originals + copies, 3))
    right = [pair for pair in pairs if int(pair.second_id, 16) - int(pair.first_id, 16) == 1000]
    assert right == pairs
    assert len(right) >= 57  # 95%


def test_different_exposures_are_not_paired(exposures: list[Image.Image]) -> None:
    assert not pairs_of(found_in_parts([(stored(x), f"{n:032x}", n % 3) for n, x in enumerate(exposures)], 3))


@pytest.mark.parametrize("aspect", [0.5, 0.73, 1.37, 2.0])
def test_letterbox_bars_neither_create_nor_hide_pairs(exposures: list[Image.Image], aspect: float) -> None:
    long = [image.resize((round(image.width * aspect), image.height)) for image in exposures]
    originals = [(stored(image, resize_mode="letterbox"), f"{n:032x}", n % 2) for n, image in enumerate(long)]
    copies = [
        (stored(resized(image, 0.61), "JPEG", "letterbox", quality=80), f"{n:032x}", 2)
        for n, image in enumerate(long, 1000)
    ]
    pairs = pairs_of(found_in_parts(originals + copies, 3))
    right = [pair for pair in pairs if int(pair.second_id, 16) - int(pair.first_id, 16) == 1000]
    assert right == pairs
    assert len(right) >= 57


def test_blank_images_gradients_and_tiny_images_have_no_signature() -> None:
    stripes = np.tile(np.arange(64, dtype=np.uint8) * 3, (64, 1))[:, :, np.newaxis]
    for image in (np.full((64, 64, 1), 37, np.uint8), stripes):
        assert signatures([image], False) == [b""]
    assert len(hashed([b"", *signatures([np.zeros((8, 8, 1), np.uint8)], False)], ["0" * 32, "1" * 32])) == 0


@pytest.mark.parametrize(("side", "letterboxed"), [(64, False), (64, True), (17, False)])
def test_a_signature_does_not_depend_on_the_other_images(side: int, letterboxed: bool) -> None:
    images = [np.asarray(phantom(seed, side))[:, :, np.newaxis].copy() for seed in range(5)]
    images[1][:3], images[1][-3:] = 0, 0
    images[2][:] = 9
    together = signatures(images, letterboxed)
    assert together == [signatures([image], letterboxed)[0] for image in images]
    assert len({*together}) == 5


def test_signs_follow_the_cosine_transform_and_do_not_depend_on_brightness() -> None:
    image = np.asarray(phantom(1, 64))[:, :, np.newaxis] // 2
    (packed,) = signatures([image], False)
    assert len(packed) == SIGNATURE.itemsize == HASHED.itemsize - 16
    assert signatures([image + 50], False)[0][:32] == packed[:32]
    cells = image[:, :, 0].astype(float).reshape(32, 2, 32, 2).mean((1, 3))
    cosines = np.cos(np.pi * np.outer(np.arange(18), (np.arange(32) + 0.5) / 32))
    transform = cosines @ cells @ cosines.T
    # The lowest orders are assigned to the words in turn: (0, 4), (1, 3), ... by radius, horizontal order first.
    orders = sorted(
        ((u, v) for u in range(18) for v in range(18) if u + v >= 4), key=lambda o: (o[0] ** 2 + o[1] ** 2, o)
    )[:256]
    bits = np.unpackbits(np.frombuffer(packed[:32], np.uint8)).reshape(4, 64)
    sure = [i for i, (u, v) in enumerate(orders) if abs(transform[v, u]) > 20]
    assert len(sure) > 50
    assert all(bits[i % 4, i // 4] == (transform[orders[i][1], orders[i][0]] > 0) for i in sure)
