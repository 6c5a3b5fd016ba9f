"""The account of everything that is not converted: what each step tells beside its main output."""

import collections
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import apache_beam as beam

TALLY = "tally"  # the tag of that output, in every step
IMAGES, SKIPPED, DUPLICATES, NOTES = "images", "skipped", "duplicates", "notes"
PROBLEMS, OVERLAPS = "problems", "overlaps"

_SHOWN = {PROBLEMS: 3, OVERLAPS: 1000}  # of these kinds, only so many texts are kept, and the number of all


class Count(NamedTuple):
    """`number` times `what` of a kind: (split, label) of an image, the reason of a skip, the text of a problem, of a note
    or of an overlap."""

    kind: str
    what: Any
    number: int


def skipped(reasons: Mapping[str, int]) -> Iterator[Any]:
    """Tells of files that are no input: how many for each reason."""
    for reason, number in reasons.items():
        if number:
            yield beam.pvalue.TaggedOutput(TALLY, Count(SKIPPED, reason, number))


def note(reasons: Mapping[str, int]) -> Iterator[Any]:
    """Tells of what people should know: how often each."""
    for reason, number in reasons.items():
        if number:
            yield beam.pvalue.TaggedOutput(TALLY, Count(NOTES, reason, number))


def duplicates(number: int) -> Any:
    """Tells of inputs that are byte-identical to one that is kept."""
    return beam.pvalue.TaggedOutput(TALLY, Count(DUPLICATES, "", number))


def problem(text: str) -> Any:
    """Tells of something for which the job must fail before anything is written."""
    return beam.pvalue.TaggedOutput(TALLY, Count(PROBLEMS, text, 1))


def overlap(group: str, splits: list[str]) -> Any:
    """Tells of a group, by its pseudonym, that is in several splits and may be."""
    return beam.pvalue.TaggedOutput(TALLY, Count(OVERLAPS, json.dumps({"group": group, "splits": splits}), 1))


class AddUp(beam.CombineFn):  # type: ignore[misc]
    """Counts -> {kind: {what: sum}}. Of problems and overlaps only the first are kept, and the number of all under ""."""

    def create_accumulator(self) -> dict[str, collections.Counter[Any]]:
        return {}

    def add_input(self, sums: dict[str, collections.Counter[Any]], count: Count) -> Any:
        counter = sums.setdefault(count.kind, collections.Counter())
        counter[count.what] += count.number
        if count.kind in _SHOWN:
            if count.what:
                counter[""] += count.number
            if len(counter) > _SHOWN[count.kind] + 1:
                del counter[max(counter)]
        return sums

    def merge_accumulators(self, several: Iterable[dict[str, collections.Counter[Any]]]) -> Any:
        merged = self.create_accumulator()
        for sums in several:
            for kind, counter in sums.items():
                merged.setdefault(kind, collections.Counter()).update(counter)
        for kind in merged.keys() & _SHOWN.keys():
            first = sorted(merged[kind])[: _SHOWN[kind] + 1]
            merged[kind] = collections.Counter({text: merged[kind][text] for text in first})
        return merged

    def extract_output(self, sums: dict[str, collections.Counter[Any]]) -> dict[str, dict[Any, int]]:
        return {kind: dict(counter) for kind, counter in sums.items()}


def problem_line(problems: dict[str, int]) -> str:
    """One line of the first problems and the number of the others."""
    texts = sorted(text for text in problems if text)
    more = problems[""] - sum(problems[text] for text in texts)
    return "; ".join(texts) + (f"; and {more} more" if more else "")
