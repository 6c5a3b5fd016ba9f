"""Step 2b: act on reported near-duplicates, as `--near_duplicates_of` asks, before splits are assigned.

Images that are connected by a chain of pairs are one exposure. If their split is carved, all images of their groups
become one group. If the input puts some of them in validation or test, only those in the later split are kept, because
there are fewer test images and their number must not change.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import apache_beam as beam
from apache_beam.pvalue import AsSingleton, PCollection
from apache_beam.transforms.combiners import ToList

from beam_jobs.leakage.reported_pairs import LEAKAGE, Ids, reported_pairs
from beam_jobs.passing import status
from beam_jobs.passing.blocks import Block
from beam_jobs.passing.tally import TALLY, Count, Counted, SourcesAndTally, note, several_collections, skipped
from beam_jobs.settings.config import ConvertConfig
from beam_jobs.settings.id_key import id_key
from schemas.errors import UsageError
from schemas.identity import pseudonym
from schemas.source import UNASSIGNED, Source

LEFT_OUT = "near_duplicate"
JOINED, NOT_NAMED = "near_duplicates_in_one_group", "near_duplicates_not_named"
# Sources of train may be carved into validation or test, but never into a split that the input defines.
_LATER = {UNASSIGNED: 0, "train": 0, "validation": 1, "test": 2}


class Member(NamedTuple):
    """What must be known about a source that is in a pair."""

    id: str
    path: str
    group: str
    split: str


class Changes(NamedTuple):
    """The consequences of the pairs: new names of groups, paths to leave out, and how many images were put into one group
    with their near-duplicates."""

    groups: Mapping[str, str]
    left_out: frozenset[str]
    joined: int


@dataclass
class KeepTogether(beam.PTransform[PCollection[Block[Source]], SourcesAndTally]):
    """Blocks of Sources -> the same Sources, without copies of images in later splits and with one group for all copies
    of an image; and the tally of the copies left out."""

    config: ConvertConfig
    status_folder: str

    @several_collections
    def expand(self, sources: PCollection[Block[Source]]) -> SourcesAndTally:
        changes = (
            sources
            | "Members" >> beam.FlatMap(members, self.config, self.status_folder)
            | "AllMembers" >> ToList()
            | "Changes"
            >> beam.FlatMap(plan_changes, self.config, self.status_folder).with_outputs(TALLY, main="changes")
        )
        applied = sources | "Apply" >> beam.FlatMap(apply, AsSingleton(changes["changes"])).with_outputs(
            TALLY, main="sources"
        )
        tally: PCollection[Count] = (changes[TALLY], applied[TALLY]) | "Tally" >> beam.Flatten()
        return {"sources": applied["sources"], TALLY: tally}


def members(sources: Block[Source], config: ConvertConfig, status_folder: str) -> Iterator[Member]:
    """A Member for each source that is in a pair."""
    with status.failures(status_folder):
        key, ids = id_key(config), _ids(config)
    for source in sources:
        name = pseudonym("id", source.path, key)
        if name in ids:
            yield Member(name, source.path, source.group, source.split)


def _ids(config: ConvertConfig) -> frozenset[str]:
    return frozenset(name for pair in reported_pairs(config).pairs for name in pair)


def plan_changes(found: list[Member], config: ConvertConfig, status_folder: str) -> Iterator[Changes | Counted]:
    """Yields one Changes, and counts for the notes. Raises UsageError if the pairs belong to other inputs."""
    with status.failures(status_folder):
        reported = reported_pairs(config)
        whole = config.sample_fraction == 1 and not config.limit
        if reported.pairs and not found and whole:
            raise UsageError(
                f"--near_duplicates_of {config.near_duplicates_of}: its {LEAKAGE} names none of the inputs; give the "
                "--input and --id_key_file that it was made with"
            )
    changes = changes_of(found, reported.pairs)
    yield changes
    yield from note({JOINED: changes.joined, NOT_NAMED: reported.not_named})


def changes_of(found: Iterable[Member], pairs: Iterable[Ids]) -> Changes:
    """The Changes for the members of these pairs."""
    exposure_of = lowest_in_chain(pairs)
    exposures: defaultdict[str, list[Member]] = defaultdict(list)
    for member in found:
        exposures[exposure_of[member.id]].append(member)
    links: list[tuple[str, str]] = []
    left_out: list[str] = []
    joined = 0
    for copies in exposures.values():
        latest = max(_LATER[copy.split] for copy in copies)
        if latest:
            left_out += [copy.path for copy in copies if _LATER[copy.split] < latest]
        elif len(copies) > 1:
            joined += len(copies)
            links += [(copies[0].group, copy.group) for copy in copies[1:]]
    groups = {group: lowest for group, lowest in lowest_in_chain(links).items() if group != lowest}
    return Changes(groups, frozenset(left_out), joined)


def lowest_in_chain(links: Iterable[tuple[str, str]]) -> dict[str, str]:
    """For each name, the lowest name that a chain of links connects to it. Source: union-find with path halving; R. Tarjan,
    J. van Leeuwen, Worst-case analysis of set union algorithms, JACM 31 (1984)."""
    above: dict[str, str] = {}

    def top(name: str) -> str:
        above.setdefault(name, name)
        while above[name] != name:
            above[name] = name = above[above[name]]
        return name

    for one, other in links:
        low, high = sorted((top(one), top(other)))
        above[high] = low
    return {name: top(name) for name in list(above)}


def apply(sources: Block[Source], changes: Changes) -> Iterator[Block[Source] | Counted]:
    """The sources of a block with their changes applied, and the tally of those left out."""
    kept = [source for source in sources if source.path not in changes.left_out]
    number = sum(1 for _ in sources) - len(kept)
    yield Block([s._replace(group=changes.groups.get(s.group, s.group)) for s in kept])
    yield from skipped({LEFT_OUT: number})
