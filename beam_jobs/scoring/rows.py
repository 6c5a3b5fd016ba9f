"""The rows of a shard of scores: what they say of an image, and how JSON lines and Parquet hold them."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

import google_crc32c
import pyarrow
import pyarrow.parquet

from beam_jobs.scoring.config import ScoringConfig
from schemas.labels import CLASS
from schemas.prediction import Probabilities, prediction_of, tempered
from schemas.scores import CALIBRATED, CLASS_COLUMN, FINDINGS, ID, URI, columns_of
from schemas.shard_name import PARQUET

Row = dict[str, Any]

_GROUP_ROWS = 5_000  # of Parquet that are held until they are written


def rows_of(probabilities: Probabilities, ids: list[str], uris: list[str], config: ScoringConfig) -> list[Row]:
    """A row for each image: what training.predict says of it. probabilities: float64 [images, outputs]."""
    model = config.exported
    exclusive = model.label_kind == CLASS and model.outputs > 1
    scaled = tempered(probabilities, model.temperature, exclusive) if model.temperature else probabilities
    rows = []
    for id, uri, plain, calibrated in zip(ids, uris, probabilities.tolist(), scaled.tolist(), strict=True):
        said = prediction_of(plain, model.classes, model.label_kind, model.thresholds)
        of_calibrated = prediction_of(calibrated, model.classes, model.label_kind, model.thresholds)
        # The thresholds apply to the model's own probabilities, so calibrated ones decide no class.
        kept = {
            CALIBRATED + name: value for name, value in of_calibrated.items() if name not in (CLASS_COLUMN, FINDINGS)
        }
        rows.append({ID: id, **({URI: uri} if config.include_source_uri else {}), **said, **kept})
    return rows


def predicted_in(row: Row, classes: tuple[str, ...]) -> list[int]:
    """The indices of the class or the findings that a row names."""
    return [classes.index(name) for name in (row[FINDINGS] if FINDINGS in row else [row[CLASS_COLUMN]])]


class Hashed:
    """A file that is written once, from its beginning, with the digests of what was written."""

    closed = False

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._sha256, self._crc32c = hashlib.sha256(), google_crc32c.Checksum()
        self.bytes = 0

    def write(self, data: Any) -> int:
        """Appends bytes, or what can be read as bytes."""
        content = bytes(data)
        self._file.write(content)
        self._sha256.update(content)
        self._crc32c.update(content)
        self.bytes += len(content)
        return len(content)

    def tell(self) -> int:
        """The number of bytes so far."""
        return self.bytes

    def flush(self) -> None:
        """Its owner flushes the file."""

    def close(self) -> None:
        """Its owner closes the file."""

    @property
    def sha256(self) -> str:
        """Of all that was written, in hexadecimal."""
        return self._sha256.hexdigest()

    @property
    def crc32c(self) -> str:
        """Of all that was written, in hexadecimal."""
        return str(self._crc32c.digest().hex())


@contextmanager
def writing_rows(file: Hashed, config: ScoringConfig) -> Iterator[Callable[[Row], object]]:
    """A function that appends a row to the file. The file is complete after the body of the `with`."""
    if config.format != PARQUET:
        yield lambda row: file.write(json.dumps(row).encode() + b"\n")
        return
    schema = parquet_schema(config)
    held: list[Row] = []
    with pyarrow.parquet.ParquetWriter(pyarrow.PythonFile(file, mode="w"), schema) as writer:

        def write_held() -> None:
            writer.write_table(pyarrow.Table.from_pylist(held, schema))
            held.clear()

        def append(row: Row) -> None:
            held.append(row)
            if len(held) == _GROUP_ROWS:
                write_held()

        yield append
        if held:
            write_held()


def parquet_schema(config: ScoringConfig) -> pyarrow.Schema:
    """The columns with their types: probabilities by class are a struct, findings a list."""
    model = config.exported
    number = pyarrow.float64()
    by_class = pyarrow.struct([(name, number) for name in model.classes])
    types = {ID: pyarrow.string(), URI: pyarrow.string(), CLASS_COLUMN: pyarrow.string()}
    types[FINDINGS] = pyarrow.list_(pyarrow.string())
    columns = columns_of(model.classes, model.label_kind, config.include_source_uri)
    return pyarrow.schema([(name, types.get(name, number if name.endswith("y") else by_class)) for name in columns])
