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
from tests.beam_jobs.plan.conftest import KEY
from tests.conftest import Result, files_of, manifest_of

Convert = Callable[..., Result]
GROUPS = ("--group_pattern", r"/(p\d+)_", "--validation_fraction", 0.3, "--test_fraction", 0.3)
PROCESSES = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")


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
