"""What a folder of published scores promises: the manifest, and the columns of its shards.

A shard is a file of JSON lines or Parquet with one row an image, in the order of the ids. The columns have the names that
`training.predict` gives them. `manifest.json` is written last, so a folder without one holds no scores (yet).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from schemas.dataset import MANIFEST, Shard
from schemas.errors import UsageError
from schemas.export import PROBABILITIES, PROBABILITY
from schemas.labels import CLASS
from schemas.shard_name import SCORE_FORMATS

FORMAT, FORMAT_VERSION = "radrecords-scores", 1
OUTCOMES = ("written", "quarantined", "skipped")
ID, URI, CLASS_COLUMN, FINDINGS, CALIBRATED = "id", "uri", "class", "findings", "calibrated_"


def columns_of(classes: Sequence[str], label_kind: str, uri: bool) -> tuple[str, ...]:
    """The names of the columns, in order, for a model of these classes."""
    one = label_kind == CLASS and len(classes) == 2
    probability = PROBABILITY if one else PROBABILITIES
    said = CLASS_COLUMN if label_kind == CLASS else FINDINGS
    return (ID, *((URI,) if uri else ()), probability, said, CALIBRATED + probability)


def is_scores(text: str) -> bool:
    """Whether the text of a manifest.json is one of scores, though perhaps a damaged one."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.get("format") == FORMAT


@dataclass(frozen=True)
class ScoresManifest:
    """The content of `manifest.json`. `revision` counts the publications of this folder (--overwrite adds one).

    `model` identifies the export: its `sha256`, and from its metadata `weights_sha256`, `recipe`, `data`, `classes`,
    `label_kind`, `operating_point`, `calibration` and `preprocessing`. `columns`: see columns_of. `inputs` counts the
    inputs as listed, written, quarantined and skipped; `listed` is the sum of the others. `skipped`, `quarantined` and
    `notes` count by reason, `predicted` by class or finding at the operating point. `settings` holds the other settings
    of the run.
    """

    revision: int
    model: Mapping[str, Any]
    file_format: str
    columns: tuple[str, ...]
    inputs: Mapping[str, int]
    skipped: Mapping[str, int]
    quarantined: Mapping[str, int]
    notes: Mapping[str, int]
    predicted: Mapping[str, int]
    shards: tuple[Shard, ...]
    settings: Mapping[str, Any]

    @property
    def every_shard(self) -> tuple[Shard, ...]:
        """All shards, in order."""
        return self.shards

    def to_json(self) -> str:
        """The text of manifest.json: indented, keys in a fixed order, so that equal scores have equal manifests."""
        content: dict[str, Any] = {"format": FORMAT, "format_version": FORMAT_VERSION}
        content |= {field.name: getattr(self, field.name) for field in fields(self)}
        content |= {name: dict(sorted(content[name].items())) for name in ("skipped", "quarantined", "notes")}
        content["shards"] = [asdict(shard) for shard in self.shards]
        return json.dumps(content, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str, folder: str) -> "ScoresManifest":
        """Reads and checks the text of `folder`'s manifest.json. Raises UsageError, naming the folder and what to do, if it
        is not a manifest of scores, has a newer version, or contradicts itself."""
        where = f"{folder}/{MANIFEST}"
        try:
            content = json.loads(text)
            if content["format"] != FORMAT:
                raise UsageError(f"{where} is not a manifest of scores")
            version = content["format_version"]
            if not isinstance(version, int) or version > FORMAT_VERSION:
                raise UsageError(f"{where} has format version {version}; upgrade radrecords, or predict again")
            known = {field.name: content[field.name] for field in fields(cls)}
            shards = tuple(
                Shard(**{**shard, "label_counts": tuple(shard["label_counts"])}) for shard in known["shards"]
            )
            manifest = cls(**{**known, "shards": shards, "columns": tuple(known["columns"])})
            manifest._check()
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise UsageError(f"{where} is damaged ({type(error).__name__}); predict again") from error
        return manifest

    def _check(self) -> None:
        if not isinstance(self.revision, int) or self.file_format not in SCORE_FORMATS:
            raise ValueError("fields")
        if self.inputs["listed"] != sum(self.inputs[outcome] for outcome in OUTCOMES):
            raise ValueError("inputs do not add up")
        if self.inputs["written"] != sum(shard.examples for shard in self.shards):
            raise ValueError("shards do not add up")
        if any("/" in shard.file or shard.file.startswith(".") for shard in self.shards):
            raise ValueError("a shard outside the folder")
