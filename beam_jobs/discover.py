"""Step 1: list the inputs. Names, sizes and checksums only; no image is opened."""

import os
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import apache_beam as beam

from beam_jobs import public_sets, storage
from beam_jobs.config import ConvertConfig
from beam_jobs.tables import Row, UnreadableTable, check_table, read_rows
from beam_jobs.tally import TALLY, problem, skipped
from schemas.errors import JobFailed, UsageError
from schemas.labels import canonical
from schemas.source import (
    UNASSIGNED,
    File,
    compile_group_pattern,
    group_of,
    missing_file,
    skip_reason,
    source_of,
    split_and_label,
    split_name,
)

_STAT_THREADS = 32


@dataclass
class Discover(beam.PTransform):  # type: ignore[misc]
    """-> Source for every input, with the tally of files that are none and of rows that cannot be right."""

    config: ConvertConfig

    def expand(self, root: Any) -> Any:
        if self.config.known.table:
            return public_sets.by_table(root, self._files(root), self.config)
        return self._by_manifest(root) if self.config.manifest else self._by_folder(root)

    def _files(self, root: Any) -> Any:
        return (
            root
            | "Root" >> beam.Create([self.config.input])
            | "Prefixes" >> beam.FlatMap(list_prefixes)
            | "SpreadPrefixes" >> beam.Reshuffle()
            | "List" >> beam.FlatMap(list_prefix, self.config.input)
        )

    def _by_folder(self, root: Any) -> Any:
        return self._files(root) | "ByFolder" >> beam.FlatMap(by_folder, self.config).with_outputs(
            TALLY, main="sources"
        )

    def _by_manifest(self, root: Any) -> Any:
        rows = (
            root
            | "Manifest" >> beam.Create([self.config.manifest])
            | "Rows" >> beam.FlatMap(rows_by_uri, self.config.input).with_outputs(TALLY, main="rows")
        )
        single = (
            rows.rows
            | "ByUri" >> beam.GroupByKey()
            | "OneRowEach" >> beam.FlatMapTuple(one_row_each).with_outputs(TALLY, main="rows")
        )
        files = (
            single.rows
            | "BatchRows" >> beam.BatchElements(min_batch_size=_STAT_THREADS, max_batch_size=1000)
            | "Stat" >> beam.FlatMap(stat_rows, self.config).with_outputs(TALLY, main="sources")
        )
        tallies = (rows[TALLY], single[TALLY], files[TALLY])
        return {"sources": files.sources, TALLY: tallies | "TallyRows" >> beam.Flatten()}


def list_prefixes(root: str, depth: int = 2) -> Iterator[tuple[str, bool]]:
    """Cuts `root` into (folder, recursive) parts that together hold every file once, for workers to list in parallel."""
    folders = storage.subfolders(root) if depth else []
    if not folders:
        yield root, True
        return
    yield root, False
    for folder in folders:
        yield from list_prefixes(folder, depth - 1)


def list_prefix(part: tuple[str, bool], root: str) -> Iterator[File]:
    """The files of one (folder, recursive) part."""
    folder, recursive = part
    yield from storage.list_files(folder, root, recursive)


def by_folder(file: File, config: ConvertConfig) -> Iterator[Any]:
    """Says of a file what its folders say, or why it is no input."""
    reason = skip_reason(file.path, file.size)
    place = None if reason else split_and_label(file.path)
    if place is None:
        yield skipped(reason or "not_in_a_class_folder")
        return
    split, label = place
    yield source_of(file, canonical(label), split, group_of(file.path, _pattern(config)), config.known)


def _pattern(config: ConvertConfig) -> re.Pattern[str] | None:
    pattern = config.known.group_pattern
    return compile_group_pattern(pattern) if pattern else None  # re keeps what it has compiled


def rows_by_uri(uri: str, root: str) -> Iterator[Any]:
    """-> (image URI, (path, row)) for each row of the table at `uri`; relative URIs are in `root`."""
    try:
        for row in read_rows(uri):
            image = storage.join(root, row.image)
            yield image, (row, image.removeprefix(root.rstrip("/") + "/"))
    except UnreadableTable as error:
        yield problem(f"manifest {uri} is {error}")


def one_row_each(image: str, rows: Iterable[tuple[Row, str]]) -> Iterator[Any]:
    """Passes the row of `image` on; a second row for it, or a row without an image or with an odd split, is a problem."""
    first, *others = sorted(rows)
    row, path = first
    if others:
        lines = ", ".join(str(other.line) for other, _ in (first, *others)[:5])
        yield problem(f"manifest lines {lines} all name {path!r}; keep one")
    elif split_name(row.split) is None:
        yield problem(f"manifest line {row.line} has split {row.split!r}; write train, validation, test, or nothing")
    elif not path or path.endswith("/"):
        yield problem(f"manifest line {row.line} names no image")
    else:
        yield image, first


def stat_rows(rows: list[tuple[str, tuple[Row, str]]], config: ConvertConfig) -> Iterator[Any]:
    """Looks up the files that a batch of rows names. One that is not there becomes a Source of size -1, to be quarantined
    like any image that cannot be read; a row without a label is skipped."""
    labelled = [entry for entry in rows if entry[1][0].label]
    for _ in range(len(rows) - len(labelled)):
        yield skipped("unlabelled")
    with ThreadPoolExecutor(_STAT_THREADS) as pool:
        files = pool.map(lambda entry: storage.stat(entry[0], entry[1][1]), labelled)
        for (image, (row, path)), file in zip(labelled, files, strict=True):
            # A patient named by the CSV is one person wherever its images are: no pool.
            patient = f"/{row.group}" if row.group else group_of(path, _pattern(config))
            found = file or missing_file(image, path)
            yield source_of(found, row.label, split_name(row.split) or UNASSIGNED, patient, config.known)


def check_input(config: ConvertConfig) -> None:
    """Raises UsageError where the input is missing or holds no file at all, before a pipeline is started for it."""
    table = config.known.table
    if config.manifest and not table:
        check_table(config.manifest)
        return
    if not storage.is_remote(config.input):
        if not os.path.exists(config.input):
            raise UsageError(f"--input {config.input} does not exist")
        if not os.path.isdir(config.input):
            raise UsageError(
                f"--input {config.input} is a file; give the folder of the images, or a table as --manifest"
            )
    try:
        empty = next(storage.list_files(config.input, config.input), None) is None
    except JobFailed as error:
        raise UsageError(f"--input: {error}") from error
    if empty:
        raise UsageError(f"--input {config.input} is empty: no file in it")
    if table:
        check_table(public_sets.table_of(config), table)
