"""Step 1 for a public set with its own table, which names images by file name, whatever their folder below --input.

The table, the official split lists and the listing are joined by file name. So a row costs no request, and none of the
three is ever held in memory as a whole.
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.pvalue import PBegin, PCollection

from beam_jobs.discover.tables import Row, UnreadableTable, read_published
from beam_jobs.passing.blocks import Block, InPartitions, blocks
from beam_jobs.passing.tally import TALLY, Count, Counted, SourcesAndTally, problem, skipped
from beam_jobs.settings.config import ConvertConfig
from beam_jobs.storage import storage
from schemas.errors import UsageError
from schemas.source import UNASSIGNED, File, Source, missing_file, skip_reason, source_of

_FILES, _ROWS, _SPLITS = "files", "rows", "splits"


class Named(NamedTuple):
    """What is known about a file of this name: a File, a Row or the name of a split, depending on `kind`."""

    name: str
    kind: str
    value: Any


def by_table(root: PBegin, files: PCollection[Block[File]], config: ConvertConfig) -> SourcesAndTally:
    """Blocks of Files -> blocks of Sources with the labels of the preset's table, and the tally of the other files."""
    table = config.public_set.table
    assert table
    rows = (
        root
        | "Table" >> beam.Create([table_of(config)])
        | "TableRows" >> beam.FlatMap(rows_by_name, config).with_outputs(TALLY, main=_ROWS)
    )
    splits: PCollection[Block[Named]] = (
        root
        | "SplitLists" >> beam.Create(sorted(table.split_lists.items()))
        | "SplitNames" >> beam.FlatMap(names_of_split, config.input)
    )
    joined = (
        (files | "ByName" >> beam.Map(files_by_name), rows[_ROWS], splits)
        | "AllNamed" >> beam.Flatten()
        | "SameName" >> InPartitions(lambda named: named.name)
        | "Join" >> beam.FlatMap(join_partition, config).with_outputs(TALLY, main="sources")
    )
    tally: PCollection[Count] = (rows[TALLY], joined[TALLY]) | "TallyTable" >> beam.Flatten()
    return {"sources": joined.sources, TALLY: tally}


def table_of(config: ConvertConfig) -> str:
    """The path of the preset's table: --manifest, or its published name in --input. Raises UsageError if it is missing."""
    table = config.public_set.table
    assert table
    places = [config.manifest] if config.manifest else [storage.join(config.input, name) for name in table.names]
    for place in places:
        if storage.exists(place):
            return place
    names = " or ".join(table.names)
    raise UsageError(
        f"--preset {config.preset} needs {names} in --input {config.input}, or the path of the table as --manifest"
    )


def files_by_name(files: Block[File]) -> Block[Named]:
    """The files of a listing, by name."""
    return Block([Named(PurePosixPath(file.path).name, _FILES, file) for file in files])


def rows_by_name(uri: str, config: ConvertConfig) -> Iterator[Block[Named] | Counted]:
    """The rows of the table, by file name."""
    assert config.public_set.table
    unnamed = []

    def named(rows: Iterable[Row]) -> Iterator[Named]:
        for row in rows:
            if row.image:
                yield Named(row.image, _ROWS, row)
            else:
                unnamed.append(row.line)

    try:
        yield from blocks(named(read_published(uri, config.public_set.table, config.class_order)))
    except UnreadableTable as error:
        yield problem(f"manifest {uri} is {error}")
    for line in unnamed:
        yield problem(f"manifest line {line} names no image")


def names_of_split(listed: tuple[str, str], folder: str) -> Iterator[Block[Named]]:
    """The file names in a published (list, split), or nothing if `folder` does not have the list."""
    name, split = listed
    uri = storage.join(folder, name)
    if storage.exists(uri):
        with storage.open_text(uri) as lines:
            names = (PurePosixPath(line.strip()).name for line in lines if line.strip())
            yield from blocks(Named(file_name, _SPLITS, split) for file_name in names)


def join_partition(found: Iterable[Block[Named]], config: ConvertConfig) -> Iterator[Block[Source] | Counted]:
    """Joins the files of a partition with the rows and lists that name them."""
    by_name: defaultdict[str, dict[str, list[Any]]] = defaultdict(lambda: {_FILES: [], _ROWS: [], _SPLITS: []})
    for named in itertools.chain.from_iterable(found):
        by_name[named.name][named.kind].append(named.value)
    sources = []
    reasons: Counter[str] = Counter()
    for name, same_name in by_name.items():
        for outcome in join(name, same_name, config):
            if isinstance(outcome, Source):
                sources.append(outcome)
            elif isinstance(outcome, str):
                reasons[outcome] += 1
            else:
                yield outcome
    yield from blocks(sources)
    yield from skipped(reasons)


def join(name: str, found: Mapping[str, list[Any]], config: ConvertConfig) -> Iterator[Source | str | Counted]:
    """Joins the files of one name with the rows and lists that name them. Yields Sources, the reasons why files are
    skipped, and problems."""
    files = []
    for file in sorted(found[_FILES]):
        reason = skip_reason(file.path, file.size)
        if reason:
            yield reason
        else:
            files.append(file)
    rows, splits = sorted(found[_ROWS]), sorted(set(found[_SPLITS]))
    if not rows:
        for _ in files:
            yield "not_in_the_table"
    elif len({(row.label, row.group) for row in rows}) > 1:
        lines = ", ".join(str(row.line) for row in rows[:5])
        yield problem(f"manifest lines {lines} disagree about {name!r}; keep the right one")
    elif len(files) > 1:
        yield problem(f"the manifest's {name!r} matches both {files[0].path!r} and {files[1].path!r}; keep one")
    elif len(splits) > 1:
        yield problem(f"the split lists have {name!r} in {' and '.join(splits)}; keep one")
    elif not rows[0].label:
        yield "unlabelled"
    else:
        file = files[0] if files else missing_file(storage.join(config.input, name), name)
        # A patient named by the table is the same person wherever the images are, so there is no pool.
        group = f"/{rows[0].group}" if rows[0].group else None
        yield source_of(file, rows[0].label, splits[0] if splits else UNASSIGNED, group, config.public_set)
