"""Subgroups of the examples of a data set: from a table, or from the file names of the Kermany set. They are for figures,
and never enter a record."""

import csv
import io
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.dataset import Manifest
from schemas.errors import UsageError
from schemas.identity import pseudonym
from schemas.presets import PRESETS
from schemas.source import group_of
from training.reading import files

FLAG = "--subgroups"
ID, PATH = "id", "path"  # the columns that say which example a row is about
MOST_VALUES = 50  # of a column: each value gets figures of its own
KIND, NUMBER = "kind", "number"  # the columns that are made from the file names of the Kermany set

_TERTILES = 3
_PATIENTS = re.compile(PRESETS["kermany"].group_pattern)
_NUMBERED = re.compile(r"(person|NORMAL2-IM|IM)-?(\d+)")
_CAUSE = re.compile(r"person\d+_(bacteria|virus)_")
_FEWEST_KEY_BYTES = 16  # as in conversion

Subgroups = dict[str, dict[str, str]]  # the value of each example id, by column


class _Row(NamedTuple):
    """The names that one example may have (ids or paths), and its value in each column."""

    names: Sequence[str]
    values: Mapping[str, str]


def read_subgroups(path: str, manifest: Manifest, key: bytes = b"") -> Subgroups:
    """The values of the examples, {column: {example id: value}}, from a CSV or from a folder of the Kermany set. Both are
    local or gs://.

    The CSV has a column `id`, or `path` (below the --input of the conversion), and any others. An empty cell is no value.
    Ids may be among them that are not in the data set. A folder gives the columns KIND (bacteria, virus, IM or NORMAL2) and
    NUMBER (thirds of the images by the number of their patient, for persons, IM and NORMAL2 each).

    key: of the ids, if they are keyed. Raises UsageError if the file cannot be read or used, or the key is missing.
    """
    try:
        by, rows = (PATH, _kermany_rows(path)) if files.is_folder(path) else _table_rows(path, files.read(path))
    except OSError as error:
        raise UsageError(f"{FLAG} {path} cannot be read: {files.message(error)}") from error
    keyed = bool(manifest.settings.get("keyed_ids"))
    if by == PATH and keyed and not key:
        raise UsageError(
            f"{FLAG} {path} names images by their paths, but the ids of {manifest.name} are keyed; give --id_key_file, or a "
            f"CSV with a column {ID}"
        )
    found: Subgroups = {}
    for names, values in rows:
        ids = names if by == ID else [pseudonym("id", name, key if keyed else b"") for name in names]
        for column, value in values.items():
            of_column = found.setdefault(column, {})
            if any(of_column.setdefault(id, value) != value for id in ids):
                raise UsageError(f"{FLAG} {path}: {names[-1]} has two values in column {column}")
    for column, of_column in found.items():
        if (many := len(set(of_column.values()))) > MOST_VALUES:
            raise UsageError(
                f"{FLAG} {path}: column {column} has {many} values, more than {MOST_VALUES}; leave it out, or put ranges"
            )
    return found


def read_key(path: str) -> bytes:
    """The key of the ids in a file, local or gs://, without a trailing line break. Raises UsageError if it is missing or too
    short."""
    try:
        content = files.read(path).removesuffix(b"\n").removesuffix(b"\r")
    except OSError as error:
        raise UsageError(f"--id_key_file {path} cannot be read: {files.message(error)}") from error
    if len(content.strip()) < _FEWEST_KEY_BYTES:
        raise UsageError(f"--id_key_file {path} is too short for a key; give the file of the conversion")
    return content


def members(
    found: Mapping[str, Mapping[str, str]], ids: Sequence[str]
) -> Iterator[tuple[str, str, npt.NDArray[np.bool_]]]:
    """Each column, each of its values that any of `ids` has, both in order, and which of them have it, [ids]."""
    for column, of_column in found.items():
        values = np.array([of_column.get(id, "") for id in ids])
        for value in np.unique(values[values != ""]):
            yield column, str(value), values == value


def _table_rows(path: str, content: bytes) -> tuple[str, list[_Row]]:
    """Which of ID and PATH names the examples, and the rows of a CSV."""
    try:
        lines = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True, skipinitialspace=True)
        header = [name.strip() for name in lines.fieldnames or ()]
        by = _check_header(path, header)
        lines.fieldnames = header
        rows = []
        for cells in lines:
            if None in cells:
                raise UsageError(f"{FLAG} {path}: line {lines.line_num} has more cells than the header")
            values = {column: cell.strip() for column, cell in cells.items() if cell and cell.strip()}
            name = values.pop(by, "")
            values.pop(PATH, None)  # if there are both
            if not name:
                raise UsageError(f"{FLAG} {path}: line {lines.line_num} has no {by}")
            rows.append(_Row([name if by == ID else os.path.normpath(name)], values))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{FLAG} {path} is not a CSV in UTF-8: {error}") from error
    return by, rows


def _check_header(path: str, header: Sequence[str]) -> str:
    by = next((name for name in (ID, PATH) if name in header), None)
    if by is None:
        raise UsageError(f"{FLAG} {path} has neither a column {ID} nor a column {PATH}")
    if "" in header or len(set(header)) != len(header):
        raise UsageError(f"{FLAG} {path} has a column without a name, or two of one name")
    if not set(header) - {ID, PATH}:
        raise UsageError(f"{FLAG} {path} has no column but {' and '.join(header)}; add the subgroups")
    return by


def _kermany_rows(folder: str) -> list[_Row]:
    """A row for each file in `folder` that is named like those of the Kermany set. An image has several names, because the
    --input of the conversion may be any folder above that of the image's split."""
    names, series, kinds = [], [], []
    for parts in _files(folder):
        patient = group_of("/".join(parts), _PATIENTS)
        numbered = _NUMBERED.search(patient or "")
        cause = _CAUSE.match(parts[-1])
        if patient is None or numbered is None or (numbered[1] == "person" and cause is None):
            continue
        names.append(["/".join(parts[start:]) for start in range(1, len(parts) - 2)])
        series.append((patient.partition("/")[0], numbered[1], int(numbered[2])))
        kinds.append(cause[1] if cause else numbered[1].removesuffix("-IM"))
    if not names:
        raise UsageError(
            f"{FLAG} {folder}: no file in this folder is named like those of the Kermany set; give a CSV with the subgroups"
        )
    numbers = _tertiles(series)
    return [
        _Row(paths, {KIND: kind, NUMBER: number}) for paths, kind, number in zip(names, kinds, numbers, strict=True)
    ]


def _files(folder: str) -> Iterator[tuple[str, ...]]:
    """The files below `folder`, as the parts of their whole paths."""
    for path, names in files.walk(folder):
        above = PurePosixPath(path.partition("://")[2] if files.is_remote(path) else os.path.abspath(path)).parts
        yield from ((*above, name) for name in names)


def _tertiles(series: Iterable[tuple[str, str, int]]) -> list[str]:
    """For each (pool, kind of number, number), the range of numbers that it is in: thirds of the images of that pool and
    kind, cut between patients."""
    every = list(series)
    numbers = defaultdict(list)
    for pool, kind, number in every:
        numbers[pool, kind].append(number)
    names = {}
    for (pool, kind), found in numbers.items():
        found.sort()
        third = {number: found.index(number) * _TERTILES // len(found) for number in dict.fromkeys(found)}
        for part in set(third.values()):
            inside = [number for number, its in third.items() if its == part]
            for number in inside:
                names[pool, kind, number] = f"{kind} {inside[0]}-{inside[-1]}"
    return [names[each] for each in every]
