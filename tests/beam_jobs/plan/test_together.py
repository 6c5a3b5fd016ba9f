"""`--near_duplicates_of`: copies named by an older data set go to one split, or one of them is left out."""

import itertools
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from beam_jobs.plan.together import Member, changes_of, lowest_in_chain
from beam_jobs.reading.manifest import require_manifest
from beam_jobs.reading.shards import read_examples
from schemas.identity import pseudonym
from tests.beam_jobs.leakage.test_near_duplicates import cropped, phantom
from tests.conftest import Result, files_of, manifest_of

Convert = Callable[..., Result]
KEY = b"0123456789abcdef"
GROUPS = ("--group_pattern", r"/(p\d+)_", "--validation_fraction", 0.3, "--test_fraction", 0.3)
PROCESSES = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")


def draw(folder: Path, name: str, seed: int, **options: Any) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    phantom(seed, 96).save(folder / name, **options)


@pytest.fixture
def carved(tmp_path: Path) -> Path:
    """Patients p10 to p29 with two images each. Every second patient also has a copy of an image of the next one: p10 of
    p11, ... p28 of p29. p10, p11 and p12 form a chain, because p12 has a cropped copy of the same image of p11."""
    raw = tmp_path / "raw"
    for patient, k in itertools.product(range(10, 30), range(2)):
        draw(raw, f"{label(patient)}/p{patient}_{k}.png", 2 * patient + k)
    for patient in range(10, 30, 2):
        draw(raw, f"{label(patient)}/p{patient}_copy.jpg", 2 * (patient + 1), quality=90)
    cropped(phantom(22, 96)).save(raw / label(12) / "p12_crop.png")
    return raw


def label(patient: int) -> str:
    return "NORMAL" if patient < 20 else "PNEUMONIA"


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """Images in each split and class. Two images of train have copies in test and one has a copy in val; one image of val
    has a copy in test."""
    raw = tmp_path / "raw"
    for n, (split, name) in enumerate(itertools.product(("train", "val", "test"), ("NORMAL", "PNEUMONIA"))):
        for k in range(6):
            draw(raw, f"{split}/{name}/{k}.png", 10 * n + k)
    draw(raw, "test/NORMAL/copy0.jpg", 0, quality=90)
    draw(raw, "test/NORMAL/copy1.jpg", 1, quality=80)
    draw(raw, "val/NORMAL/copy2.jpg", 2, quality=80)
    draw(raw, "test/PNEUMONIA/copy30.jpg", 30, quality=80)
    return raw


@pytest.fixture(params=["unkeyed", "keyed"])
def key(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[object, ...]:
    (tmp_path / "key").write_bytes(KEY)
    return ("--id_key_file", tmp_path / "key") if request.param == "keyed" else ()


def leaks_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "leakage.json").read_text())
    return content


def pairs_of(folder: Path) -> set[tuple[str, ...]]:
    return {tuple(sorted(pair["ids"])) for pair in leaks_of(folder)["near_duplicates_across_splits"]["pairs"]}


def records_of(folder: Path) -> dict[str, tuple[str, str]]:
    """id -> (split, group)"""
    manifest = require_manifest(str(folder))
    return {e.id: (split, e.group) for split in manifest.splits for e in read_examples(str(folder), manifest, split)}


def secret(key: tuple[object, ...]) -> bytes:
    return KEY if key else b""


def test_the_groups_of_copies_become_one_if_the_splits_are_carved(
    carved: Path, tmp_path: Path, convert: Convert, key: tuple[object, ...]
) -> None:
    assert convert(carved, tmp_path / "1", *GROUPS, *key).code == 0
    known = pairs_of(tmp_path / "1")
    before = records_of(tmp_path / "1")
    assert len(known) >= 4
    result = convert(carved, tmp_path / "2", *GROUPS, *key, "--near_duplicates_of", tmp_path / "1")
    assert result.code == 0, result.err
    after = records_of(tmp_path / "2")
    assert after.keys() == before.keys()
    assert not known & pairs_of(tmp_path / "2")

    names = {pseudonym("group", f"/p{n}", secret(key)): f"/p{n}" for n in range(10, 30)}
    links = [(names[before[one][1]], names[before[other][1]]) for one, other in known]
    for image, (split, group) in after.items():
        together = {names[before[image][1]]}
        while more := {n for link in links if together & {*link} for n in link} - together:
            together |= more
        assert names[group] == min(together)
        others = {at for other, at in after.items() if names[before[other][1]] in together}
        assert others == {(split, group)}
    manifest = manifest_of(tmp_path / "2")
    assert manifest["skipped"] == {}
    assert manifest["notes"] == {"near_duplicates_in_one_group": len({image for pair in known for image in pair})}


