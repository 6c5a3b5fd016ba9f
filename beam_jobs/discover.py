"""Step 1: list the inputs. Names, sizes and checksums only; no image is opened."""

import csv
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import apache_beam as beam

from beam_jobs import storage
from beam_jobs.config import ConvertConfig
from beam_jobs.tally import TALLY, problem, skipped
from schemas.errors import JobFailed, UsageError
from schemas.source import (
    UNASSIGNED,
    File,
    Source,
    compile_group_pattern,
    group_of,
    skip_reason,
    split_and_label,
    split_name,
)

_STAT_THREADS = 32
_COLUMNS, _OPTIONAL_COLUMNS = ("image_uri", "label"), ("split", "group")


@dataclass
class Discover(beam.PTransform):  # type: ignore[misc]
    """-> Source for every input, with the tally of files that are none and of rows that cannot be right."""

    config: ConvertConfig

    def expand(self, root: Any) -> Any:
        return self._by_manifest(root) if self.config.manifest else self._by_folder(root)

    def _by_folder(self, root: Any) -> Any:
        return (
            root
            | "Root" >> beam.Create([self.config.input])
            | "Prefixes" >> beam.FlatMap(list_prefixes)
            | "SpreadPrefixes" >> beam.Reshuffle()
            | "List" >> beam.FlatMap(list_prefix, self.config).with_outputs(TALLY, main="sources")
        )

    def _by_manifest(self, root: Any) -> Any:
        rows = (
            root
            | "Manifest" >> beam.Create([self.config.manifest])
            | "Rows" >> beam.FlatMap(read_rows, self.config.input)
            | "ByUri" >> beam.GroupByKey()
            | "OneRowEach" >> beam.FlatMapTuple(one_row_each).with_outputs(TALLY, main="rows")
        )
        files = (
            rows.rows
            | "BatchRows" >> beam.BatchElements(min_batch_size=_STAT_THREADS, max_batch_size=1000)
            | "Stat" >> beam.FlatMap(stat_rows, self.config).with_outputs(TALLY, main="sources")
        )
        return {"sources": files.sources, TALLY: (rows[TALLY], files[TALLY]) | "TallyRows" >> beam.Flatten()}


def list_prefixes(root: str, depth: int = 2) -> Iterator[tuple[str, bool]]:
    """Cuts `root` into (folder, recursive) parts that together hold every file once, for workers to list in parallel."""
    folders = storage.subfolders(root) if depth else []
    if not folders:
        yield root, True
        return
    yield root, False
    for folder in folders:
        yield from list_prefixes(folder, depth - 1)


def list_prefix(part: tuple[str, bool], config: ConvertConfig) -> Iterator[Any]:
    """Lists one (folder, recursive) part and says of each file what it is."""
    folder, recursive = part
    pattern = compile_group_pattern(config.known.group_pattern) if config.known.group_pattern else None
    for file in storage.list_files(folder, config.input, recursive):
        reason = skip_reason(file.path, file.size)
        place = None if reason else split_and_label(file.path)
        if place is None:
            yield skipped(reason or "not_in_a_class_folder")
            continue
        split, label = place
        yield source_of(file, label, split, group_of(file.path, pattern), config)


def source_of(file: File, label: str, split: str, group: str | None, config: ConvertConfig) -> Any:
    """The Source of `file`, or a problem where its class is none that the preset knows."""
    if config.known.classes and label not in config.known.classes:
        classes = " and ".join(config.known.classes)
        return problem(f"{file.path!r} is of class {label!r}, and --preset {config.preset} knows {classes}")
    split = config.known.merge_splits.get(split, split)
    return Source(file.uri, file.path, label, split, group or file.path, file.size, file.checksum, file.version)


def read_rows(uri: str, root: str) -> Iterator[tuple[str, tuple[int, str, str, str, str]]]:
    """-> (image URI, (line, path, label, split, group)) for each row of the CSV at `uri`; relative URIs are in `root`."""
    with storage.open_text(uri) as lines:
        reader = csv.DictReader(lines)
        for row in reader:
            given, label, split, group = ((row.get(column) or "").strip() for column in _COLUMNS + _OPTIONAL_COLUMNS)
            image = storage.join(root, given)
            path = image.removeprefix(root.rstrip("/") + "/")
            yield image, (reader.line_num, path, label, split, group)


def one_row_each(image: str, rows: Any) -> Iterator[Any]:
    """Passes the row of `image` on; a second row for it, or a row without an image or with an odd split, is a problem."""
    first, *others = sorted(rows)
    line, path, _, split, _ = first
    if others:
        lines = ", ".join(str(row[0]) for row in (first, *others)[:5])
        yield problem(f"manifest lines {lines} all name {path!r}; keep one")
    elif split_name(split) is None:
        yield problem(f"manifest line {line} has split {split!r}; write train, validation, test, or nothing")
    elif not path or path.endswith("/"):
        yield problem(f"manifest line {line} names no image")
    else:
        yield image, first


def stat_rows(rows: list[tuple[str, tuple[int, str, str, str, str]]], config: ConvertConfig) -> Iterator[Any]:
    """Looks up the files that a batch of rows names. One that is not there becomes a Source of size -1, to be quarantined
    like any image that cannot be read; a row without a label is skipped."""
    pattern = compile_group_pattern(config.known.group_pattern) if config.known.group_pattern else None
    with ThreadPoolExecutor(_STAT_THREADS) as pool:
        files = pool.map(lambda row: storage.stat(row[0], row[1][1]), rows)
        for (image, (_, path, label, split, group)), file in zip(rows, files, strict=True):
            if not label:
                yield skipped("unlabelled")
                continue
            # A patient named by the CSV is one person wherever its images are: no pool.
            patient = f"/{group}" if group else group_of(path, pattern)
            found = file or File(image, path, -1, "", 0)
            yield source_of(found, label, split_name(split) or UNASSIGNED, patient, config)


def check_input(config: ConvertConfig) -> None:
    """Raises UsageError where the input is missing or holds no file at all, before a pipeline is started for it."""
    if config.manifest:
        check_manifest(config.manifest)
        return
    if not storage.is_remote(config.input):
        if not os.path.exists(config.input):
            raise UsageError(f"--input {config.input} does not exist")
        if not os.path.isdir(config.input):
            raise UsageError(f"--input {config.input} is a file; give the folder of the images, or a CSV as --manifest")
    try:
        empty = next(storage.list_files(config.input, config.input), None) is None
    except JobFailed as error:
        raise UsageError(f"--input: {error}") from error
    if empty:
        raise UsageError(f"--input {config.input} is empty: no file in it")


def check_manifest(uri: str) -> None:
    """Raises UsageError where the CSV at `uri` is missing, has no row or lacks a column."""
    try:
        with storage.open_text(uri) as lines:
            reader = csv.reader(lines)
            header, row = next(reader, []), next(reader, None)
    except FileNotFoundError as error:
        raise UsageError(f"--manifest {uri} does not exist") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"--manifest {uri} is not CSV text in UTF-8") from error
    missing = [column for column in _COLUMNS if column not in header]
    if missing:
        raise UsageError(
            f"--manifest {uri} has no column {' and no column '.join(missing)}; "
            f"its first line must name {', '.join(_COLUMNS)} and may name {', '.join(_OPTIONAL_COLUMNS)}"
        )
    if row is None:
        raise UsageError(f"--manifest {uri} has no rows")
