"""What the suite trains, and what it measures each model on."""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from schemas.dataset import Manifest
from schemas.errors import UsageError
from training.assessment.subgroups import read_key, read_subgroups
from training.config import ShiftConfig
from training.shifts.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from training.shifts.examples import TRAIN, VALIDATION, Entry, Labelled, entries, select
from training.shifts.figures import CORRUPTION, LEFT_OUT, RAW, UNCHANGED, Proxy
from training.shifts.native import read_native, twins
from training.shifts.populations import FEWEST, Population, lacking, populations, with_groups

ALL_CORRUPTIONS = "corruptions"  # for --only

Tested = Iterator[tuple[Proxy, Labelled]]


class Planned(NamedTuple):
    """A model to train without the examples with the ids `left_out`, and what it is measured on: `tested(seed)`."""

    name: str
    left_out: frozenset[str]
    tested: Callable[[int], Tested]


class Plan(NamedTuple):
    """The models, and why some proxies are skipped, by name."""

    models: list[Planned]
    skipped: dict[str, str]


def plan(config: ShiftConfig, manifest: Manifest) -> Plan:
    """The plan for a data set of two classes. Raises UsageError if the subgroups or the raw images cannot be read, or
    --only names a proxy that there is not."""
    known = entries(config.data, manifest)
    key = read_key(config.id_key_file) if config.id_key_file else b""
    subgroups = read_subgroups(config.subgroups, manifest, key) if config.subgroups else {}
    found = list(populations(known, subgroups, manifest.classes))
    _check_only(config.only, found)
    made = Plan([], {})
    names = [name for name in CORRUPTIONS if _chosen(config.only, name, ALL_CORRUPTIONS)]
    if names:
        made.models.append(Planned("all", frozenset(), _corrupted(config.data, manifest, known, names)))
    for each in found:
        if not _chosen(config.only, each.name, each.name.partition("=")[0]):
            continue
        if each.impossible:
            made.skipped[each.name] = each.impossible
        else:
            made.models.append(Planned(each.name, each.left_out, _population(config.data, manifest, known, each)))
    if config.raw and _chosen(config.only, RAW):
        _add_raw(made, config, manifest, known)
    return made


def _chosen(only: Sequence[str], *names: str) -> bool:
    return not only or any(name in only for name in names)


def _check_only(only: Sequence[str], found: Sequence[Population]) -> None:
    columns = dict.fromkeys(each.name.partition("=")[0] for each in found)
    known = [ALL_CORRUPTIONS, *CORRUPTIONS, *columns, *(each.name for each in found), RAW]
    for name in only:
        if name not in known:
            raise UsageError(f"--only {name}: no such proxy; there are {', '.join(known)}")


def _corrupted(
    folder: str, manifest: Manifest, known: Sequence[Entry], names: Sequence[str]
) -> Callable[[int], Tested]:
    """The validation examples, unchanged and corrupted. The seed of the model is that of the random numbers too."""

    def tested(seed: int) -> Tested:
        images, labels = _validation(folder, manifest, known)
        yield Proxy(UNCHANGED, VALIDATION), Labelled(images, labels)
        for name in names:
            for severity in SEVERITIES:
                yield Proxy(CORRUPTION, name, severity), Labelled(corrupt(images, name, severity, seed), labels)

    return tested


def _population(folder: str, manifest: Manifest, known: Sequence[Entry], each: Population) -> Callable[[int], Tested]:
    """What the model was to learn, for comparison, and the population that is new to it."""

    def tested(_seed: int) -> Tested:
        yield (
            Proxy(UNCHANGED, f"{VALIDATION} without {each.name}"),
            _validation(folder, manifest, known, each.left_out),
        )
        yield Proxy(LEFT_OUT, each.name), select(folder, manifest, each.tested)

    return tested


def _validation(
    folder: str, manifest: Manifest, known: Sequence[Entry], left_out: Collection[str] = frozenset()
) -> Labelled:
    return select(folder, manifest, {entry.id for entry in known if entry.split == VALIDATION} - set(left_out))


def _add_raw(made: Plan, config: ShiftConfig, manifest: Manifest, known: Sequence[Entry]) -> None:
    """The files of --raw. The examples that were made of the same images are left out of training with their groups, and
    measured too, for comparison. A run that is trained already is measured on files that are not in its training set."""
    native = read_native(config.raw or "", manifest)
    for reason, count in native.skipped.items():
        made.skipped[f"{RAW}: {reason}"] = f"{count} files"
    same = twins(config.data, manifest, native.examples.images)
    inside = {id for id in same if id}
    left_out = with_groups(known, inside)
    if config.run:
        seen = with_groups(known, [entry.id for entry in known if entry.split == TRAIN])
        new = np.array([id not in seen for id in same])
        examples = Labelled(native.examples.images[new], native.examples.labels[new])
        reason, left_out = "", frozenset()
    else:
        examples, reason = native.examples, lacking(known, left_out, manifest.classes)
    for label, name in enumerate(manifest.classes):
        if (count := int((examples.labels == label).sum())) < FEWEST:
            reason = reason or f"{count} files of {name} that are not in training, fewer than {FEWEST}"
    if reason:
        made.skipped[RAW] = reason
        return

    def tested(_seed: int) -> Tested:
        if left_out:
            yield Proxy(UNCHANGED, f"{VALIDATION} without {RAW}"), _validation(config.data, manifest, known, left_out)
        yield Proxy(RAW, "files"), examples
        records = select(config.data, manifest, left_out & inside)
        if len(np.unique(records.labels)) == len(manifest.classes):
            yield Proxy(UNCHANGED, "records of raw files"), records

    made.models.append(Planned(RAW, left_out, tested))
