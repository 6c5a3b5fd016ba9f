"""The settings of one conversion, checked before anything is read or written."""

import hashlib
import json
import re
import uuid
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from beam_jobs.storage import storage
from schemas.dataset import Manifest, Published, check_name, version_of
from schemas.decoders import pool
from schemas.decoders.pool import DEFAULT_MEMORY, DEFAULT_SECONDS
from schemas.errors import UsageError
from schemas.labels import MULTI_HOT, MULTI_HOT_UNCERTAIN, SEPARATOR
from schemas.pixels.settings import ImageSettings
from schemas.presets import MASK, PRESETS, UNCERTAIN_AS, VIEWS, Preset
from schemas.source import compile_group_pattern

DICOM_DECODERS = ("pydicom", "tfio")
# The names of Beam's local runners. A job with any of them runs on the same engine, because DirectRunner would first
# try to download another engine.
LOCAL_RUNNERS = ("", "FnApiRunner", "DirectRunner", "BundleBasedDirectRunner", "SwitchingDirectRunner")
WORK_FOLDER = "_work"  # inside the output; holds unfinished work, and is deleted when the data set is published

LEAST_MEMORY = 64  # MiB; less is useless

# These settings never change what a shard holds, so finished shards stay valid when these settings change.
_NOT_IN_SHARDS = (
    "max_reject_fraction",
    "dry_run",
    "prices",
    "overwrite",
    "threads",
    "decoders",
    "decoder_memory",
    "decode_timeout",
    "output",
    "local",
    "id_key_file",  # the location of the key; the check value identifies the key
    "retry_quarantine",
    "near_duplicates_of",  # the check value identifies the pairs
    "launch",
    "small_input",
    "launcher",  # a run whose workers differ from the launcher fails
)


