"""Splits, given or carved by group, compared with a plain computation in memory."""

import pytest

from beam_jobs.passing.blocks import Block, blocks
from beam_jobs.passing.tally import PROBLEMS, TALLY
from beam_jobs.plan.splits import AssignSplits, FewGroups, split_table
from schemas.identity import uniform
from schemas.source import UNASSIGNED
from tests.beam_jobs.made import config, source
from tests.beam_jobs.small_pipeline import outputs_of


@pytest.mark.parametrize("groups", [2, 3, 5, 10, 100, 1000])
@pytest.mark.parametrize(("validation", "test"), [(0.1, 0.0), (0.1, 0.1), (0.5, 0.4), (0.9, 0.0)])
def test_carving_leaves_no_split_empty_and_meets_the_fractions(groups: int, validation: float, test: float) -> None:
    few = {label: [f"{label}{n}" for n in range(groups)] for label in "AB"}
    table = split_table((set(), few), config(validation_fraction=validation, test_fraction=test))
    for label in "AB":
        splits = [split for group, split in table.groups.items() if group.startswith(label)]
        assert splits.count("train") >= 1
        assert splits.count("validation") >= 1
        assert bool(splits.count("test")) == (test > 0 and groups > 2)
        if groups >= 100:
            assert abs(splits.count("validation") / groups - validation) < 0.011
            assert abs(splits.count("test") / groups - test) < 0.011


def test_a_split_that_the_input_defines_is_not_carved() -> None:
    found = split_table(({"train", "validation"}, {}), config(test_fraction=0.2))
    assert (found.validation, found.test) == (0.0, 0.2)
    found = split_table(({"train", "test"}, {}), config(test_fraction=0.2))
    assert (found.validation, found.test) == (0.1, 0.0)


def test_splits_follow_groups_and_match_a_plain_computation() -> None:
    sources = [source(f"{g}/{n}", group=f"g{g}", label="AB"[g % 2]) for g in range(40) for n in range(3)]
    expected: dict[str, str] = {}
    for label in "AB":
        groups = sorted({s.group for s in sources if s.label == label}, key=lambda g: uniform(7, "split", g))
        expected |= {group: "validation" if place < 5 else "train" for place, group in enumerate(groups)}
    result = outputs_of(AssignSplits(config(seed=7, validation_fraction=0.25)), blocks(sources, 7))
    found = [(r.source.path, r.split) for block in result["references"] for r in block]
    assert sorted(found) == sorted((s.path, expected[s.group]) for s in sources)
    assert result[TALLY] == []


def test_large_classes_are_carved_by_hash() -> None:
    sources = [source(f"{n}", label="A" if n % 10 else "B") for n in range(400)]
    assigned = outputs_of(AssignSplits(config(validation_fraction=0.25), exact_groups=50), blocks(sources, 30))
    references = [r for block in assigned["references"] for r in block]
    by_hash = {
        s.path: "validation" if uniform(0, "split", s.path) < 0.25 else "train" for s in sources if s.label == "A"
    }
    assert {r.source.path: r.split for r in references if r.source.label == "A"} == by_hash
    assert [r.split for r in references if r.source.label == "B"].count("validation") == 10
    assert len(references) == 400


def test_merged_accumulators_equal_a_single_one() -> None:
    combine = FewGroups(seed=0)
    sources = [source(f"{n}", split=("train", "test", UNASSIGNED)[n % 3], label="AB"[n % 2]) for n in range(60)]
    parts = []
    for part in range(4):
        accumulator = combine.create_accumulator()
        for made in blocks(sources[part::4], 4):
            accumulator = combine.add_input(accumulator, made)
        parts.append(accumulator)
    whole = combine.add_input(combine.create_accumulator(), Block(sources))
    assert combine.extract_output(combine.merge_accumulators(parts)) == combine.extract_output(whole)


def test_a_group_in_two_given_splits_is_a_problem() -> None:
    sources = [source("a", "train", group="/p1"), source("b", "test", group="/p1"), source("c", "train", group="/p2")]
    (count,) = outputs_of(AssignSplits(config(validation_fraction=0.0)), [Block(sources)])[TALLY]
    assert count.kind == PROBLEMS
    assert "'p1' is in train and test" in count.what
