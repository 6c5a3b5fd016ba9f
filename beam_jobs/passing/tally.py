"""Counts of everything that is not converted: the side output of each step."""

import collections
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple, TypedDict, TypeVar

import apache_beam as beam
from apache_beam.pvalue import PCollection, TaggedOutput
from apache_beam.typehints.decorators import no_annotations

from beam_jobs.passing.blocks import Block
from schemas.source import Source

TALLY: Final = "tally"  # the tag of this side output in every step
IMAGES, BYTES, SKIPPED, DUPLICATES, NOTES = "images", "bytes", "skipped", "duplicates", "notes"
PROBLEMS, OVERLAPS = "problems", "overlaps"

_SHOWN = {PROBLEMS: 3, OVERLAPS: 1000}  # how many texts of these kinds are kept, besides their total number


class Count(NamedTuple):
    """How often (`number`) something of a `kind` was counted. `what`: the (split, label) of an image, "" for bytes, the
    reason for a skip, or the text of a problem, a note or an overlap."""

    kind: str
    what: Any
    number: int


Counted = TaggedOutput[Literal["tally"], Count]


class SourcesAndTally(TypedDict):
    """What a step passes on, and its tally."""

    sources: PCollection[Block[Source]]
    tally: PCollection[Count]


_Expand = TypeVar("_Expand", bound=Callable[..., Any])


def several_collections(expand: _Expand) -> _Expand:
    """Marks an `expand` of several collections. Beam reads the types of a single collection only, and warns about all
    others."""
    marked: _Expand = no_annotations(expand)
    return marked


def skipped(reasons: Mapping[str, int]) -> Iterator[Counted]:
    """Counts files that are not inputs, by reason."""
    for reason, number in reasons.items():
        if number:
            yield TaggedOutput(TALLY, Count(SKIPPED, reason, number))


def note(reasons: Mapping[str, int]) -> Iterator[Counted]:
    """Counts remarks for users."""
    for reason, number in reasons.items():
        if number:
            yield TaggedOutput(TALLY, Count(NOTES, reason, number))


def duplicates(number: int) -> Counted:
    """Counts inputs that are byte-identical to one that is kept."""
    return TaggedOutput(TALLY, Count(DUPLICATES, "", number))


def problem(text: str) -> Counted:
    """Reports a problem that must fail the job before anything is written."""
    return TaggedOutput(TALLY, Count(PROBLEMS, text, 1))


def overlap(group: str, splits: list[str]) -> Counted:
    """Reports a group, by its pseudonym, that is allowed to be in several splits."""
    return TaggedOutput(TALLY, Count(OVERLAPS, json.dumps({"group": group, "splits": splits}), 1))


Sums = dict[str, collections.Counter[Any]]


class AddUp(beam.CombineFn):
    """Counts -> {kind: {what: sum}}. Keeps only the first problems and overlaps, and their total number under ""."""

    def __init__(self) -> None:
        """Takes no arguments. Beam's own __init__ has no types."""

    def create_accumulator(self) -> Sums:
        return {}

    def add_input(self, sums: Sums, count: Count) -> Sums:
        counter = sums.setdefault(count.kind, collections.Counter())
        counter[count.what] += count.number
        if count.kind in _SHOWN:
            if count.what:
                counter[""] += count.number
            if len(counter) > _SHOWN[count.kind] + 1:
                del counter[max(counter)]
        return sums

    def merge_accumulators(self, accumulators: Iterable[Sums]) -> Sums:
        merged = self.create_accumulator()
        for sums in accumulators:
            for kind, counter in sums.items():
                merged.setdefault(kind, collections.Counter()).update(counter)
        for kind in merged.keys() & _SHOWN.keys():
            first = sorted(merged[kind])[: _SHOWN[kind] + 1]
            merged[kind] = collections.Counter({text: merged[kind][text] for text in first})
        return merged

    def extract_output(self, sums: Sums) -> dict[str, dict[Any, int]]:
        return {kind: dict(counter) for kind, counter in sums.items()}


def problem_line(problems: dict[str, int]) -> str:
    """One line of the first problems and the number of the others."""
    texts = sorted(text for text in problems if text)
    more = problems[""] - sum(problems[text] for text in texts)
    return "; ".join(texts) + (f"; and {more} more" if more else "")
