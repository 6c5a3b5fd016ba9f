"""Step 1 for a public set with a table of its own: it names images by file name, wherever below --input they are.

The table, the lists of the official splits and the listing meet by file name. So a row costs no request of its own, and
no part of the three is ever held whole.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

import apache_beam as beam

from beam_jobs import storage
from beam_jobs.config import ConvertConfig
from beam_jobs.tables import UnreadableTable, read_published
from beam_jobs.tally import TALLY, problem, skipped
from schemas.errors import UsageError
from schemas.source import UNASSIGNED, missing_file, skip_reason, source_of

_FILES, _ROWS, _SPLITS = "files", "rows", "splits"


def by_table(root: Any, files: Any, config: ConvertConfig) -> Any:
    """Files -> Sources with what the preset's table says of them, and the tally of the others."""
    table = config.known.table
    assert table
    rows = (
        root
        | "Table" >> beam.Create([table_of(config)])
        | "TableRows" >> beam.FlatMap(rows_by_name, config).with_outputs(TALLY, main=_ROWS)
    )
    splits = (
        root
        | "SplitLists" >> beam.Create(sorted(table.split_lists.items()))
        | "SplitNames" >> beam.FlatMap(names_of_split, config.input)
    )
    named = files | "ByName" >> beam.Map(lambda file: (PurePosixPath(file.path).name, file))
    joined = (
        {_FILES: named, _ROWS: rows[_ROWS], _SPLITS: splits}
        | "SameName" >> beam.CoGroupByKey()
        | "Join" >> beam.FlatMap(join, config).with_outputs(TALLY, main="sources")
    )
    return {"sources": joined.sources, TALLY: (rows[TALLY], joined[TALLY]) | "TallyTable" >> beam.Flatten()}


def table_of(config: ConvertConfig) -> str:
    """Where the preset's table is: --manifest, or its published name in --input. Raises UsageError where it is not."""
    table = config.known.table
    assert table
    places = [config.manifest] if config.manifest else [storage.join(config.input, name) for name in table.names]
    for place in places:
        if storage.exists(place):
            return place
    names = " or ".join(table.names)
    raise UsageError(f"--preset {config.preset} needs {names} in --input {config.input}, or its place as --manifest")


def rows_by_name(uri: str, config: ConvertConfig) -> Iterator[Any]:
    """-> (file name, row) for each row of the table."""
    assert config.known.table
    try:
        for row in read_published(uri, config.known.table, config.class_order):
            if row.image:
                yield row.image, row
            else:
                yield problem(f"manifest line {row.line} names no image")
    except UnreadableTable as error:
        yield problem(f"manifest {uri} is {error}")


def names_of_split(named: tuple[str, str], folder: str) -> Iterator[tuple[str, str]]:
    """-> (file name, split) for each line of a published (list, split), where `folder` has the list."""
    name, split = named
    uri = storage.join(folder, name)
    if storage.exists(uri):
        with storage.open_text(uri) as lines:
            yield from ((PurePosixPath(line.strip()).name, split) for line in lines if line.strip())


def join(named: tuple[str, Mapping[str, Iterable[Any]]], config: ConvertConfig) -> Iterator[Any]:
    """What becomes of the files of one name, given the rows and the lists that name them."""
    name, found = named
    files = []
    for file in sorted(found[_FILES]):
        reason = skip_reason(file.path, file.size)
        if reason:
            yield skipped(reason)
        else:
            files.append(file)
    rows, splits = sorted(found[_ROWS]), sorted(set(found[_SPLITS]))
    if not rows:
        for _ in files:
            yield skipped("not_in_the_table")
    elif len({(row.label, row.group) for row in rows}) > 1:
        lines = ", ".join(str(row.line) for row in rows[:5])
        yield problem(f"manifest lines {lines} disagree about {name!r}; keep what is right")
    elif len(files) > 1:
        yield problem(f"the manifest's {name!r} may be {files[0].path!r} or {files[1].path!r}; keep one")
    elif len(splits) > 1:
        yield problem(f"the lists of the splits name {name!r} in {' and '.join(splits)}; keep one")
    elif not rows[0].label:
        yield skipped("unlabelled")
    else:
        file = files[0] if files else missing_file(storage.join(config.input, name), name)
        # A patient named by the table is one person wherever its images are: no pool.
        group = f"/{rows[0].group}" if rows[0].group else None
        yield source_of(file, rows[0].label, splits[0] if splits else UNASSIGNED, group, config.known)
