"""Leakage between splits, as a conversion reports it."""

import base64
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from beam_jobs.leakage.near_duplicates import MOST_DISTANCE
from beam_jobs.leakage.signature import signatures
from beam_jobs.passing.tally import OVERLAPS, AddUp, Count
from beam_jobs.reading.manifest import require_manifest
from beam_jobs.reading.shards import read_examples
from schemas.identity import pseudonym
from tests.beam_jobs.leakage.test_near_duplicates import phantom, plain_distance, plain_values
from tests.conftest import Result, files_of, labelled, manifest_of, write_images

Convert = Callable[..., Result]


def drawn(seed: int) -> NDArray[np.uint8]:
    return np.asarray(phantom(seed, 96))


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """40 different images in each split. Three training images are also in test: the same pixels in another file format,
    saved with loss, and darker. A fourth is in train twice, which is no leak."""
    for n, (split, label) in enumerate(itertools.product(("train", "val", "test"), ("NORMAL", "PNEUMONIA"))):
        folder = tmp_path / "raw" / split / label
        folder.mkdir(parents=True)
        for k in range(20):
            Image.fromarray(drawn(100 * n + k)).save(folder / f"{k}.png")
    test = tmp_path / "raw/test/NORMAL"
    Image.fromarray(drawn(0)).save(test / "same.bmp")
    Image.fromarray(drawn(1)).save(test / "saved again.jpg", quality=90)
    Image.fromarray((drawn(2) * 0.8).astype(np.uint8)).save(test / "darker.png")
    Image.fromarray(drawn(3)).save(tmp_path / "raw/train/NORMAL/twice.bmp")
    return tmp_path / "raw"


def leakage_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "leakage.json").read_text())
    return content


def compared_one_by_one(folder: Path) -> list[dict[str, Any]]:
    manifest = require_manifest(str(folder))
    records = [
        (split, example.id, signatures([example.image], manifest.image.letterboxed)[0])
        for split in manifest.splits
        for example in read_examples(str(folder), manifest, split)
    ]
    pairs = []
    for (a, first, h), (b, second, g) in itertools.combinations(records, 2):
        distance = plain_distance(h, g)
        if a != b and distance <= MOST_DISTANCE and plain_values(h) & plain_values(g):
            pairs.append({"distance": distance, "ids": [first, second], "splits": [a, b]})
    return sorted(pairs, key=lambda pair: (pair["distance"], pair["ids"]))


def test_near_duplicates_across_splits_are_reported_but_are_not_an_error(
    raw: Path, tmp_path: Path, convert: Convert
) -> None:
    result = convert(raw, tmp_path / "out", "--shards", 3)
    assert result.code == 0, result.err
    near = leakage_of(tmp_path / "out")["near_duplicates_across_splits"]
    assert near["pairs"] == compared_one_by_one(tmp_path / "out")
    assert near["total"] == near["shown"] == len(near["pairs"]) == sum(near["by_distance"].values())
    again = {"same.bmp": "0.png", "saved again.jpg": "1.png", "darker.png": "2.png"}
    planted = {
        (pseudonym("id", f"train/NORMAL/{one}"), pseudonym("id", f"test/NORMAL/{other}"))
        for other, one in again.items()
    }
    assert {tuple(pair["ids"]) for pair in near["pairs"]} == planted
    assert near["not_compared"] == 0
    assert "3 pairs of near-duplicates across splits; see leakage.json" in result.out
    assert "leaks: 0 groups in several splits, 0 byte-identical images across splits and 0 across labels" in result.out


def test_the_report_is_the_same_after_an_interruption(raw: Path, tmp_path: Path, convert: Convert) -> None:
    (raw / "train/NORMAL/broken.png").write_bytes(b"")
    assert convert(raw, tmp_path / "stopped", "--max_reject_fraction", 0).code == 1
    marks = list((tmp_path / "stopped/_work/r1").glob("*.tfrecord-*.json"))
    assert marks
    assert convert(raw, tmp_path / "stopped", "--max_reject_fraction", 0.1).code == 0
    assert convert(raw, tmp_path / "whole", "--max_reject_fraction", 0.1).code == 0
    assert leakage_of(tmp_path / "stopped") == leakage_of(tmp_path / "whole")
    assert leakage_of(tmp_path / "whole")["near_duplicates_across_splits"]["total"] >= 3


def of_the_previous_release(mark: dict[str, Any]) -> None:
    mark["hashes"] = mark.pop("signatures")


def of_other_signatures(mark: dict[str, Any]) -> None:
    mark["signatures"] = base64.b64encode(base64.b64decode(mark["signatures"])[:-32]).decode()


@pytest.mark.parametrize("change", [of_the_previous_release, of_other_signatures])
def test_a_shard_marked_by_another_release_is_written_again(
    raw: Path, tmp_path: Path, convert: Convert, change: Callable[[dict[str, Any]], None]
) -> None:
    (raw / "train/NORMAL/broken.png").write_bytes(b"")
    assert convert(raw, tmp_path / "stopped", "--max_reject_fraction", 0).code == 1
    for path in (tmp_path / "stopped/_work/r1").glob("*.tfrecord-*.json"):
        mark = json.loads(path.read_text())
        change(mark)
        path.write_text(json.dumps(mark))
    assert convert(raw, tmp_path / "stopped", "--max_reject_fraction", 0.1).code == 0
    assert convert(raw, tmp_path / "whole", "--max_reject_fraction", 0.1).code == 0
    assert files_of(tmp_path / "stopped") == files_of(tmp_path / "whole")


def test_groups_in_several_splits_are_listed_by_pseudonym_if_allowed(tmp_path: Path, convert: Convert) -> None:
    names = [*labelled(4, "train", "val", "test")]
    names += ["train/NORMAL/p1_1.png", "test/NORMAL/p1_2.png", "val/NORMAL/p2_1.png", "test/NORMAL/p2_2.png"]
    raw = write_images(tmp_path / "raw", names)
    flags = ("--group_pattern", r"(p\d+)_")
    refused = convert(raw, tmp_path / "out", *flags)
    assert refused.code == 1
    assert "--allow_group_overlap" in refused.error
    result = convert(raw, tmp_path / "out", *flags, "--allow_group_overlap")
    assert result.code == 0, result.err
    found = leakage_of(tmp_path / "out")["groups_in_several_splits"]
    p1, p2 = (pseudonym("group", f"/p{n}") for n in (1, 2))
    expected = [
        {"group": name, "splits": splits}
        for name, splits in sorted([(p1, ["train", "test"]), (p2, ["validation", "test"])])
    ]
    assert found == {"allowed": True, "total": 2, "groups": expected}
    assert "leaks: 2 groups in several splits" in result.out
    assert manifest_of(tmp_path / "out")["settings"]["allow_group_overlap"] is True


def test_all_overlaps_are_counted_but_only_the_first_are_kept() -> None:
    adder = AddUp()
    parts = [adder.create_accumulator() for _ in range(3)]
    for n in range(2500):
        adder.add_input(parts[n % 3], Count(OVERLAPS, f"{n:04}", 1))
    found = adder.extract_output(adder.merge_accumulators(parts))[OVERLAPS]
    assert found.pop("") == 2500
    assert sorted(found) == [f"{n:04}" for n in range(1000)]
