"""The rows of the tables of public sets, in the columns and with the values in which they were published."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from beam_jobs.discover.tables import Row, UnreadableTable, records
from beam_jobs.settings.config import ConvertConfig
from schemas.labels import SEPARATOR, UNCERTAIN_MARK, canonical
from schemas.presets import MASK, ONE, OTHER_VIEW, ZERO, PublishedTable
from schemas.source import split_name

FILES, ROWS, SPLITS = "files", "rows", "splits"

# What stands before the name of a finding in a label, by the cell of its column; None if the label does not name it.
_MARKS: Mapping[str, Mapping[str, str | None]] = {
    uncertain_as: {"1": "", "1.0": "", "0": None, "0.0": None, "-1": mark, "-1.0": mark}
    for uncertain_as, mark in ((MASK, UNCERTAIN_MARK), (ONE, ""), (ZERO, None))
}


class Named(NamedTuple):
    """What is known about an image of this name, or a study: a File, a Row or the name of a split, depending on
    `kind`."""

    name: str
    kind: str
    value: Any


def read_published(uri: str, table: PublishedTable, config: ConvertConfig) -> Iterator[Row]:
    """The rows of a public set's own table. image is a name_of; split is one of a data set's, or "" if the table has
    none. Raises UnreadableTable, also for values other than the published ones.

    A row that holds only blanks in place of findings is unlabelled. In all other rows a blank is as good as absent:
    the reports from which these labels come do not mention most of what is not there.
    """
    meaning = dict(zip(table.codes, config.class_order, strict=False))
    several = len(config.public_set.tables) > 1
    for line, cells in records(uri, table.columns):
        if table.findings:
            label = findings_label(cells, table.findings, line, config.uncertain_as)
        else:
            label = _cell(cells, table.label)
            label = canonical(meaning.get(label, label))
        image = _cell(cells, table.image)
        view = table.views.get(_cell(cells, table.view), OTHER_VIEW) if table.view else ""
        yield Row(
            line,
            name_of(f"{image}{table.suffix}", config) if image else "",
            label,
            _split(cells, table, line),
            _cell(cells, table.group),
            view,
            _study(cells, table, line),
            PurePosixPath(uri).name if several else "",
        )


def name_of(path: str, config: ConvertConfig) -> str:
    """The last parts of `path` that name an image in the tables of the preset."""
    return "/".join(PurePosixPath(path).parts[-config.public_set.name_parts :])


def findings_label(cells: Mapping[str, str], findings: Sequence[str], line: int, uncertain_as: str) -> str:
    """The canonical label that a row's columns of findings give together; "" if all are blank. Raises UnreadableTable,
    without the cell, which in a damaged row may say anything about the patient."""
    if cut := next((name for name in findings if name not in cells), ""):
        raise UnreadableTable(f"cut off: line {line} ends before {cut}; fetch it again")
    said = {name: cell for name in findings if (cell := _cell(cells, name))}
    marks = _MARKS[uncertain_as]
    if wrong := next((name for name, cell in said.items() if cell not in marks), ""):
        raise UnreadableTable(f"not as published: {wrong} in line {line} is not 1, 0, -1 or empty; correct it")
    named = sorted(mark + name for name, cell in said.items() if (mark := marks[cell]) is not None)
    return SEPARATOR.join(named) or (SEPARATOR if said else "")


def _split(cells: Mapping[str, str], table: PublishedTable, line: int) -> str:
    if not table.split:
        return table.whole_split
    split = split_name(_cell(cells, table.split))
    if not split:
        raise UnreadableTable(
            f"not as published: {table.split} in line {line} is not train, validate or test; correct it"
        )
    return split


def _study(cells: Mapping[str, str], table: PublishedTable, line: int) -> str:
    study = _cell(cells, table.study)
    if table.study and not study:
        raise UnreadableTable(f"not as published: line {line} has no {table.study}; correct it")
    return study


def _cell(cells: Mapping[str, str], column: str) -> str:
    return cells.get(column, "").strip()
