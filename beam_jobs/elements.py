"""The types that move between the steps of a conversion, in the order of the flow.

Sources (schemas/source.py) come before these types, and travel in blocks (passing/blocks.py). What each step counts is
in passing/tally.py.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from schemas.dataset import Shard
from schemas.labels import CLASS, Label
from schemas.source import Source


class Reference(NamedTuple):
    """One image to write, with the pseudonyms of the image and of its group."""

    source: Source
    id: str
    group: str
    split: str


@dataclass(frozen=True)
class Plan:
    """What will be written: the classes in label order and, for each split, the number of examples per label and the
    number of shards.

    A label of `counts` is a class or, if `label_kind` allows it, several (schemas/labels.py). `duplicates` and `skipped`
    account for the inputs that are not in `counts`; `notes` counts what users should know. `overlaps`: the first groups
    that are in several splits, as JSON texts, and the number of all such groups under "". `input_bytes`: the size of all
    files to read.
    """

    classes: tuple[str, ...]
    counts: Mapping[str, Mapping[str, int]]
    shards: Mapping[str, int]
    duplicates: int
    skipped: Mapping[str, int]
    notes: Mapping[str, int]
    label_kind: str = CLASS
    overlaps: Mapping[str, int] = field(default_factory=dict)
    input_bytes: int = 0

    @property
    def planned(self) -> int:
        """The number of images that will be read."""
        return sum(sum(labels.values()) for labels in self.counts.values())


class Quarantined(NamedTuple):
    """One input that could not be converted, as a line of quarantine.jsonl, and the id that its record would have had.
    checksum: "" if the file could not be read. size: None for a missing file."""

    uri: str
    checksum: str
    size: int | None
    stage: str
    reason: str
    detail: str
    format: str
    id: str


class Converted(NamedTuple):
    """One input that became a record: the framed bytes, the label, notes to count, the id, the signature of the pixels,
    and what dataset.html counts (write/image_counts.py): int64 [COLUMNS]."""

    record: bytes
    label: Label
    notes: tuple[str, ...]
    id: str
    signature: bytes
    counts: NDArray[np.int64]


class Skipped(NamedTuple):
    """One input that turned out not to be an image when it was read, such as a DICOM report."""

    reason: str


Outcome: TypeAlias = Converted | Quarantined | Skipped


@dataclass(frozen=True)
class ShardResult:
    """A finished shard and the outcomes of its inputs. `inputs`: a hash of the inputs that were not quarantined.
    `counts`: the table of write/image_counts.py. `signatures`: the signatures of the records, as crowds.HASHED rows."""

    split: str
    index: int
    shard: Shard
    quarantined: tuple[Quarantined, ...]
    skipped: dict[str, int]
    notes: dict[str, int]
    inputs: str
    counts: bytes
    signatures: bytes = b""

    def to_json(self) -> str:
        """The text of the small file that marks a shard as finished."""
        packed = {name: base64.b64encode(getattr(self, name)).decode() for name in ("counts", "signatures")}
        return json.dumps({**asdict(self), **packed})

    @classmethod
    def from_json(cls, text: str) -> "ShardResult":
        """The inverse of to_json."""
        content = json.loads(text)
        shard = content["shard"]
        return cls(
            split=content["split"],
            index=content["index"],
            shard=Shard(**{**shard, "label_counts": tuple(shard["label_counts"])}),
            quarantined=tuple(Quarantined(*entry) for entry in content["quarantined"]),
            skipped=content["skipped"],
            notes=content["notes"],
            inputs=content["inputs"],
            counts=base64.b64decode(content["counts"]),
            signatures=base64.b64decode(content["signatures"]),
        )
