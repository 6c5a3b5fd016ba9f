"""When a shard is checked and read again."""

from collections.abc import Callable

import numpy as np
import pytest

from schemas.dataset import Shard
from schemas.errors import JobFailed
from tests.training.conftest import DataSet
from training.reading import files
from training.reading.files import Bytes
from training.reading.records import arrays_of, naming_damaged_shards, open_split
from training.reading.shards import DamagedShard, PatientRows, Row


class Failing:
    """Fails with each of `errors` in turn, and then fills."""

    row = Row(1, 0, 0, "u1", 0, 0)

    def __init__(self, *errors: Exception | None) -> None:
        self.errors = list(errors)

    def fill(self, shard: Shard, buffer: Bytes) -> None:
        if self.errors:
            raise DamagedShard(f"{shard.file} is damaged") from self.errors.pop(0)
        buffer[:] = 7


def fill(*errors: Exception | None) -> list[int]:
    buffer = np.zeros(3, np.uint8)
    PatientRows(Failing(*errors), attempts=3).fill(Shard("s", 3, "", 3, (3,)), buffer)
    return [int(value) for value in buffer]


def test_a_shard_is_read_until_it_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "FIRST_WAIT", 0.001)
    assert fill() == fill(None) == fill(OSError(), None) == [7, 7, 7]
    with pytest.raises(DamagedShard):
        fill(None, None, None)
    failing = Failing(FileNotFoundError(), None)
    with pytest.raises(DamagedShard):
        PatientRows(failing).fill(Shard("s", 3, "", 3, (3,)), np.zeros(3, np.uint8))
    assert len(failing.errors) == 1


def test_a_local_shard_that_changes_between_epochs(make_dataset: Callable[..., DataSet]) -> None:
    small = make_dataset(examples={"train": 12}, size=8)
    split = open_split(str(small.folder), small.manifest, "train")
    arrays = arrays_of(split)
    assert sum(len(chunk.ids) for chunk in arrays.chunks(0, 0)) == 12
    path = small.shard("train", 1)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)  # of the same size
    with pytest.raises(JobFailed, match="00001-of-00003 is damaged after"), naming_damaged_shards([split]):
        list(arrays.chunks(0, 1))


def test_a_shard_that_is_right_again_is_named(make_dataset: Callable[..., DataSet]) -> None:
    small = make_dataset(examples={"train": 12}, size=8)
    split = open_split(str(small.folder), small.manifest, "train")
    with (
        pytest.raises(JobFailed, match=r"00001-of-00003 has a different CRC32C; it can be read now, so start again"),
        naming_damaged_shards([split]),
    ):
        raise DamagedShard(f"{split.shards[1].file} has a different CRC32C")
