"""Step 2b: give every image its split, so that no group is in two splits."""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypedDict

import apache_beam as beam
from apache_beam.pvalue import AsSingleton, PCollection

from beam_jobs.elements import Reference
from beam_jobs.passing.blocks import Block, InPartitions, blocks
from beam_jobs.passing.tally import TALLY, Count, Counted, overlap, problem, several_collections
from beam_jobs.settings.config import ConvertConfig
from beam_jobs.settings.id_key import id_key
from schemas.dataset import SPLITS
from schemas.identity import pseudonym, uniform
from schemas.labels import SEPARATOR
from schemas.source import UNASSIGNED, Source

# Up to this many groups per class, splits are carved by exact count; beyond that the hash alone is exact enough.
_EXACT_GROUPS = 10_000


class ReferencesAndTally(TypedDict):
    """The References that the Sources become, and the tally."""

    references: PCollection[Block[Reference]]
    tally: PCollection[Count]


@dataclass
class AssignSplits(beam.PTransform[PCollection[Block[Source]], ReferencesAndTally]):
    """Blocks of kept Sources -> blocks of References with their split. A group that the input puts in two splits is a
    problem."""

    config: ConvertConfig
    exact_groups: int = _EXACT_GROUPS

    @several_collections
    def expand(self, sources: PCollection[Block[Source]]) -> ReferencesAndTally:
        table: PCollection[SplitTable] = (
            sources
            | "SplitTable" >> beam.CombineGlobally(FewGroups(self.config.seed, self.exact_groups)).without_defaults()
            | "Carve" >> beam.Map(split_table, self.config)
        )
        assigned = (
            sources
            | "ByGroup" >> InPartitions(lambda source: source.group)
            | "Assign"
            >> beam.FlatMap(assign, AsSingleton(table, default_value=None), self.config).with_outputs(
                TALLY, main="references"
            )
        )
        return {"references": assigned.references, TALLY: assigned[TALLY]}


class SplitTable(NamedTuple):
    """How to carve: the fractions of groups for validation and test, and the split of each group of small classes."""

    validation: float
    test: float
    groups: Mapping[str, str]


Groups = tuple[set[str], dict[str, set[str] | None]]


class FewGroups(beam.CombineFn):
    """Blocks of Sources -> (the splits that the input names, {label: its groups in train or in no split, in the order
    of their hashes, or an empty list if there are more than `exact`})."""

    def __init__(self, seed: int, exact: int = _EXACT_GROUPS) -> None:
        self.seed, self.exact = seed, exact

    def create_accumulator(self) -> Groups:
        return set(), {}

    def add_input(self, accumulator: Groups, sources: Block[Source]) -> Groups:
        given, groups = accumulator
        for source in sources:
            given.add(source.split)
            if source.split in (UNASSIGNED, "train"):
                # Only the first of several labels, because there may be more combinations than patients.
                stratum = source.label.partition(SEPARATOR)[0]
                few = groups.setdefault(stratum, set())
                if few is not None:
                    few.add(source.group)
                    if len(few) > self.exact:
                        groups[stratum] = None
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[Groups]) -> Groups:
        merged = self.create_accumulator()
        for given, groups in accumulators:
            merged[0].update(given)
            for label, few in groups.items():
                union = None if few is None else merged[1].get(label, set())
                merged[1][label] = None if few is None or union is None else union | few
                if len(merged[1][label] or ()) > self.exact:
                    merged[1][label] = None
        return merged

    def extract_output(self, accumulator: Groups) -> tuple[set[str], dict[str, list[str]]]:
        given, groups = accumulator
        return given, {
            label: sorted(few or (), key=lambda group: (uniform(self.seed, "split", group), group))
            for label, few in groups.items()
        }


def split_table(found: tuple[set[str], Mapping[str, list[str]]], config: ConvertConfig) -> SplitTable:
    """How to carve the splits that the input does not define. Classes with few groups are carved exactly: each of
    train, validation and test, if it is asked for, gets at least one group, in this order while there are groups. A
    group with images of two classes follows the first class."""
    given, groups = found
    validation = 0.0 if "validation" in given else config.validation_fraction
    test = 0.0 if "test" in given else config.test_fraction
    table: dict[str, str] = {}
    for label in sorted(groups):
        names = [name for name in groups[label] if name not in table]
        count = len(names)
        n_validation = _share(validation, count, most=count - (2 if test and count > 2 else 1))
        n_test = _share(test, count, most=count - n_validation - 1)
        for index, name in enumerate(names):
            table[name] = "validation" if index < n_validation else "test" if count - index <= n_test else "train"
    return SplitTable(validation, test, table)


def _share(fraction: float, count: int, most: int) -> int:
    return max(0, min(max(1, round(fraction * count)), most)) if fraction else 0


def assign(
    sources: Iterable[Block[Source]], table: SplitTable, config: ConvertConfig
) -> Iterator[Block[Reference] | Counted]:
    """Gives the sources of a partition their split: the one that the input names, or the one carved for their group."""
    key = id_key(config)
    splits_of: defaultdict[str, set[str]] = defaultdict(set)

    def assigned() -> Iterator[Reference]:
        for source in itertools.chain.from_iterable(sources):
            split = _carved(source.group, table, config) if source.split in (UNASSIGNED, "train") else source.split
            splits_of[source.group].add(split)
            yield Reference(source, pseudonym("id", source.path, key), pseudonym("group", source.group, key), split)

    yield from blocks(assigned())
    for group, splits in splits_of.items():
        if len(splits) == 1:
            continue
        ordered = sorted(splits, key=SPLITS.index)
        if config.allow_group_overlap:
            yield overlap(pseudonym("group", group, key), ordered)
        else:
            yield problem(
                f"group {group.lstrip('/')!r} is in {' and '.join(ordered)}; put each patient in one split, or give "
                "--allow_group_overlap (if numbers start again in each folder, capture the folder in the pattern: "
                "(?P<pool>train|test)...(?P<group>...))"
            )


def _carved(group: str, table: SplitTable, config: ConvertConfig) -> str:
    place = uniform(config.seed, "split", group)
    by_hash = "validation" if place < table.validation else "test" if place >= 1 - table.test else "train"
    return table.groups.get(group, by_hash)
