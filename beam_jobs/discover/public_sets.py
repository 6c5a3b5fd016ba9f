"""Step 1 for a public set with its own tables, which name images by the end of their path, whatever their folder below
--input.

The tables, the official split lists and the listing are joined by that name. So a row costs no request, and none of
them is ever held in memory as a whole. Tables with a row for each study are first joined by study (studies.py).
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import PBegin, PCollection

from beam_jobs.discover.published_tables import FILES, ROWS, SPLITS, Named, name_of, read_published
from beam_jobs.discover.studies import differ, disagreement, join_studies
from beam_jobs.discover.tables import Row, UnreadableTable, check_table
from beam_jobs.passing.blocks import Block, InPartitions, blocks
from beam_jobs.passing.tally import TALLY, Count, Counted, SourcesAndTally, problem, skipped
from beam_jobs.remote.start import Begin
from beam_jobs.settings.config import ConvertConfig
from beam_jobs.storage import storage
from schemas.errors import UsageError
from schemas.presets import EVERY_VIEW, OTHER_VIEW
from schemas.source import UNASSIGNED, File, Source, group_of, missing_file, skip_reason, source_of


def by_table(
    root: PBegin, files: PCollection[Block[File]], config: ConvertConfig, status_folder: str
) -> SourcesAndTally:
    """Blocks of Files -> blocks of Sources with the labels of the preset's tables, and the tally of the other files."""
    begin, tables = Begin(config.launcher, status_folder), list(enumerate(tables_of(config)))
    split_lists = sorted(config.public_set.tables[0].split_lists.items())
    rows = (
        root
        | "BeginTables" >> begin
        | "Table" >> beam.FlatMap(lambda _, every: every, tables)
        | "TableRows" >> beam.FlatMap(rows_by_name, config).with_outputs(TALLY, main=ROWS)
    )
    tallies, of_images = [rows[TALLY]], rows[ROWS]
    if config.public_set.studies:
        studies = (
            of_images
            | "SameStudy" >> InPartitions(lambda named: named.name)
            | "JoinStudies" >> beam.FlatMap(join_studies).with_outputs(TALLY, main=ROWS)
        )
        tallies, of_images = [*tallies, studies[TALLY]], studies[ROWS]
    splits: PCollection[Block[Named]] = (
        root
        | "BeginSplits" >> begin
        | "SplitLists" >> beam.FlatMap(lambda _, every: every, split_lists)
        | "SplitNames" >> beam.FlatMap(names_of_split, config.input)
    )
    joined = (
        (files | "ByName" >> beam.Map(files_by_name, config), of_images, splits)
        | "AllNamed" >> beam.Flatten()
        | "SameName" >> InPartitions(lambda named: named.name)
        | "Join" >> beam.FlatMap(join_partition, config).with_outputs(TALLY, main="sources")
    )
    tally: PCollection[Count] = (*tallies, joined[TALLY]) | "TallyTable" >> beam.Flatten()
    return {"sources": joined.sources, TALLY: tally}


def tables_of(config: ConvertConfig) -> list[str]:
    """The places of the preset's tables: the first is --manifest or has its published name in --input, the others are
    in the same folder. Raises UsageError if one is missing."""
    first, *others = config.public_set.tables
    found = [config.manifest] if config.manifest else [storage.join(config.input, name) for name in first.names]
    place = next(filter(storage.exists, found), "")
    if not place:
        raise UsageError(
            f"--preset {config.preset} needs {' or '.join(first.names)} in --input {config.input}, or the path of the "
            "table as --manifest"
        )
    places = [place]
    for table in others:
        beside = [storage.join(place.rpartition("/")[0], name) for name in table.names]
        places.append(next(filter(storage.exists, beside), ""))
        if not places[-1]:
            raise UsageError(f"--preset {config.preset} needs {' or '.join(table.names)} beside {place}")
    return places


def check_tables(config: ConvertConfig) -> None:
    """Raises UsageError if a table of the preset is missing, has no rows, or is not in its published form."""
    for place, table in zip(tables_of(config), config.public_set.tables, strict=True):
        check_table(place, table)


def files_by_name(files: Block[File], config: ConvertConfig) -> Block[Named]:
    """The files of a listing, by name."""
    return Block([Named(name_of(file.path, config), FILES, file) for file in files])


def rows_by_name(listed: tuple[int, str], config: ConvertConfig) -> Iterator[Block[Named] | Counted]:
    """The rows of a preset's table (its number, its place), by the name of the image, or by study."""
    number, uri = listed
    unnamed = []
    table = config.public_set.tables[number]

    def named(rows: Iterable[Row]) -> Iterator[Named]:
        for row in rows:
            if row.image or not table.image:
                yield Named(row.study or row.image, ROWS, row)
            else:
                unnamed.append(f"{row.table or 'manifest'} line {row.line}")

    try:
        yield from blocks(named(read_published(uri, table, config)))
    except UnreadableTable as error:
        yield problem(f"manifest {uri} is {error}")
    for place in unnamed:
        yield problem(f"{place} names no image")


def names_of_split(listed: tuple[str, str], folder: str) -> Iterator[Block[Named]]:
    """The file names in a published (list, split), or nothing if `folder` does not have the list."""
    name, split = listed
    uri = storage.join(folder, name)
    if storage.exists(uri):
        with storage.open_text(uri) as lines:
            names = (PurePosixPath(line.strip()).name for line in lines if line.strip())
            yield from blocks(Named(file_name, SPLITS, split) for file_name in names)


def join_partition(found: Iterable[Block[Named]], config: ConvertConfig) -> Iterator[Block[Source] | Counted]:
    """Joins the files of a partition with the rows and lists that name them."""
    by_name: defaultdict[str, dict[str, list[Any]]] = defaultdict(lambda: {FILES: [], ROWS: [], SPLITS: []})
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
    for file in sorted(found[FILES]):
        reason = skip_reason(file.path, file.size)
        if reason:
            yield reason
        else:
            files.append(file)
    rows = sorted(found[ROWS])
    splits = sorted({*found[SPLITS], *(row.split for row in rows if row.split)})
    if not rows:
        for _ in files:
            yield "not_in_the_table"
    elif differ(rows):
        yield disagreement(name, rows)
    elif len(files) > 1:
        yield problem(f"the manifest's {name!r} matches both {files[0].path!r} and {files[1].path!r}; keep one")
    elif len(splits) > 1:
        yield problem(f"the split lists have {name!r} in {' and '.join(splits)}; keep one")
    elif config.view_kept not in ("", EVERY_VIEW, rows[0].view):
        yield f"{rows[0].view or OTHER_VIEW}_view"
    elif not rows[0].label:
        yield "unlabelled"
    else:
        file = files[0] if files else missing_file(storage.join(config.input, name), name)
        # A patient named by the table is the same person wherever the images are, so there is no pool.
        group = f"/{rows[0].group}" if rows[0].group else group_of(name, config.group_regex)
        yield source_of(file, rows[0].label, splits[0] if splits else UNASSIGNED, group, config.public_set)
