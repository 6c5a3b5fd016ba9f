"""The plan: sampling, the number of shards, and the shard of each image."""

import pytest

from beam_jobs.elements import Plan, Reference
from beam_jobs.passing.blocks import blocks
from beam_jobs.passing.tally import PROBLEMS, SKIPPED, TALLY, AddUp, Count, problem_line
from beam_jobs.plan import plan, sampling
from schemas.errors import UsageError
from schemas.identity import pseudonym, uniform
from tests.beam_jobs.made import config, source
from tests.beam_jobs.small_pipeline import outputs_of


@pytest.mark.parametrize(("fraction", "limit", "kept"), [(0.25, 0, None), (1.0, 7, 7), (0.5, 7, 7), (0.01, 50, None)])
def test_sampling_is_by_hash_and_counts_what_is_left_out(fraction: float, limit: int, kept: int | None) -> None:
    sources = [source(f"image{n}") for n in range(200)]
    keys = sorted((uniform(0, "sample", s.path), s.path) for s in sources)
    expected = [path for key, path in keys if key < fraction][: limit or None]
    if kept:
        assert len(expected) == kept
    result = outputs_of(sampling.Sample(config(sample_fraction=fraction, limit=limit)), blocks(sources, 30))
    assert sorted(source.path for block in result["sources"] for source in block) == sorted(expected)
    assert {(count.kind, count.what) for count in result[TALLY]} == {(SKIPPED, "not_sampled")}
    assert sum(count.number for count in result[TALLY]) == 200 - len(expected)


def test_shards_keep_workers_busy_in_small_sets_and_are_about_100_mib_in_large_ones() -> None:
    assert plan.shard_count(1, config()) == 1
    assert plan.shard_count(4_700, config()) == 16
    ten_million = plan.shard_count(10_000_000, config())
    assert 64 << 20 < 10_000_000 * 4_241 / ten_million < 128 << 20
    assert plan.shard_count(10_000_000, config(shards=5)) == 5


def test_every_reference_gets_a_shard_of_its_split() -> None:
    made = Plan(("A",), {"train": {"A": 500}}, {"train": 4}, 0, {}, {})
    references = [Reference(source(str(n)), pseudonym("id", str(n)), "", "train") for n in range(500)]
    keys = [plan.shard_of(reference, made, seed=0) for reference in references]
    assert {key for key, _ in plan.empty_shards(made)} == set(keys)
    assert all(90 < keys.count(("train", index)) < 160 for index in range(4))


@pytest.mark.parametrize(
    ("counts", "says"),
    [
        ({}, "contains no image"),
        ({("train", "A"): 3, ("validation", "A"): 3}, "only one class"),
        ({("train", "A"): 3, ("train", "B"): 3}, "no image for the validation split"),
        ({("validation", "A"): 3, ("test", "B"): 3}, "no image for the train split"),
    ],
)
def test_a_set_without_enough_images_or_classes_is_refused(counts: dict[tuple[str, str], int], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        plan.plan_of(config(), counts, 0, {}, {})


def test_the_first_problems_are_listed_and_the_others_are_counted() -> None:
    adder = AddUp()
    parts = [adder.create_accumulator() for _ in range(3)]
    for n in range(20):
        adder.add_input(parts[n % 3], Count(PROBLEMS, f"problem {n:02}", 1))
    found = adder.extract_output(adder.merge_accumulators(parts))
    assert problem_line(found[PROBLEMS]) == "problem 00; problem 01; problem 02; and 17 more"
    few = adder.add_input(adder.create_accumulator(), Count(PROBLEMS, "only one", 1))
    assert problem_line(adder.extract_output(few)[PROBLEMS]) == "only one"
