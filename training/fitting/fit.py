"""Trains a model, from the manifest to a finished run folder."""

import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from schemas.dataset import Manifest
from schemas.errors import UsageError
from schemas.labels import MULTI_HOT_UNCERTAIN
from training.config import DISK, TrainConfig
from training.decisions.operating_points import DEFAULT
from training.devices.cache import choose_cache
from training.devices.hardware import Hardware, find_hardware, jit, scope
from training.fitting.ensemble import member_configs, put_together, validated
from training.fitting.epochs import Epochs
from training.fitting.finish import finish_run, warn_of_no_negatives
from training.fitting.interruption import stopping
from training.models.networks import FLOAT32, build_model, load_pretrained
from training.models.objective import compile_model
from training.models.recipes import NO_WEIGHTS
from training.reading.array_batches import certain_counts
from training.reading.disk_cache import DiskCache, default_folder
from training.reading.files import is_remote
from training.reading.records import Split, all_splits, check_shards, open_dataset, open_split, unlisted_shards
from training.runs import run_folder
from training.runs.run_bucket import WorkingCopy, working_copy
from training.runs.run_folder import RunConfig
from training.task import BINARY, MULTICLASS, Task, task_of


def train(config: TrainConfig, after_epoch: Callable[[], None] = lambda: None) -> RunConfig:
    """Trains, chooses the best epoch and the threshold on the validation split, and returns the finished run's config.
    A run in a bucket is trained in a local copy, which is published after each epoch. Of an ensemble, the members are
    trained one after another (see ensemble.py). `after_epoch` is called whenever the run has been saved, and may raise what
    ends the training.

    Raises UsageError, before anything is written, if the data set, the output folder or the machine is unsuitable,
    JobFailed for damaged shards, a loss that is not a number, or a bucket that refuses the run, and Stopped after a signal.
    """
    needed = () if config.overwrite else (run_folder.CONFIG,)
    with working_copy(config.output, None if config.resume else needed) as copy:
        run = _train(replace(config, output=copy.folder), copy, after_epoch, member_configs(config))
    best = run.best or {}
    chosen = f"; threshold {run.thresholds[0]:.4f}" if run.task.kind == BINARY else ""
    which = f"{config.recipe.keep} epoch {best['epoch']:.0f} of {config.recipe.epochs}"
    if config.recipe.ensemble > 1:
        which = f"ensemble of {config.recipe.ensemble}"
    print(
        f"{which}: validation AUC {best['val_auc']:.4f}, "
        f"accuracy {best['val_accuracy']:.4f}{'' if run.task.kind == MULTICLASS else ' at 0.5'}{chosen}"
    )
    again = f" --recipe {config.recipe.source}" if config.recipe.sha256 else ""
    print(f"run: {config.output}; next: python -m training.evaluate --run {config.output} --data {config.data}{again}")
    return run


def _train(
    config: TrainConfig, copy: WorkingCopy, after_epoch: Callable[[], None], members: Sequence[TrainConfig]
) -> RunConfig:
    def kept() -> None:
        copy.publish()
        after_epoch()

    manifest = open_dataset(config.data)
    splits: Sequence[Split] = [open_split(config.data, manifest, name) for name in ("train", "validation")]
    task = task_of(manifest)
    check_classes(config.data, manifest, task)
    hardware = find_hardware(config.devices)
    cache = choose_cache(config.cache, config.cache_mb, hardware, splits)
    splits = [
        replace(
            split,
            read_ahead_bytes=config.read_ahead_mb << 20,
            disk_cache=DiskCache(default_folder(), config.disk_cache_mb << 20) if cache.kind == DISK else None,
        )
        for split in splits
    ]
    _check_files(config, manifest)
    keras.utils.set_random_seed(config.seed)
    previous = _previous(config)
    run = _planned(config, manifest, hardware, previous)
    with scope(hardware):
        model = build_model(config.recipe, manifest.shape, task, run.compute["dtype"])
        if config.recipe.weights != NO_WEIGHTS:
            load_pretrained(model, config.recipe.weights)
        run_folder.prepare_run(config.output, run, config.resume, config.overwrite)
        copy.publish()  # from here on, another command that had begun or read the same run fails
        certain = _certain_counts(config, manifest, splits[0])
        compile_model(model, config.recipe, task, manifest, run.compute["dtype"], jit(config.jit), certain)
        trains = not _only_chooses(config, previous)
        if trains and members:
            _train_members(members, after_epoch)
        elif trains:
            epochs = Epochs(model, config, manifest, splits, hardware, cache, kept)
            epochs.run()
            splits = epochs.splits
        if members:
            put_together(model, members, config.output)
            run = replace(run, best=validated(model, splits[1], config.recipe.batch_size, hardware.devices))
    with stopping("stopped while the run was finished; give the same command with --resume to finish it"):
        run = finish_run(config, run, *splits)
        copy.publish()
    return run


