"""The names of shards. No other module knows their format."""

import re
from dataclasses import dataclass

FILE_FORMAT = "tfrecord"
_NAME = re.compile(
    rf"(?P<prefix>.+)-(?P<split>[^-.]+)\.{FILE_FORMAT}-(?P<index>\d{{5,}})-of-(?P<count>\d{{5,}})(?:\..*)?"
)


@dataclass(frozen=True)
class ShardName:
    """Shard number `index` of the `count` shards of a split. `str()` gives its file name in the style of TensorFlow
    Datasets: `cxr-train.tfrecord-00000-of-00016` for the prefix `cxr`. Raises ValueError unless 0 <= index < count."""

    prefix: str
    split: str
    index: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise ValueError(f"shard {self.index} of {self.count}")

    def __str__(self) -> str:
        return f"{self.prefix}-{self.split}.{FILE_FORMAT}-{self.index:05d}-of-{self.count:05d}"

    @classmethod
    def parse(cls, file: str) -> "ShardName | None":
        """The inverse of `str()`. A dot and more text may follow the name. None for any other file name."""
        match = _NAME.fullmatch(file)
        if match is None or int(match["index"]) >= int(match["count"]):
            return None
        return cls(match["prefix"], match["split"], int(match["index"]), int(match["count"]))


def tfds_template(prefix: str) -> str:
    """The same names as a `filepathTemplate` of TensorFlow Datasets (see its ShardedFileTemplate)."""
    return f"{prefix}-{{SPLIT}}.{{FILEFORMAT}}-{{SHARD_X_OF_Y}}"
