"""What `training.predict` prints for an image: a row of tab-separated text, CSV or JSON."""

import csv
import io
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from schemas.labels import NO_FINDING, SEPARATOR
from training.config import CSV, JSON

_NAMES = {None: "unknown", False: "in_scope", True: "out_of_scope"}

Record = Mapping[str, Any]  # as printed in JSON


def header(columns: Sequence[str]) -> str:
    """The first line of a CSV."""
    return _csv_line(columns)


def line(record: Record, columns: Sequence[str], format: str) -> str:
    """One image's line, with its end. JSON holds the whole record; the other formats hold `columns`, where the name of the
    class, or of the findings, and the highest probability stand for all."""
    if format == JSON:
        return json.dumps(record) + "\n"
    row = {**record, "class": _class(record)}
    for name in ("probability", "calibrated_probability", "corrected_probability"):
        every = record.get(name.replace("probability", "probabilities"))
        if every is not None:
            row[name] = max(every.values())
    if format == CSV:
        row["out_of_scope"] = {None: None, False: "false", True: "true"}[row["out_of_scope"]]
        return _csv_line([row[name] for name in columns])  # None becomes an empty cell
    row["out_of_scope"] = _NAMES[row["out_of_scope"]]
    return "\t".join(_short(row[name]) for name in columns) + "\n"


def write(text: str) -> None:
    """Writes to stdout in UTF-8, whatever the locale; a file name that is not UTF-8 leaves as it came."""
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
    sys.stdout.buffer.flush()


def _class(record: Record) -> str:
    return str(record["class"]) if "class" in record else SEPARATOR.join(record["findings"]) or NO_FINDING


def _short(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.6f}" if isinstance(value, float) else str(value)


def _csv_line(values: Sequence[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()
