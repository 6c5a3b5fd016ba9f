"""The names of shards, of data sets and of scores. No other module knows their format."""

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


SCORE_FORMATS = JSONL, PARQUET = "jsonl", "parquet"
_SCORES_NAME = re.compile(
    rf"(?P<prefix>.+)-(?P<index>\d{{5,}})-of-(?P<count>\d{{5,}})\.(?P<format>{'|'.join(SCORE_FORMATS)})(?:\..*)?"
)


@dataclass(frozen=True)
class ScoresName:
    """Shard number `index` of `count` shards of scores. `str()` gives its file name, `scores-00000-of-00016.jsonl`, whose
    end tells other software the format, one of SCORE_FORMATS."""

    prefix: str
    index: int
    count: int
    format: str

    def __str__(self) -> str:
        return f"{self.prefix}-{self.index:05d}-of-{self.count:05d}.{self.format}"

    @classmethod
    def parse(cls, file: str) -> "ScoresName | None":
        """The inverse of `str()`. A dot and more text may follow the name. None for any other file name."""
        match = _SCORES_NAME.fullmatch(file)
        if match is None or int(match["index"]) >= int(match["count"]):
            return None
        return cls(match["prefix"], int(match["index"]), int(match["count"]), match["format"])


def is_shard(file: str) -> bool:
    """Whether a file name is that of a shard, which a dot and more text may follow."""
    return ShardName.parse(file) is not None or ScoresName.parse(file) is not None


def tfds_template(prefix: str) -> str:
    """The same names as a `filepathTemplate` of TensorFlow Datasets (see its ShardedFileTemplate)."""
    return f"{prefix}-{{SPLIT}}.{{FILEFORMAT}}-{{SHARD_X_OF_Y}}"
