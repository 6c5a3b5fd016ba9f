"""Rows about a study and rows about its images become one row for each image."""

import re

import pytest
from apache_beam.pvalue import TaggedOutput

from beam_jobs.discover.published_tables import ROWS, Named
from beam_jobs.discover.studies import join_studies
from beam_jobs.discover.tables import Row
from beam_jobs.passing.blocks import Block
from beam_jobs.passing.tally import PROBLEMS, SKIPPED


def label(line: int, text: str, group: str = "p", study: str = "s") -> Row:
    return Row(line, "", text, "", group, "", study, "labels.csv")


def split(line: int, image: str, name: str = "train", group: str = "p", study: str = "s") -> Row:
    return Row(line, image, "", name, group, "", study, "split.csv")


def view(line: int, image: str, name: str = "frontal", group: str = "p", study: str = "s") -> Row:
    return Row(line, image, "", "", group, name, study, "views.csv")


def joined(*rows: Row) -> tuple[list[Row], dict[str, int], list[str]]:
    """The rows of images, the reasons for skips, and the problems, whatever the order and the blocks of `rows`."""
    answers = []
    for order in (rows, rows[::-1]):
        blocks = [Block([Named(row.study, ROWS, row)]) for row in order]
        found: list[Row] = []
        skipped, problems = {}, []
        for outcome in join_studies(blocks):
            if not isinstance(outcome, TaggedOutput):
                assert all(named.name == named.value.image for named in outcome)
                found += (named.value for named in outcome)
            elif outcome.value.kind == SKIPPED:
                skipped[outcome.value.what] = outcome.value.number
            else:
                assert outcome.value.kind == PROBLEMS
                problems.append(outcome.value.what)
        answers.append((sorted(found), skipped, sorted(problems)))
    assert answers[0] == answers[1]
    return answers[0]


def test_each_image_gets_the_label_of_its_study() -> None:
    rows = (label(2, "Edema"), label(3, "|", "q", "t"), split(2, "a"), split(3, "b"), split(4, "c", "test", "q", "t"))
    views = (view(2, "a"), view(3, "b", "lateral"), view(4, "c", "other", "q", "t"))
    assert joined(*rows, *views) == (
        [
            Row(2, "a", "Edema", "train", "p", "frontal", "s", "split.csv"),
            Row(3, "b", "Edema", "train", "p", "lateral", "s", "split.csv"),
            Row(4, "c", "|", "test", "q", "other", "t", "split.csv"),
        ],
        {},
        [],
    )


def test_what_no_table_says_stays_empty() -> None:
    found, skipped, problems = joined(
        label(2, "A"), label(3, "B", "q", "t"), split(2, "a"), split(3, "b", study="u"), view(9, "z")
    )
    assert [(row.image, row.label, row.view) for row in found] == [("a", "A", ""), ("b", "", "")]
    assert skipped == {"study_without_image": 1}
    assert not problems


def test_equal_rows_are_one() -> None:
    found, _, problems = joined(label(2, "A"), label(7, "A"), split(2, "a"), split(9, "a"), view(2, "a"), view(8, "a"))
    assert [(row.image, row.line) for row in found] == [("a", 2)]
    assert not problems


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ((label(2, "A"), label(5, "B"), split(2, "a")), "labels.csv lines 2, 5 disagree about 's'"),
        ((label(2, "A"), label(5, ""), split(2, "a")), "labels.csv lines 2, 5 disagree about 's'"),
        (
            (label(2, "A"), split(3, "a"), split(4, "a", "test")),
            "labels.csv line 2 and split.csv lines 3, 4 disagree about 'a'; keep the right one",
        ),
        (
            (label(2, "A"), split(3, "a", group="q"), view(4, "a")),
            "labels.csv line 2 and split.csv line 3 and views.csv line 4 disagree about 'a'",
        ),
        (
            (label(2, "A"), split(3, "a"), view(4, "a"), view(5, "a", "lateral")),
            "views.csv lines 4, 5 disagree about 'a'",
        ),
    ],
)
def test_rows_that_disagree_are_a_problem(rows: tuple[Row, ...], says: str) -> None:
    found, _, problems = joined(*rows)
    assert not found
    (problem,) = problems
    assert re.search(re.escape(says), problem)
