"""What becomes of an input, and of a shard."""

import base64
import json
from dataclasses import asdict, dataclass
from typing import NamedTuple, TypeAlias

from schemas.dataset import Shard
from schemas.labels import Label


class Quarantined(NamedTuple):
    """One input that could not be converted, as quarantine.jsonl tells it. checksum: "" where it could not be read. size:
    None for a file that is not there."""

    uri: str
    checksum: str
    size: int | None
    stage: str
    reason: str
    detail: str
    format: str


class Converted(NamedTuple):
    """One input that became a record: the framed bytes, the label, what is worth counting about it, its id and the
    signature of its pixels."""

    record: bytes
    label: Label
    notes: tuple[str, ...]
    id: str
    signature: bytes


class Skipped(NamedTuple):
    """One input that turned out, once read, to hold no image by its nature, such as a DICOM report."""

    reason: str


Outcome: TypeAlias = Converted | Quarantined | Skipped


@dataclass(frozen=True)
class ShardResult:
    """A finished shard and what became of the inputs that fell into it. `inputs`: a hash of those that were not
    quarantined. `signatures`: those of its records, as crowds.HASHED rows."""

    split: str
    index: int
    shard: Shard
    quarantined: tuple[Quarantined, ...]
    skipped: dict[str, int]
    notes: dict[str, int]
    inputs: str
    signatures: bytes = b""

    def to_json(self) -> str:
        """The text of the small file that marks a shard as finished."""
        return json.dumps({**asdict(self), "signatures": base64.b64encode(self.signatures).decode()})

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
            signatures=base64.b64decode(content["signatures"]),
        )
