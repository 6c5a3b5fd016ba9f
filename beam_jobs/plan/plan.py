"""Step 2: decide which sources go to which splits and shards. References only, no pixels."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import AsSingleton, PCollection

from beam_jobs.elements import Plan, Reference
from beam_jobs.passing import counters, status
from beam_jobs.passing.blocks import Block
from beam_jobs.passing.tally import (
    BYTES,
    DUPLICATES,
    IMAGES,
    NOTES,
    OVERLAPS,
    PROBLEMS,
    SKIPPED,
    TALLY,
    AddUp,
    Count,
    problem_line,
    several_collections,
)
from beam_jobs.plan.splits import ReferencesAndTally
from beam_jobs.settings.config import ConvertConfig
from schemas.dataset import SPLITS
from schemas.errors import JobFailed, UsageError
from schemas.example import record_bytes
from schemas.identity import uniform
from schemas.labels import CLASS, NO_FINDING, class_names, kind_of

# 64-128 MiB per shard at scale: large enough for long reads, small enough to be a unit of retry.
_SHARD_BYTES = 96 << 20
# A small set still gets several shards, for several workers and for a reader that interleaves files.
_SMALL_SHARD_EXAMPLES, _SMALL_SET_SHARDS = 256, 16

NO_GROUP = "no_group_in_path"


@dataclass
class MakePlan(beam.PTransform[ReferencesAndTally, PCollection[Plan]]):
    """References, and the tally of all steps -> the only Plan. Fails the job if nothing may be written."""

    config: ConvertConfig
    status_folder: str

    @several_collections
    def expand(self, inputs: ReferencesAndTally) -> PCollection[Plan]:
        images: PCollection[Count] = inputs["references"] | "CountImages" >> beam.FlatMap(
            count_images, bool(self.config.public_set.group_pattern)
        )
        sums = (
            (images, inputs[TALLY])
            | "Everything" >> beam.Flatten()
            | "AddUp" >> beam.CombineGlobally(AddUp()).without_defaults()
        )
        of_nothing: dict[str, dict[Any, int]] = {}
        tally = AsSingleton(sums, default_value=of_nothing)
        plan: PCollection[Plan] = (
            images.pipeline | beam.Impulse() | "MakePlan" >> beam.Map(make_plan, tally, self.config, self.status_folder)
        )
        return plan


def count_images(references: Block[Reference], grouped: bool) -> Iterator[Count]:
    """Counts images and their bytes, and paths in which the group pattern found no patient."""
    places = Counter((reference.split, reference.source.label) for reference in references)
    for place, number in places.items():
        yield Count(IMAGES, place, number)
    yield Count(BYTES, "", sum(max(0, reference.source.size) for reference in references))
    if grouped:
        alone = sum(reference.source.group == reference.source.path for reference in references)
        if alone:
            yield Count(NOTES, NO_GROUP, alone)


def make_plan(_: bytes, tally: Mapping[str, dict[Any, int]], config: ConvertConfig, status_folder: str) -> Plan:
    """The plan, which is also reported to the launcher. Raises JobFailed for problems with the inputs."""
    with status.failures(status_folder):
        if problems := tally.get(PROBLEMS):
            raise JobFailed(problem_line(problems))
        duplicates = sum(tally.get(DUPLICATES, {}).values())
        plan = plan_of(config, tally.get(IMAGES, {}), duplicates, tally.get(SKIPPED, {}), tally.get(NOTES, {}))
        plan = replace(plan, overlaps=tally.get(OVERLAPS, {}), input_bytes=tally.get(BYTES, {}).get("", 0))
    counters.count_plan(plan.duplicates, plan.skipped)
    status.write_plan(status_folder, asdict(plan))
    return plan


def plan_of(
    config: ConvertConfig,
    counts: Mapping[tuple[str, str], int],
    duplicates: int,
    skipped: Mapping[str, int],
    notes: Mapping[str, int],
) -> Plan:
    """The plan for `counts` images by (split, label). Raises UsageError if there is nothing to learn from them."""
    given = config.manifest or config.input
    if not counts:
        why = ", ".join(f"{count} {reason}" for reason, count in sorted(skipped.items())) or "no file"
        raise UsageError(
            f"{given} contains no image to convert ({why}); put images in LABEL/ or SPLIT/LABEL/ folders, "
            "or list them in a --manifest"
        )
    labels, splits = {label for _, label in counts}, {split for split, _ in counts}
    kind = config.label_kind or kind_of(labels)
    classes = _classes(config, counts, kind, given)
    for split in ("train", "validation") if config.validation_fraction else ("train",):
        if split not in splits:
            raise UsageError(
                f"{given} leaves no image for the {split} split; add images or patients, or define the splits yourself"
            )
    if notes.get(NO_GROUP) == sum(counts.values()):
        raise UsageError(f"--group_pattern {config.public_set.group_pattern!r} matches no path in {given}")
    counted = classes if kind == CLASS else sorted(labels)
    table = {split: {label: counts.get((split, label), 0) for label in counted} for split in SPLITS if split in splits}
    shards = {split: shard_count(sum(by_label.values()), config) for split, by_label in table.items()}
    return Plan(classes, table, shards, duplicates, dict(skipped), dict(notes), kind)


def _classes(config: ConvertConfig, counts: Mapping[tuple[str, str], int], kind: str, given: str) -> tuple[str, ...]:
    """The classes in label order. Raises JobFailed for a class that the config does not know, and UsageError for fewer
    than two classes."""
    names = class_names({label for _, label in counts}, kind)
    for name in sorted(names - set(config.class_order or names)):
        number = sum(count for (_, label), count in counts.items() if name in class_names({label}, kind))
        flag = "--classes" if config.classes else f"--preset {config.preset}"
        raise JobFailed(
            f"{given} has {number} image(s) of class {name!r}, but {flag} has only {', '.join(config.class_order)}; "
            "add the class, or remove its images"
        )
    classes = config.class_order or tuple(sorted(names))
    if len(names if kind == CLASS else classes) < 2:
        only = min(names, default=NO_FINDING)
        raise UsageError(
            f"{given} has images of only one class ({only!r}); a classifier needs at least two; add the others, "
            "each in its own folder or with its own label"
        )
    return classes


def shard_count(examples: int, config: ConvertConfig) -> int:
    """The number of shards for a split of `examples` records."""
    if config.shards:
        return config.shards
    by_size = math.ceil(examples * record_bytes(config.image.shape) / _SHARD_BYTES)
    for_workers = min(_SMALL_SET_SHARDS, math.ceil(examples / _SMALL_SHARD_EXAMPLES))
    return max(1, by_size, for_workers)


def empty_shards(plan: Plan) -> Iterator[tuple[tuple[str, int], Block[Reference]]]:
    """Every (split, shard) of the plan, without references, so that empty shards are written too."""
    for split, count in plan.shards.items():
        for index in range(count):
            yield (split, index), Block([])


def shard_of(reference: Reference, plan: Plan, seed: int) -> tuple[str, int]:
    """The split and the shard of a reference. They depend only on its id and the seed."""
    count = plan.shards[reference.split]
    return reference.split, int(uniform(seed, "shard", reference.id) * count)
