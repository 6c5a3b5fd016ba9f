"""Step 1: list the inputs. Names, sizes and checksums only; no image is opened."""

import itertools
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import apache_beam as beam
from apache_beam.pvalue import PBegin, PCollection

from beam_jobs.discover import public_sets
from beam_jobs.discover.prefixes import ListPrefixes, in_one_page, list_prefixes
from beam_jobs.discover.tables import Row, UnreadableTable, check_table, read_rows
from beam_jobs.passing import status
from beam_jobs.passing.blocks import Block, InPartitions, blocks
from beam_jobs.passing.tally import TALLY, Counted, SourcesAndTally, problem, several_collections, skipped
from beam_jobs.remote.start import Begin, check
from beam_jobs.settings.config import ConvertConfig
from beam_jobs.storage import storage
from schemas.errors import JobFailed, UsageError
from schemas.labels import canonical
from schemas.source import (
    UNASSIGNED,
    File,
    Source,
    group_of,
    missing_file,
    skip_reason,
    source_of,
    split_and_label,
    split_name,
)

_STAT_THREADS = 32
_STAT_BLOCK = 1_000


class NamedRow(NamedTuple):
    """A row of a table, with the URI of its image and the path from which the id is made."""

    uri: str
    path: str
    row: Row


@dataclass
class Discover(beam.PTransform[PBegin, SourcesAndTally]):
    """-> blocks of Sources, one for every input, and the tally of files that are not inputs and of invalid rows.
    `status_folder`: where workers report."""

    config: ConvertConfig
    status_folder: str = ""

    @several_collections
    def expand(self, root: PBegin) -> SourcesAndTally:
        if self.config.public_set.tables:
            return public_sets.by_table(root, self._files(root), self.config, self.status_folder)
        return self._by_manifest(root) if self.config.manifest else self._by_folder(root)

    def _begin(self) -> Begin:
        return Begin(self.config.launcher, self.status_folder)

    def _files(self, root: PBegin) -> PCollection[Block[File]]:
        files: PCollection[Block[File]] = (
            root
            | "Root" >> self._begin()
            | "Prefixes" >> beam.FlatMap(lambda _, config: parts_of(config), self.config)
            | "SpreadPrefixes" >> beam.Reshuffle()
            | "List" >> beam.ParDo(ListPrefixes(self.config.input))
        )
        return files

    def _by_folder(self, root: PBegin) -> SourcesAndTally:
        found = self._files(root) | "ByFolder" >> beam.FlatMap(by_folder, self.config).with_outputs(
            TALLY, main="sources"
        )
        return {"sources": found.sources, TALLY: found[TALLY]}

    def _by_manifest(self, root: PBegin) -> SourcesAndTally:
        rows = (
            root
            | "Manifest" >> self._begin()
            | "Rows"
            >> beam.FlatMap(
                lambda _, *of_table: named_rows(*of_table), self.config.manifest, self.config.input
            ).with_outputs(TALLY, main="rows")
        )
        single = (
            rows.rows
            | "ByUri" >> InPartitions(lambda named: named.uri)
            | "OneRowEach" >> beam.FlatMap(one_row_each).with_outputs(TALLY, main="rows")
        )
        files = single.rows | "Stat" >> beam.FlatMap(stat_rows, self.config, self.status_folder).with_outputs(
            TALLY, main="sources"
        )
        tallies = (rows[TALLY], single[TALLY], files[TALLY])
        return {"sources": files.sources, TALLY: tallies | "TallyRows" >> beam.Flatten()}


def by_folder(files: Block[File], config: ConvertConfig) -> Iterator[Block[Source] | Counted]:
    """The Source of each file of a block, by its folders, or the reason why it is not an input."""
    sources = []
    reasons: Counter[str] = Counter()
    for file in files:
        reason = skip_reason(file.path, file.size)
        place = None if reason else split_and_label(file.path) if config.labelled else (UNASSIGNED, "")
        if place is None:
            reasons[reason or "not_in_a_class_folder"] += 1
            continue
        split, label = place
        group = group_of(file.path, config.group_regex)
        sources.append(source_of(file, canonical(label), split, group, config.public_set))
    yield Block(sources)
    yield from skipped(reasons)


