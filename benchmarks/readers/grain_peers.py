"""grain on ArrayRecord files, whose records are the raw pixels and the label."""

import itertools
from pathlib import Path

import grain
import numpy as np
import numpy.typing as npt
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image

from benchmarks.readers.way import Arrays, Data, Epochs, labelled_files, python_way

PACKAGES = ("grain", "array-record")


def prepare(data: Data) -> None:
    """Writes the files. A group of one record is what ArrayRecord's documentation advises for random access."""
    folder = Path(data.peers) / "arrayrecord"
    folder.mkdir()
    files = labelled_files(data.png)
    for number in range(data.shards):
        writer = ArrayRecordWriter(str(folder / f"{number:05d}.arrayrecord"), "group_size:1")
        for file, label in files[number :: data.shards]:
            with Image.open(file) as image:
                writer.write(np.array(image).tobytes() + bytes([label]))
        writer.close()


def _parsed(record: bytes) -> tuple[npt.NDArray[np.uint8], np.uint8]:
    values = np.frombuffer(record, np.uint8)
    return values[:-1], values[-1]


def _grain(data: Data, _: str, batch: int) -> Epochs:
    source = grain.sources.ArrayRecordDataSource(sorted(map(str, Path(data.peers).glob("arrayrecord/*"))))
    records = grain.MapDataset.source(source)
    for epoch in itertools.count():
        parsed = records.shuffle(seed=epoch).map(_parsed).batch(batch)
        yield iter(parsed.to_iter_dataset())


def _arrays(batch: tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]], _: Data) -> Arrays:
    return batch


WAYS = [python_way("grain, ArrayRecord", _grain, _arrays)]
