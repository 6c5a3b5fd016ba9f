"""What a published data set promises: the manifest, and its shards.

A data set is a folder. Readers open `manifest.json` and only the files that it names. It is written last, so a folder
without one is not (or not yet) a data set.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol

from schemas.errors import UsageError
from schemas.labels import CLASS, KINDS
from schemas.pixels.settings import ImageSettings
from schemas.shard_name import FILE_FORMAT

MANIFEST = "manifest.json"
FORMAT, FORMAT_VERSION = "radrecords", 3
SPLITS = ("train", "validation", "test")

OUTCOMES = ("written", "quarantined", "duplicates", "skipped")


@dataclass(frozen=True)
class Shard:
    """One finished file, TFRecord or scores (schemas/scores.py): its name inside the published folder, size in bytes,
    SHA-256 and CRC32C (RFC 3720) in hexadecimal ("" in manifests before format version 3), number of examples, and the
    number of examples of each class in the order of the classes (if images can have several labels, the sum may differ
    from the number of examples)."""

    file: str
    bytes: int
    sha256: str
    examples: int
    label_counts: tuple[int, ...]
    crc32c: str = ""


class Published(Protocol):
    """A manifest of any kind: what the protocol of publication must know of it."""

    @property
    def revision(self) -> int:
        """How often the folder has been published."""

    @property
    def every_shard(self) -> tuple[Shard, ...]:
        """All shards that it names."""

    def to_json(self) -> str:
        """The text of manifest.json."""

    @classmethod
    def from_json(cls, text: str, folder: str) -> "Published":
        """The inverse of to_json; raises UsageError, naming the folder and what to do."""


@dataclass(frozen=True)
class Manifest:
    """The content of `manifest.json`. `revision` counts the publications of this folder (--overwrite adds one).

    `inputs` counts the inputs as listed, written, quarantined, duplicates and skipped; `listed` is the sum of the
    others. `skipped`, `quarantined` and `notes` count by reason. `label_kind` (schemas/labels.py) is "class" in
    manifests without it. `record_bytes`: the length of every framed record; None if they differ, or in manifests
    without it. `settings` holds the other settings of the conversion, for people and for new versions of the
    data set.
    """

    name: str
    version: str
    revision: int
    classes: tuple[str, ...]
    image: ImageSettings
    inputs: Mapping[str, int]
    skipped: Mapping[str, int]
    quarantined: Mapping[str, int]
    notes: Mapping[str, int]
    splits: Mapping[str, tuple[Shard, ...]]
    settings: Mapping[str, Any]
    label_kind: str = CLASS
    record_bytes: int | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of every image."""
        return self.image.shape

    @property
    def every_shard(self) -> tuple[Shard, ...]:
        """The shards of all splits."""
        return tuple(shard for shards in self.splits.values() for shard in shards)

    def examples(self, split: str) -> int:
        """The number of examples in `split`."""
        return sum(shard.examples for shard in self.shards(split))

    def label_counts(self, split: str) -> tuple[int, ...]:
        """The number of examples of each class in `split`, in the order of `classes`."""
        return tuple(sum(counts) for counts in zip(*(s.label_counts for s in self.shards(split)), strict=True))

    def shards(self, split: str) -> tuple[Shard, ...]:
        """The shards of `split`. Raises UsageError, listing the splits, if the data set has no such split."""
        if split not in self.splits:
            raise UsageError(f"data set {self.name} has no split {split!r}; it has {', '.join(self.splits)}")
        return self.splits[split]

    def unlisted_shards(self, names: Iterable[str]) -> list[str]:
        """The file names that look like shards but do not belong to this data set, sorted."""
        listed = {shard.file for shard in self.every_shard}
        return sorted(name for name in names if f".{FILE_FORMAT}" in name and name not in listed)

    def to_json(self) -> str:
        """The text of manifest.json: indented, keys in a fixed order, so that equal data sets have equal manifests."""
        splits = {
            split: {
                "examples": self.examples(split),
                "labels": dict(zip(self.classes, self.label_counts(split), strict=True)),
                "shards": [asdict(shard) for shard in shards],
            }
            for split, shards in self.splits.items()
        }
        content = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "name": self.name,
            "version": self.version,
            "revision": self.revision,
            "classes": list(self.classes),
            "label_kind": self.label_kind,
            "image": asdict(self.image),
            "record_bytes": self.record_bytes,
            "inputs": dict(self.inputs),
            "skipped": dict(sorted(self.skipped.items())),
            "quarantined": dict(sorted(self.quarantined.items())),
            "notes": dict(sorted(self.notes.items())),
            "splits": splits,
            "settings": dict(self.settings),
        }
        return json.dumps(content, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str, folder: str) -> "Manifest":
        """Reads and checks the text of `folder`'s manifest.json. Raises UsageError, naming the folder and what to do,
        if it is not a manifest, has a newer version, or contradicts itself."""
        where = f"{folder}/{MANIFEST}"
        try:
            content = json.loads(text)
        except ValueError as error:
            raise UsageError(f"{where} is damaged (not JSON: {error}); convert the images again") from error
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise UsageError(f"{where} is not a radrecords manifest")
        version = content.get("format_version")
        if not isinstance(version, int) or version > FORMAT_VERSION:
            raise UsageError(
                f"{where} has format version {version}, but this radrecords reads up to {FORMAT_VERSION}; "
                "upgrade radrecords, or convert the images again"
            )
        try:
            manifest = cls(
                classes=tuple(content["classes"]),
                label_kind=content.get("label_kind", CLASS),
                record_bytes=content.get("record_bytes"),
                image=ImageSettings(**content["image"]),
                splits={
                    split: tuple(
                        Shard(**{**shard, "label_counts": tuple(shard["label_counts"])}) for shard in entry["shards"]
                    )
                    for split, entry in content["splits"].items()
                },
                **{
                    field.name: content[field.name]
                    for field in fields(cls)
                    if field.name not in ("classes", "label_kind", "record_bytes", "image", "splits")
                },
            )
            manifest._check({split: entry["examples"] for split, entry in content["splits"].items()})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            reason = f"missing {error}" if isinstance(error, KeyError) else str(error)
            raise UsageError(f"{where} is damaged ({reason}); convert the images again") from error
        return manifest

    def _check(self, examples: Mapping[str, int]) -> None:
        if self.label_kind not in KINDS:
            raise ValueError(f"label_kind {self.label_kind!r}")
        for split, shards in self.splits.items():
            if examples[split] != self.examples(split):
                raise ValueError(
                    f"split {split} claims {examples[split]} examples, but its shards hold {self.examples(split)}"
                )
            for shard in shards:
                if not self._counts_can_be(shard):
                    raise ValueError(f"label counts of {shard.file} do not add up")
                if not isinstance(shard.bytes, int) or shard.bytes < 0:
                    raise ValueError(f"{shard.file} has {shard.bytes!r} bytes")
                if self.record_bytes is not None and shard.bytes != shard.examples * self.record_bytes:
                    raise ValueError(f"{shard.file} does not have {self.record_bytes} bytes per example")
                if "/" in shard.file or shard.file.startswith("."):
                    raise ValueError(f"shard name {shard.file!r} points outside the folder")
        if self.inputs["listed"] != sum(self.inputs[outcome] for outcome in OUTCOMES):
            raise ValueError("inputs do not add up")
        if self.inputs["written"] != sum(examples.values()):
            raise ValueError(
                f"inputs say {self.inputs['written']} written, but the splits hold {sum(examples.values())}"
            )

    def _counts_can_be(self, shard: Shard) -> bool:
        counts = shard.label_counts
        total = sum(counts) == shard.examples if self.label_kind == CLASS else max(counts, default=0) <= shard.examples
        return total and len(counts) == len(self.classes) and min(counts, default=0) >= 0


def check_name(name: str) -> str:
    """Returns `name` if it can name a data set (TensorFlow Datasets' rule: lowercase words joined by `_`). Raises
    UsageError otherwise."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UsageError(f"--name {name!r}: use lowercase letters, digits and _, starting with a letter")
    return name


def version_of(folder: str) -> str:
    """The version that a folder such as `.../cxr/1.2.0` is named after, or 1.0.0 for any other folder."""
    last = folder.rstrip("/").rsplit("/", 1)[-1]
    return last if re.fullmatch(r"\d+\.\d+\.\d+", last) else "1.0.0"