def named_rows(uri: str, root: str) -> Iterator[Block[NamedRow] | Counted]:
    """The rows of the table at `uri`, in blocks. Relative URIs are relative to `root`."""

    def named() -> Iterator[NamedRow]:
        for row in read_rows(uri):
            image = storage.join(root, row.image.removeprefix("./"))
            yield NamedRow(image, image.removeprefix(root.rstrip("/") + "/"), row)

    try:
        yield from blocks(named())
    except UnreadableTable as error:
        yield problem(f"manifest {uri} is {error}")


def one_row_each(rows: Iterable[Block[NamedRow]]) -> Iterator[Block[NamedRow] | Counted]:
    """Passes on one row for each image of a partition. A second row for an image, a row without an image and a row with an
    unknown split are problems."""
    by_uri: defaultdict[str, list[NamedRow]] = defaultdict(list)
    for named in itertools.chain.from_iterable(rows):
        by_uri[named.uri].append(named)
    good = []
    for several in by_uri.values():
        first = min(several, key=lambda named: named.row)
        if len(several) > 1:
            lines = ", ".join(str(line) for line in sorted(named.row.line for named in several)[:5])
            yield problem(f"manifest lines {lines} all name {first.path!r}; keep one")
        elif split_name(first.row.split) is None:
            yield problem(
                f"manifest line {first.row.line} has split {first.row.split!r}; use train, validation, test, or nothing"
            )
        elif "://" in first.path.removeprefix("gs://"):
            yield problem(
                f"manifest line {first.row.line} has {first.row.image!r}; only local and gs:// images are supported"
            )
        elif not first.path or first.path.endswith("/"):
            yield problem(f"manifest line {first.row.line} names no image")
        else:
            good.append(first)
    yield from blocks(good, _STAT_BLOCK)


def stat_rows(
    rows: Block[NamedRow], config: ConvertConfig, status_folder: str = ""
) -> Iterator[Block[Source] | Counted]:
    """Looks up the files that a block of rows names. A missing file becomes a Source of size -1, which is quarantined
    like any image that cannot be read; a row without a label is skipped. Raises JobFailed on a worker that does not see
    the launcher's files, where all would be missing."""
    with status.failures(status_folder):
        check(config.launcher, status_folder)
    every = list(rows)
    labelled = [named for named in every if named.row.label or not config.labelled]
    yield from skipped({"unlabelled": len(every) - len(labelled)})
    with ThreadPoolExecutor(_STAT_THREADS) as pool:
        files = list(pool.map(lambda named: storage.stat(named.uri, named.path), labelled))
    sources = []
    for (uri, path, row), file in zip(labelled, files, strict=True):
        # A patient named by the table is the same person wherever the images are, so there is no pool.
        patient = f"/{row.group}" if row.group else group_of(path, config.group_regex)
        found = file or missing_file(uri, path)
        sources.append(source_of(found, row.label, split_name(row.split) or UNASSIGNED, patient, config.public_set))
    yield Block(sources)


def parts_of(config: ConvertConfig) -> list[tuple[str, bool]]:
    """The (folder, recursive) parts of the input that workers list in parallel; one, if one request lists it."""
    return [(config.input, True)] if config.small_input else list_prefixes(config.input)


def check_input(config: ConvertConfig) -> bool:
    """Whether the input is small: one request to a bucket lists it. Raises UsageError, before a pipeline starts, if it is
    missing or holds no file."""
    tables = config.public_set.tables
    if config.manifest and not tables:
        check_table(config.manifest, labelled=config.labelled)
        return False
    if not storage.has_folder(config.input):
        if not os.path.exists(config.input):
            raise UsageError(f"--input {config.input} does not exist")
        raise UsageError(
            f"--input {config.input} is a file; give the folder that holds the images, or a table as --manifest"
        )
    try:
        small = in_one_page(storage.list_files(config.input, config.input))
    except JobFailed as error:
        raise UsageError(f"--input: {error}") from error
    if small is None:
        raise UsageError(f"--input {config.input} contains no files")
    if tables:
        public_sets.check_tables(config)
    return small
