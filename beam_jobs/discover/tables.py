"""Tables that name images: CSV with a header, AutoML's CSV without one, both also compressed with gzip, and Parquet. Read
row by row, never as a whole."""

import contextlib
import csv
import gzip
import itertools
import urllib.parse
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple, TextIO

import pyarrow
import pyarrow.parquet

from beam_jobs.storage import storage
from schemas.errors import UsageError
from schemas.labels import SEPARATOR, canonical
from schemas.presets import PublishedTable
from schemas.source import split_name

COLUMNS, OPTIONAL_COLUMNS = ("image_uri", "label"), ("split", "group")
_AUTOML = ("split", "image_uri", "label")
_FILE = "file://"
_PARQUET_ROWS = 10_000  # in memory at a time


class Row(NamedTuple):
    """What a table says about one image. line: the line number (for Parquet, the row number, from 1). label: canonical,
    "" if there is none. split and group: as written.

    Only rows of public sets' own tables have a view (schemas/presets.py), a study and the name of the table, each "" if
    there is none. Without an image, such a row is about each image of the study.
    """

    line: int
    image: str
    label: str
    split: str
    group: str
    view: str = ""
    study: str = ""
    table: str = ""


class UnreadableTable(Exception):
    """The file is damaged, or not a table."""


def read_rows(uri: str) -> Iterator[Row]:
    """The rows of a table with the columns image_uri, label, split and group. Raises UnreadableTable."""
    for line, cells in records(uri, COLUMNS + OPTIONAL_COLUMNS):
        image, label, split, group = (cells.get(column, "").strip() for column in COLUMNS + OPTIONAL_COLUMNS)
        if image.startswith(_FILE):
            image = urllib.parse.unquote(image.removeprefix(_FILE))
        yield Row(line, image, canonical(label), split, group)


def check_table(uri: str, table: PublishedTable | None = None, labelled: bool = True) -> None:
    """Raises UsageError if the table at `uri` is missing, has no rows, lacks a column, or has a column twice. Without
    `labelled`, it needs no label."""
    wanted = table.columns if table else COLUMNS if labelled else COLUMNS[:1]
    try:
        columns = _columns(uri)
        several = [name for name in dict.fromkeys(wanted + OPTIONAL_COLUMNS) if columns.count(name) > 1]
        if several:
            raise UsageError(f"--manifest {uri} has more than one column {' and '.join(several)}; keep one")
        first = next(records(uri, wanted), None)
    except FileNotFoundError as error:
        raise UsageError(f"--manifest {uri} does not exist") from error
    except UnreadableTable as error:
        raise UsageError(f"--manifest {uri} is {error}") from error
    missing = [column for column in wanted if column not in columns]
    if missing:
        must = ", ".join(wanted)
        may = "" if table else f" and may name {', '.join(OPTIONAL_COLUMNS)}"
        where = "it" if is_parquet(uri) else "its first line"
        raise UsageError(
            f"--manifest {uri} has no column {' and no column '.join(missing)}; {where} must name {must}{may}"
        )
    if first is None:
        raise UsageError(f"--manifest {uri} has no rows")


def is_parquet(uri: str) -> bool:
    """Whether the table at `uri` is Parquet, by its name."""
    return PurePosixPath(uri).suffix.lower() in (".parquet", ".pq")


def _columns(uri: str) -> Sequence[str]:
    if is_parquet(uri):
        with storage.open_binary(uri) as file, _readable_parquet():
            names: list[str] = pyarrow.parquet.ParquetFile(file).schema_arrow.names
            return names
    first, _ = next(_csv_lines(uri), ([], 0))
    return _AUTOML if _is_automl(first) else _names(first)


