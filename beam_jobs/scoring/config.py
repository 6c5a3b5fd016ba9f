"""The settings of one run of `beam_jobs.predict`, checked before anything is read or written."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from beam_jobs.settings.config import ConvertConfig
from schemas.dataset import Published
from schemas.errors import UsageError
from schemas.export import ExportedModel
from schemas.scores import ScoresManifest
from schemas.shard_name import JSONL, SCORE_FORMATS

# All that determines the bytes of a shard, besides the images. The model's SHA-256 stands for its preprocessing too.
_SHAPING = (
    *("input", "manifest", "sample_fraction", "limit", "shards", "seed", "include_source_uri", "id_key_check"),
    *("format", "model_sha256"),
)


@dataclass(frozen=True)
class ScoringConfig(ConvertConfig):
    """Those of a conversion whose inputs need no label, whose images are made as the model asks (`image`), and whose other
    fields about labels and splits are not used.

    format: one of SCORE_FORMATS. model: the place of the export. model_sha256: of that file. exported: what its metadata
    say. model_entries: the manifest's entry about the model. Raises UsageError, naming the flag and the value, for an
    invalid setting.
    """

    published: ClassVar[str] = "published scores"
    unfinished: ClassVar[str] = "unfinished work of another model or with other settings"
    doing: ClassVar[str] = "scoring"
    labelled: ClassVar[bool] = False
    # What workers need, and which packages decide the numbers and the bytes of Parquet.
    worker_extras: ClassVar[tuple[str, ...]] = ("predict",)
    compared: ClassVar[tuple[str, ...]] = ("onnxruntime", "pyarrow")

    name: str = "scores"
    format: str = JSONL
    model: str = field(kw_only=True)
    model_sha256: str = field(kw_only=True)
    exported: ExportedModel = field(kw_only=True)
    model_entries: dict[str, Any] = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.format not in SCORE_FORMATS:
            raise UsageError(f"--format {self.format!r}: must be {' or '.join(SCORE_FORMATS)}")

    @property
    def manifest_type(self) -> type[Published]:
        return ScoresManifest

    def settings(self) -> dict[str, Any]:
        """The settings to store in the manifest, which has entries of its own for the model and the format."""
        hidden = ("input", "manifest", "id_key_check", "format", "model_sha256")
        return {name: getattr(self, name) for name in _SHAPING if name not in hidden}

    def _shaping(self) -> dict[str, Any]:
        return {"job": "scores", **{name: getattr(self, name) for name in _SHAPING}}
