"""Tables in every format give the same rows."""

import csv
import gzip
import io
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from beam_jobs.discover.tables import Row, UnreadableTable, check_table, read_rows
from schemas.errors import UsageError

CELLS = [
    ("a.png", "NORMAL", "train", "p1"),
    ("gs://b/b.png", "Mass|Nodule", "VALIDATION", "p2"),
    ("deep/c.png", "", "", ""),
]
ROWS = [Row(0, *cells)._replace(label="|".join(sorted(cells[1].split("|")))) for cells in CELLS]


def numbered(first: int) -> list[Row]:
    return [row._replace(line=first + n) for n, row in enumerate(ROWS)]


def write_csv(path: Path, *rows: tuple[str, ...]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    path.write_text(text.getvalue(), newline="")
    return str(path)


def test_a_csv_with_a_header_is_read(tmp_path: Path) -> None:
    uri = write_csv(tmp_path / "rows.csv", ("image_uri", "label", "split", "group"), *CELLS)
    check_table(uri)
    assert list(read_rows(uri)) == numbered(2)


def test_an_automl_csv_without_a_header_is_read(tmp_path: Path) -> None:
    lines = [(split, image, *label.split("|")) for image, label, split, _ in CELLS]
    uri = write_csv(tmp_path / "rows.csv", *lines)
    check_table(uri)
    assert list(read_rows(uri)) == [row._replace(group="") for row in numbered(1)]


@pytest.mark.parametrize(
    ("first", "is_row"),
    [
        ("TRAIN,gs://b/1.png,A", True),
        ("UNASSIGNED,gs://b/image,A", True),
        (",scan.png", True),
        ("test,a/b", True),
        ("split,image_uri,label", False),
        (",image_uri,label", False),  # as pandas writes its index
        ("image_uri,label", False),
    ],
)
def test_an_automl_csv_is_recognised_by_its_first_line(tmp_path: Path, first: str, is_row: bool) -> None:
    (tmp_path / "rows.csv").write_text(f"{first}\nTRAIN,x.png\n")
    assert len(list(read_rows(str(tmp_path / "rows.csv")))) == (2 if is_row else 1)


def test_parquet_nulls_numbers_and_lists_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    columns = {
        "other": [{"not": "read"}] * 3,
        "image_uri": [cells[0] for cells in CELLS],
        "label": [["NORMAL"], ["Nodule", "Mass"], None],
        "split": ["train", "VALIDATION", None],
        "group": ["p1", "p2", None],
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    check_table(str(path))
    assert list(read_rows(str(path))) == numbered(1)
    numbers = {"image_uri": ["a", "b", "c", "d"], "label": [0, 1, None, 1], "group": [1.5, float("nan"), None, 2.0]}
    pyarrow.parquet.write_table(pyarrow.table(numbers), path)
    assert [(row.label, row.group) for row in read_rows(str(path))] == [("0", "1.5"), ("1", ""), ("", ""), ("1", "2")]
    lists = {"image_uri": ["a", "b", "c"], "label": [[], ["A", None], [None]]}
    pyarrow.parquet.write_table(pyarrow.table(lists), path)
    assert [row.label for row in read_rows(str(path))] == ["|", "A", "|"]


def test_parquet_columns_written_by_other_programs_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    images = pyarrow.array(["a", "b", "c"], pyarrow.large_string())
    for label, expected in [
        (pyarrow.array([1.0, None, 0.0]), ["1", "", "0"]),  # how pandas stores whole numbers if some are missing
        (pyarrow.array([b"A", None, "\u00e9".encode()]), ["A", "", "\u00e9"]),
        (pyarrow.array(["A", None, "B"]).dictionary_encode(), ["A", "", "B"]),
        (pyarrow.array([["A", "B"], None, ["B"]], pyarrow.large_list(pyarrow.string())), ["A|B", "", "B"]),
    ]:
        pyarrow.parquet.write_table(pyarrow.table({"image_uri": images, "label": label}), path)
        assert [row.label for row in read_rows(str(path))] == expected
    for label, says in [([{"is": "A"}] * 3, "a cell of label holds a dict"), ([b"\xff"] * 3, "not text in UTF-8")]:
        pyarrow.parquet.write_table(pyarrow.table({"image_uri": images, "label": label}), path)
        with pytest.raises(UsageError, match=says):
            check_table(str(path))


def test_spaces_quotes_file_uris_and_blank_rows_are_handled(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(' image_uri , label\nfile:///x/a%20b.png, "A, or ""a"""\n , \n\nc.png,B,,\n')
    check_table(str(path))
    found = [(row.line, row.image, row.label) for row in read_rows(str(path))]
    assert found == [(2, "/x/a b.png", 'A, or "a"'), (5, "c.png", "B")]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ('a.png,A\n"b.png,B\nc.png,A\n', r"not CSV text \(line 4: .*; is a quote unclosed\?\)"),
        (
            "a.png,A\nb.png,B, viral\n",
            "not a table: line 3 has 3 cells but the header has 2; quote cells with commas",
        ),
        ("a.png,A\nb\0.png,B\n", "not CSV text"),
    ],
)
def test_a_damaged_csv_is_refused_instead_of_losing_rows(tmp_path: Path, rows: str, says: str) -> None:
    (tmp_path / "rows.csv").write_text(f"image_uri,label\n{rows}")
    with pytest.raises(UnreadableTable, match=says):
        list(read_rows(str(tmp_path / "rows.csv")))


def test_a_repeated_column_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("image_uri,label,label\na.png,A,B\n")
    columns = [pyarrow.array(["a.png"])] * 3
    names = ["image_uri", "split", "split"]
    pyarrow.parquet.write_table(pyarrow.Table.from_arrays(columns, names=names), tmp_path / "rows.parquet")
    with pytest.raises(UsageError, match=r"rows\.csv has more than one column label; keep one"):
        check_table(str(tmp_path / "rows.csv"))
    with pytest.raises(UsageError, match=r"rows\.parquet has more than one column split; keep one"):
        check_table(str(tmp_path / "rows.parquet"))


def test_a_file_that_is_not_a_valid_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.parquet").write_bytes(b"PAR1, or not")
    (tmp_path / "rows.csv").write_bytes(b"image_uri,label\na.png,A\n" * 10_000 + b"\xff\xfe,B\n")
    with pytest.raises(UsageError, match=r"rows\.parquet is not a Parquet file"):
        check_table(str(tmp_path / "rows.parquet"))
    with pytest.raises(UnreadableTable, match="not CSV text"):
        list(read_rows(str(tmp_path / "rows.csv")))
    with pytest.raises(UsageError, match="does not exist"):
        check_table(str(tmp_path / "none.parquet"))
    pyarrow.parquet.write_table(pyarrow.table({"image_uri": ["a"], "class": ["A"]}), tmp_path / "rows.pq")
    with pytest.raises(
        UsageError, match="has no column label; it must name image_uri, label and may name split, group"
    ):
        check_table(str(tmp_path / "rows.pq"))


def test_a_table_that_is_compressed_with_gzip_is_read(tmp_path: Path) -> None:
    uri = write_csv(tmp_path / "rows.csv", ("image_uri", "label", "split", "group"), *CELLS)
    packed = gzip.compress(b"\xef\xbb\xbf" + (tmp_path / "rows.csv").read_bytes())
    (tmp_path / "rows.csv.gz").write_bytes(packed)
    check_table(f"{uri}.gz")
    assert list(read_rows(f"{uri}.gz")) == numbered(2)


@pytest.mark.parametrize("damage", ["cut", "flipped", "other"])
def test_a_damaged_gzip_file_is_refused(tmp_path: Path, damage: str) -> None:
    random = np.random.default_rng(0)
    text = "image_uri,label\n" + "".join(f"{value:x}.png,A\n" for value in random.integers(0, 2**60, 5000).tolist())
    packed = bytearray(gzip.compress(text.encode()))
    if damage == "flipped":
        packed[-6] ^= 0xFF  # the checksum: rows that still look right must not be taken
    found = {"cut": bytes(packed[:-2000]), "flipped": bytes(packed), "other": text.encode()}[damage]
    (tmp_path / "rows.csv.gz").write_bytes(found)
    with pytest.raises(UnreadableTable, match="not a complete gzip file; fetch it again"):
        list(read_rows(str(tmp_path / "rows.csv.gz")))