def _certain_counts(config: TrainConfig, manifest: Manifest, split: Split) -> list[int] | None:
    """In how many examples each finding is not uncertain, as far as a balanced loss needs it, or the labels are read in no
    time for a warning. The manifest counts only where a finding is present."""
    if manifest.label_kind != MULTI_HOT_UNCERTAIN or (is_remote(config.data) and not config.recipe.balanced):
        return None
    found = certain_counts(split)
    warn_of_no_negatives(config.data, split, manifest.classes, manifest.label_counts(split.name), found)
    return found


def _check_files(config: TrainConfig, manifest: Manifest) -> None:
    check_shards(all_splits(config.data, manifest), config.verify_data)
    for name in unlisted_shards(config.data, manifest):
        print(f"warning: {config.data}: {name} is not in the manifest and is not read", file=sys.stderr)


def _train_members(members: Sequence[TrainConfig], after_epoch: Callable[[], None]) -> None:
    for number, config in enumerate(members, 1):
        print(f"member {number} of {len(members)}, seed {config.seed}")
        train(config, after_epoch)


def check_classes(folder: str, manifest: Manifest, task: Task) -> None:
    """Warns of each class of which a split has only positive or only negative examples. Raises UsageError if one of two
    classes is missing, or nothing can be learned of any class."""
    for split in ("train", "validation"):
        examples = manifest.examples(split)
        counts = dict(zip(manifest.classes, manifest.label_counts(split), strict=True))
        missing = [name for name, count in counts.items() if not count]
        if missing and task.kind == BINARY:
            raise UsageError(f"split {split} of {folder} has no example of {missing[0]}; convert more images")
        undefined = [name for name, count in counts.items() if count in (0, examples)]
        if len(undefined) == len(counts):
            raise UsageError(f"split {split} of {folder} has examples of one kind only; convert more images")
        for name in undefined:
            which = "no example" if name in missing else "only examples"
            print(
                f"warning: split {split} of {folder} has {which} of {name}; its metrics are undefined", file=sys.stderr
            )


def _planned(config: TrainConfig, manifest: Manifest, hardware: Hardware, previous: RunConfig | None) -> RunConfig:
    asked = config.operating_point.text if config.operating_point else None
    return RunConfig(
        recipe=config.recipe,
        seed=config.seed,
        mixed_precision=config.mixed_precision,
        classes=manifest.classes,
        label_kind=manifest.label_kind,
        image=manifest.image,
        data={
            "name": manifest.name,
            "version": manifest.version,
            "revision": manifest.revision,
            "examples": {split: manifest.examples(split) for split in manifest.splits},
        },
        versions={
            "python": platform.python_version(),
            hardware.backend: hardware.version,
            "keras": keras.__version__,
            "numpy": np.__version__,
        },
        compute={
            "backend": hardware.backend,
            "devices": hardware.devices,
            "device": hardware.name,
            "read_ahead_mb": config.read_ahead_mb,
            "dtype": hardware.half_precision if config.mixed_precision else FLOAT32,
        },
        operating_point=asked or (previous.operating_point if previous else DEFAULT),
    )


def _previous(config: TrainConfig) -> RunConfig | None:
    """The config of the run that is resumed, if there is one."""
    resumed = config.resume and Path(config.output, run_folder.CONFIG).exists()
    return run_folder.read_config(config.output) if resumed else None


def _only_chooses(config: TrainConfig, previous: RunConfig | None) -> bool:
    """Whether a finished run is resumed for another operating point, and for no more epochs, though early stopping may have
    left some."""
    if previous is None or previous.threshold is None or config.operating_point is None:
        return False
    return config.recipe.epochs <= previous.recipe.epochs