@dataclass(frozen=True)
class ConvertConfig:
    """The settings of `python -m beam_jobs.convert`. The fields mean what the flags of the same names mean.

    input and output: absolute local folders or gs:// URIs. shards: per split, 0 to choose by size. classes: in label
    order, () for those of the preset or else those in the data, sorted. multi_label: an image may have several labels,
    even if none has. uncertain and view: "" for the default of a preset that has uncertain findings and views.
    limit: 0 for no limit. threads: reading threads, 0 to choose by machine and input. decoders: child processes per
    worker, 0 for one per core. decoder_memory: memory of each decoder in MiB. decode_timeout: seconds per image. local:
    the workers run on this machine. launch: a unique name of this launch. id_key_file: only the location of the key,
    never the key itself. id_key_check: a one-way check value of the key, "" without one. near_duplicates_check: a hash
    of the pairs that near_duplicates_of names, "" without it. prices: the table for the estimate of dry_run, "" for that
    of costs.py. launcher: the versions (remote/versions.py) that workers on other machines must have, () if there are
    none. small_input: one request to a bucket lists the input. worker_extras: the extras of this package that such
    workers need. compared: packages, beside the decoders, whose versions decide the result. Raises UsageError, naming the
    flag and the value, for an invalid setting.

    `published` to `labelled` say what a job of this kind publishes, for messages, and whether its inputs need a label.
    """

    published: ClassVar[str] = "a published data set"
    unfinished: ClassVar[str] = "an unfinished conversion with other settings"
    doing: ClassVar[str] = "converting"
    labelled: ClassVar[bool] = True
    worker_extras: ClassVar[tuple[str, ...]] = ()
    compared: ClassVar[tuple[str, ...]] = ()

    input: str
    output: str
    name: str = "cxr"
    image: ImageSettings = field(default_factory=ImageSettings)
    manifest: str = ""
    preset: str = ""
    classes: tuple[str, ...] = ()
    multi_label: bool = False
    uncertain: str = ""
    view: str = ""
    group_pattern: str = ""
    validation_fraction: float = 0.1
    test_fraction: float = 0.0
    sample_fraction: float = 1.0
    limit: int = 0
    shards: int = 0
    seed: int = 0
    max_reject_fraction: float = 0.01
    allow_group_overlap: bool = False
    include_source_uri: bool = False
    id_key_file: str = ""
    id_key_check: str = ""
    retry_quarantine: str = ""
    near_duplicates_of: str = ""
    near_duplicates_check: str = ""
    threads: int = 0
    decoders: int = 0
    decoder_memory: int = DEFAULT_MEMORY >> 20
    decode_timeout: float = DEFAULT_SECONDS
    dicom_decoder: str = DICOM_DECODERS[0]
    dry_run: bool = False
    prices: str = ""
    overwrite: bool = False
    local: bool = True
    launch: str = field(default_factory=lambda: uuid.uuid4().hex, compare=False)
    launcher: tuple[tuple[str, str], ...] = ()
    small_input: bool = False

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.preset and self.preset not in PRESETS:
            raise UsageError(f"--preset {self.preset!r} is unknown; known presets: {', '.join(PRESETS)}")
        self._check_classes()
        self._check_of_preset("uncertain", UNCERTAIN_AS, [name for name, preset in PRESETS.items() if preset.uncertain])
        self._check_of_preset("view", VIEWS, [name for name, preset in PRESETS.items() if preset.views])
        if self.preset and self.group_pattern:
            raise UsageError(f"--preset {self.preset} has its own group pattern; omit --group_pattern")
        if self.group_pattern:
            compile_group_pattern(self.group_pattern)
        for flag in ("validation_fraction", "test_fraction"):
            if not 0 <= getattr(self, flag) < 1:
                raise UsageError(f"--{flag} {getattr(self, flag)}: must be at least 0 and below 1")
        if self.validation_fraction + self.test_fraction >= 1:
            raise UsageError("--validation_fraction and --test_fraction together leave nothing to train on")
        if not 0 < self.sample_fraction <= 1:
            raise UsageError(f"--sample_fraction {self.sample_fraction}: must be above 0 and at most 1")
        if not 0 <= self.max_reject_fraction <= 1:
            raise UsageError(f"--max_reject_fraction {self.max_reject_fraction}: must be from 0 to 1")
        for flag in ("limit", "shards", "threads", "decoders"):
            if getattr(self, flag) < 0:
                raise UsageError(f"--{flag} {getattr(self, flag)}: must be at least 1")
        self._check_decoding()
        if self.shards > 99_999:
            raise UsageError(f"--shards {self.shards}: must be at most 99999")
        if self.output == self.input or self.output.startswith(self.input.rstrip("/") + "/"):
            raise UsageError(
                f"--output {self.output} is inside --input, where its files would be read as images; give another folder"
            )
        if self.prices and not self.dry_run:
            raise UsageError(f"--prices {self.prices} needs --dry_run, which prints the estimate")
        if self.near_duplicates_of == self.output:
            raise UsageError(
                f"--near_duplicates_of {self.output} is also --output; give the new version a folder of its own"
            )

    def _check_decoding(self) -> None:
        if not LEAST_MEMORY <= self.decoder_memory <= 1 << 20:
            raise UsageError(f"--decoder_memory {self.decoder_memory}: must be from {LEAST_MEMORY} to {1 << 20} MiB")
        if not 0 < self.decode_timeout <= 86_400:
            raise UsageError(f"--decode_timeout {self.decode_timeout:g}: must be above 0 and at most 86400 seconds")
        if self.dicom_decoder not in DICOM_DECODERS:
            raise UsageError(f"--dicom_decoder {self.dicom_decoder!r}: must be one of {', '.join(DICOM_DECODERS)}")

    def _check_classes(self) -> None:
        given = f"--classes {','.join(self.classes)}"
        if len(self.classes) == 1 or len(set(self.classes)) < len(self.classes) or "" in self.classes:
            raise UsageError(f"{given}: give at least two different names, separated by commas")
        if joined := next((name for name in self.classes if SEPARATOR in name), None):
            raise UsageError(
                f"{given}: {joined!r} is not a class, because {SEPARATOR} separates the labels of an image"
            )
        for table in self.public_set.tables:
            if self.classes and table.codes and len(self.classes) != len(table.codes):
                codes = " and ".join(table.codes)
                raise UsageError(
                    f"{given}: --preset {self.preset} needs {len(table.codes)} classes, for {table.label} {codes}"
                )

    def _check_of_preset(self, flag: str, values: tuple[str, ...], presets: list[str]) -> None:
        value = getattr(self, flag)
        if value and value not in values:
            raise UsageError(f"--{flag} {value!r}: must be one of {', '.join(values)}")
        if value and self.preset not in presets:
            raise UsageError(f"--{flag} {value} needs --preset {' or '.join(presets)}; omit it")

    @property
    def work(self) -> str:
        """The folder of unfinished work."""
        return storage.join(self.output, WORK_FOLDER)

    @property
    def manifest_type(self) -> type[Published]:
        """What reads the manifest.json that a job of this kind publishes."""
        return Manifest

    @property
    def public_set(self) -> Preset:
        """What is known about the data set; an empty Preset without --preset."""
        return PRESETS[self.preset] if self.preset else Preset((), self.group_pattern, {})

    @property
    def class_order(self) -> tuple[str, ...]:
        """The classes in label order, if they are fixed before the data is read."""
        return self.classes or self.public_set.classes

    @property
    def uncertain_as(self) -> str:
        """What an uncertain finding becomes, one of UNCERTAIN_AS; "" if none can be uncertain."""
        return (self.uncertain or UNCERTAIN_AS[0]) if self.public_set.uncertain else ""

    @property
    def view_kept(self) -> str:
        """The view of the images to convert, one of VIEWS; "" if the views are not known."""
        return (self.view or VIEWS[0]) if self.public_set.views else ""

    @property
    def label_kind(self) -> str:
        """The kind of label (schemas/labels.py), "" if the data decides."""
        if self.uncertain_as == MASK:
            return MULTI_HOT_UNCERTAIN
        return MULTI_HOT if self.multi_label or self.public_set.multi_label else ""

    @property
    def group_regex(self) -> re.Pattern[str] | None:
        """The compiled pattern that captures the patient in a path, if there is one."""
        pattern = self.public_set.group_pattern
        return compile_group_pattern(pattern) if pattern else None  # re caches compiled patterns

    @property
    def version(self) -> str:
        """The data set's version, as its folder names it."""
        return version_of(self.output)

    def settings(self) -> dict[str, Any]:
        """The settings to store in the manifest: all that shape the data set, and no path."""
        hidden = ("input", "manifest", "image", "name", "id_key_check")
        return {name: value for name, value in self._shaping().items() if name not in hidden}

    def fingerprint(self) -> str:
        """A hash of every setting that determines a shard's bytes. Runs with equal fingerprints may share finished
        shards."""
        return hashlib.sha256(json.dumps(self._shaping(), sort_keys=True).encode()).hexdigest()[:16]

    def _shaping(self) -> dict[str, Any]:
        settings = {name: value for name, value in asdict(self).items() if name not in _NOT_IN_SHARDS}
        if not self.near_duplicates_of:  # without the flag the fingerprint is that of earlier releases
            del settings["near_duplicates_check"]
        # Likewise for the flags of some presets; with these presets, the default is a setting like any other.
        for name, value in (("uncertain", self.uncertain_as), ("view", self.view_kept)):
            del settings[name]
            if value:
                settings[name] = value
        return settings


def most_bytes(config: ConvertConfig) -> int:
    """The size in bytes of the largest file that is read."""
    return pool.most_bytes(config.decoder_memory << 20)