def test_the_copy_in_the_earlier_split_is_left_out_if_the_input_defines_the_splits(
    given: Path, tmp_path: Path, convert: Convert, key: tuple[object, ...]
) -> None:
    assert convert(given, tmp_path / "1", *key).code == 0
    known, before = pairs_of(tmp_path / "1"), records_of(tmp_path / "1")
    assert len(known) == 4
    result = convert(given, tmp_path / "2", *key, "--near_duplicates_of", tmp_path / "1")
    assert result.code == 0, result.err
    left_out = {
        pseudonym("id", name, secret(key))
        for name in ("train/NORMAL/0.png", "train/NORMAL/1.png", "train/NORMAL/2.png", "val/PNEUMONIA/0.png")
    }
    assert {image for image in before if image not in left_out} == records_of(tmp_path / "2").keys()
    assert pairs_of(tmp_path / "2") == set()
    manifest = manifest_of(tmp_path / "2")
    assert manifest["skipped"] == {"near_duplicate": 4}
    assert manifest["inputs"] == {"listed": 40, "written": 36, "quarantined": 0, "duplicates": 0, "skipped": 4}
    assert str(tmp_path) not in json.dumps(manifest)
    assert "+ 4 skipped (4 near_duplicate)" in result.out


def test_a_copy_in_train_is_also_left_out_if_validation_is_carved_from_train(
    given: Path, tmp_path: Path, convert: Convert
) -> None:
    shutil.rmtree(given / "val")
    assert convert(given, tmp_path / "1").code == 0
    assert convert(given, tmp_path / "2", "--near_duplicates_of", tmp_path / "1").code == 0
    before, after = records_of(tmp_path / "1"), records_of(tmp_path / "2")
    assert before.keys() - after.keys() == {pseudonym("id", f"train/NORMAL/{n}.png") for n in (0, 1)}
    assert manifest_of(tmp_path / "2")["skipped"] == {"near_duplicate": 2}
    assert {split for split, _ in after.values()} == {"train", "validation", "test"}
    assert pairs_of(tmp_path / "2") == set()


def test_the_next_version_keeps_the_same_copies_together(carved: Path, tmp_path: Path, convert: Convert) -> None:
    assert convert(carved, tmp_path / "1", *GROUPS).code == 0
    assert convert(carved, tmp_path / "2", *GROUPS, "--near_duplicates_of", tmp_path / "1").code == 0
    shutil.rmtree(tmp_path / "1")
    assert convert(carved, tmp_path / "3", *GROUPS, "--near_duplicates_of", tmp_path / "2").code == 0
    acted_on = [{tuple(ids) for ids in leaks_of(tmp_path / n)["near_duplicates_acted_on"]} for n in "23"]
    assert acted_on[1] == acted_on[0] | pairs_of(tmp_path / "2")
    assert not acted_on[1] & pairs_of(tmp_path / "3")


def test_worker_processes_give_the_same_bytes(carved: Path, tmp_path: Path, convert: Convert) -> None:
    assert convert(carved, tmp_path / "1", *GROUPS).code == 0
    flags = (*GROUPS, "--near_duplicates_of", tmp_path / "1")
    assert convert(carved, tmp_path / "one", *flags).code == 0
    assert convert(carved, tmp_path / "several", *flags, *PROCESSES).code == 0
    assert files_of(tmp_path / "one") == files_of(tmp_path / "several")


def test_an_old_data_set_without_pairs_changes_nothing(given: Path, tmp_path: Path, convert: Convert) -> None:
    for copy in given.rglob("copy*"):
        copy.unlink()
    assert convert(given, tmp_path / "1").code == 0
    assert convert(given, tmp_path / "2", "--near_duplicates_of", tmp_path / "1").code == 0
    assert records_of(tmp_path / "1") == records_of(tmp_path / "2")