def records(uri: str, columns: Sequence[str]) -> Iterator[tuple[int, Mapping[str, str]]]:
    """-> (line, {column: cell}) for each row; a short row lacks its last columns. Only these columns of a Parquet file are
    read. Raises UnreadableTable."""
    if is_parquet(uri):
        yield from _parquet_records(uri, columns)
        return
    lines = _csv_lines(uri)
    header, number = next(lines, ([], 0))
    if _is_automl(header):
        for cells, line in itertools.chain([(header, number)], lines):
            split, image, *labels = cells + [""] * (2 - len(cells))
            named = SEPARATOR.join(label for label in labels if label.strip())
            yield line, dict(zip(_AUTOML, (split, image, named), strict=True))
        return
    names = _names(header)
    for cells, line in lines:
        if any(cell.strip() for cell in cells[len(names) :]):
            raise UnreadableTable(
                f"not a table: line {line} has {len(cells)} cells but the header has {len(names)}; quote cells with commas"
            )
        yield line, dict(zip(names, cells, strict=False))


def _names(header: Sequence[str]) -> Sequence[str]:
    return [name.strip() for name in header]


def _csv_lines(uri: str) -> Iterator[tuple[list[str], int]]:
    """-> (cells, line number) for each row that is not empty."""
    with _open_csv(uri) as text:
        # Strict, because an unclosed quote would otherwise put all following rows into one cell.
        reader = csv.reader(text, strict=True, skipinitialspace=True)
        try:
            for cells in reader:
                if any("\0" in cell for cell in cells):
                    raise UnreadableTable(f"not CSV text (line {reader.line_num} holds a NUL)")
                if any(cell.strip() for cell in cells):
                    yield cells, reader.line_num
        except UnicodeDecodeError as error:
            raise UnreadableTable("not CSV text in UTF-8") from error
        except csv.Error as error:
            raise UnreadableTable(f"not CSV text (line {reader.line_num}: {error}; is a quote unclosed?)") from error
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise UnreadableTable("not a complete gzip file; fetch it again") from error


@contextlib.contextmanager
def _open_csv(uri: str) -> Iterator[TextIO]:
    if PurePosixPath(uri).suffix.lower() == ".gz":
        with storage.open_binary(uri) as packed, gzip.open(packed, "rt", encoding="utf-8-sig", newline="") as text:
            yield text
        return
    with storage.open_text(uri) as text:
        yield text


def _is_automl(first: Sequence[str]) -> bool:
    """Whether the first line is already a row, as in Google's AutoML: split, image, and any number of labels."""
    if len(first) < 2 or split_name(first[0]) is None:
        return False
    image = first[1].strip()
    return "/" in image or bool(PurePosixPath(image).suffix)


@contextlib.contextmanager
def _readable_parquet() -> Iterator[None]:
    try:
        yield
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:  # names that are not UTF-8, odd dates
        raise UnreadableTable("not a Parquet file, or a damaged one") from error


def _parquet_records(uri: str, columns: Sequence[str]) -> Iterator[tuple[int, Mapping[str, str]]]:
    with storage.open_binary(uri) as file, _readable_parquet():
        table = pyarrow.parquet.ParquetFile(file)
        present = [name for name in dict.fromkeys(columns) if name in table.schema_arrow.names]
        # One row group at a time, because pyarrow cannot read lists of dictionary values across row groups.
        groups = (table.iter_batches(_PARQUET_ROWS, [n], present) for n in range(table.num_row_groups))
        rows = (row for batch in itertools.chain.from_iterable(groups) for row in batch.to_pylist())
        for line, row in enumerate(rows, start=1):
            yield line, {name: _text(name, value) for name, value in row.items()}


def _text(column: str, value: Any) -> str:
    """A Parquet cell as CSV text: empty for null and NaN, whole numbers without a decimal point (columns with nulls are
    often floats), and lists of labels joined."""
    if isinstance(value, list):
        return SEPARATOR.join(filter(None, (_text(column, part) for part in value))) or SEPARATOR
    if isinstance(value, dict):
        raise UnreadableTable(f"not a usable table: a cell of {column} holds a {type(value).__name__}")
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise UnreadableTable(f"not a usable table: a cell of {column} is not text in UTF-8") from error
    if value is None or value != value:
        return ""
    return f"{value:.0f}" if isinstance(value, float) and value.is_integer() else str(value)
