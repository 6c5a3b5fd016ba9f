"""`--near_duplicates_of` with pairs that cannot be acted on."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.beam_jobs.plan.conftest import KEY
from tests.beam_jobs.plan.test_together import leaks_of
from tests.conftest import Result

Convert = Callable[..., Result]


def test_pairs_that_cannot_be_acted_on_are_refused(given: Path, tmp_path: Path, convert: Convert) -> None:
    def refusal(*flags: object, source: Path = given) -> str:
        result = convert(source, tmp_path / "2", "--near_duplicates_of", tmp_path / "1", *flags)
        assert result.code == 2
        assert not (tmp_path / "2").exists()
        return result.error

    assert f"{tmp_path}/1 is not a data set" in refusal()
    assert convert(given, tmp_path / "1").code == 0
    (tmp_path / "key").write_bytes(KEY)
    assert "has unkeyed ids; omit --id_key_file" in refusal("--id_key_file", tmp_path / "key")
    shutil.copytree(given, tmp_path / "elsewhere/raw")
    assert "its leakage.json names none of the inputs" in refusal(source=tmp_path / "elsewhere")
    same = convert(given, tmp_path / "1", "--near_duplicates_of", tmp_path / "1", "--overwrite")
    assert (same.code, "is also --output" in same.error) == (2, True)
    (tmp_path / "1/leakage.json").unlink()
    assert "has no leakage.json; convert it again" in refusal()
    (tmp_path / "1/leakage.json").mkdir()
    assert "cannot read" in refusal()


def test_pairs_of_keyed_ids_need_the_same_key(given: Path, tmp_path: Path, convert: Convert) -> None:
    (tmp_path / "key").write_bytes(KEY)
    (tmp_path / "other").write_bytes(KEY[::-1])
    assert convert(given, tmp_path / "1", "--id_key_file", tmp_path / "key").code == 0
    near = ("--near_duplicates_of", tmp_path / "1")
    refused = convert(given, tmp_path / "2", *near)
    assert (refused.code, "has keyed ids; give the same --id_key_file" in refused.error) == (2, True)
    refused = convert(given, tmp_path / "2", *near, "--id_key_file", tmp_path / "other")
    assert (refused.code, "its leakage.json names none of the inputs" in refused.error) == (2, True)


def test_pairs_from_an_older_release_are_refused(given: Path, tmp_path: Path, convert: Convert) -> None:
    assert convert(given, tmp_path / "1").code == 0
    leaks = leaks_of(tmp_path / "1")
    leaks["near_duplicates_across_splits"]["measure"] = "64-bit difference hashes of the stored pixels, Hamming ..."
    (tmp_path / "1/leakage.json").write_text(json.dumps(leaks))
    refused = convert(given, tmp_path / "2", "--near_duplicates_of", tmp_path / "1")
    assert refused.code == 2
    assert "whose pairs look alike but need not be copies; convert that data set again" in refused.error


def test_a_report_with_any_kind_of_damage_is_refused(given: Path, tmp_path: Path, convert: Convert) -> None:
    assert convert(given, tmp_path / "1").code == 0
    path = tmp_path / "1/leakage.json"
    whole = path.read_text()
    leaks = json.loads(whole)
    near = leaks["near_duplicates_across_splits"]
    pair = near["pairs"][0]
    odd: list[Any] = [None, 1, 1.5, True, "x", "", [], {}, [[]], {"ids": 3}, [None], -1]
    damaged = [whole[:-40], "", "\0", "[" * 100_000, "9" * 5000, *map(json.dumps, odd)]
    for value in odd:
        damaged.append(json.dumps({**leaks, "near_duplicates_across_splits": value}))
        damaged += [json.dumps({**leaks, "near_duplicates_across_splits": {**near, "total": value}})]
        if not isinstance(value, str):
            damaged += [json.dumps({**leaks, "near_duplicates_across_splits": {**near, "measure": value}})]
        if value != []:
            damaged += [
                json.dumps({**leaks, "near_duplicates_across_splits": {**near, "pairs": value}}),
                json.dumps({**leaks, "near_duplicates_acted_on": value}),
            ]
        for ids in (value, [value], [pair["ids"][0], value], [*pair["ids"], value]):
            broken = {**near, "pairs": [{**pair, "ids": ids}]}
            damaged.append(json.dumps({**leaks, "near_duplicates_across_splits": broken}))
    for text in damaged:
        path.write_text(text)
        refused = convert(given, tmp_path / "2", "--near_duplicates_of", tmp_path / "1")
        assert (refused.code, "is damaged" in refused.error) == (2, True), text[:300]