def test_the_number_of_pairs_that_were_not_named_is_reported(given: Path, tmp_path: Path, convert: Convert) -> None:
    assert convert(given, tmp_path / "1").code == 0
    leaks = leaks_of(tmp_path / "1")
    leaks["near_duplicates_across_splits"]["total"] += 1_000
    (tmp_path / "1/leakage.json").write_text(json.dumps(leaks))
    result = convert(given, tmp_path / "2", "--near_duplicates_of", tmp_path / "1")
    assert result.code == 0
    assert "noted: 1,000 near_duplicates_not_named" in result.out


def test_a_dry_run_reports_what_is_left_out(given: Path, tmp_path: Path, convert: Convert) -> None:
    assert convert(given, tmp_path / "1").code == 0
    result = convert(given, tmp_path / "2", "--near_duplicates_of", tmp_path / "1", "--dry_run")
    assert "inputs: 40 listed = 36 to convert + 0 duplicates + 4 skipped (4 near_duplicate)" in result.out
    assert not (tmp_path / "2").exists()


def test_a_quarantine_is_retried_only_with_the_same_pairs(carved: Path, tmp_path: Path, convert: Convert) -> None:
    assert convert(carved, tmp_path / "1", *GROUPS).code == 0
    whole = (carved / "NORMAL/p13_0.png").read_bytes()
    (carved / "NORMAL/p13_0.png").write_bytes(whole[:-500])
    near = ("--near_duplicates_of", tmp_path / "1")
    assert convert(carved, tmp_path / "2", *GROUPS, *near, "--max_reject_fraction", 0.1).code == 0
    (carved / "NORMAL/p13_0.png").write_bytes(whole)
    retry = ("--retry_quarantine", tmp_path / "2")
    refused = convert(carved, tmp_path / "3", *retry)
    assert (refused.code, "was made with --near_duplicates_of; give the same" in refused.error) == (2, True)
    refused = convert(carved, tmp_path / "3", *retry, "--near_duplicates_of", tmp_path / "2")
    assert (refused.code, "or --near_duplicates_of" in refused.error) == (2, True)
    refused = convert(carved, tmp_path / "3", "--retry_quarantine", tmp_path / "1", *near)
    assert (refused.code, "was made without --near_duplicates_of; omit it" in refused.error) == (2, True)
    result = convert(carved, tmp_path / "3", *retry, *near)
    assert result.code == 0, result.err
    assert convert(carved, tmp_path / "full", *GROUPS, *near).code == 0
    assert files_of(tmp_path / "3") == files_of(tmp_path / "full")


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


def test_a_chain_of_links_leads_to_its_lowest_name() -> None:
    rng = random.Random(0)
    for links_number in (0, 1, 5, 30, 60):
        links = [(f"{rng.randrange(60):02}", f"{rng.randrange(60):02}") for _ in range(links_number)]
        found = lowest_in_chain(links)
        for name in {name for link in links for name in link}:
            reached = {name}
            for _ in range(60):
                reached |= {end for link in links if reached & {*link} for end in link}
            assert found[name] == min(reached)


def test_copies_are_joined_or_left_out_depending_on_their_splits() -> None:
    splits = ("", "train", "validation", "test")
    for one, other in itertools.product(splits, splits):
        changes = changes_of([Member("a", "A", "g", one), Member("b", "B", "h", other)], [("a", "b")])
        later = {"": 0, "train": 0, "validation": 1, "test": 2}
        if later[one] == later[other] == 0:
            assert changes == ({"h": "g"}, frozenset(), 2)
        else:
            expected = {"A"} if later[one] < later[other] else {"B"} if later[other] < later[one] else set()
            assert changes == ({}, frozenset(expected), 0)


def test_a_chain_is_one_exposure_even_through_an_image_that_is_gone() -> None:
    pairs = [("a", "x"), ("b", "x"), ("c", "d")]
    assert changes_of([Member("a", "A", "g", ""), Member("b", "B", "f", "")], pairs).groups == {"g": "f"}
    found = [Member("a", "A", "g", "train"), Member("b", "B", "f", "train"), Member("x", "X", "h", "test")]
    assert changes_of(found, pairs) == ({}, frozenset({"A", "B"}), 0)
    assert changes_of([Member("c", "C", "g", "")], pairs) == ({}, frozenset(), 0)
