"""Which examples to leave out of training, and which to test on, so that a whole population is new to the model."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from training.shifts.examples import SPLITS, VALIDATION, Entry

FEWEST = 20  # examples of a class in a test: below, one image is more than 5% of sensitivity or specificity


class Population(NamedTuple):
    """A population that training does without. `left_out`: the ids of its examples and of all others of their groups.
    `tested`: the ids to test on. `impossible`: why it cannot be left out or tested, "" if it can."""

    name: str
    left_out: frozenset[str]
    tested: frozenset[str]
    impossible: str = ""


def populations(
    known: Sequence[Entry], subgroups: Mapping[str, Mapping[str, str]], classes: Sequence[str]
) -> Iterator[Population]:
    """A population for each value of each column of `subgroups`, {column: {example id: value}}, in order.

    The test is the population. Of a class of which it has fewer than FEWEST examples, the validation examples that are not
    left out are added. No test example is in the training set, but validation examples had a part in the choice of the
    epoch and of the threshold.
    """
    for column, of_column in subgroups.items():
        for value in sorted({of_column[entry.id] for entry in known if entry.id in of_column}):
            inside = {entry.id for entry in known if of_column.get(entry.id) == value}
            left_out = with_groups(known, inside)
            tested, reason = set(inside), lacking(known, left_out, classes)
            if len(inside) < FEWEST:
                reason = f"{len(inside)} examples, fewer than {FEWEST}"
            for label in range(len(classes)):
                of_class = {entry for entry in known if entry.label == label}
                if sum(entry.id in inside for entry in of_class) < FEWEST:
                    tested |= {entry.id for entry in of_class if entry.split == VALIDATION} - left_out
            yield Population(f"{column}={value}", left_out, frozenset(tested), reason)


def with_groups(known: Sequence[Entry], ids: Collection[str]) -> frozenset[str]:
    """The ids of all examples of the groups that have any of `ids`."""
    groups = {entry.group for entry in known if entry.id in ids}
    return frozenset(entry.id for entry in known if entry.group in groups)


def lacking(known: Sequence[Entry], left_out: Collection[str], classes: Sequence[str]) -> str:
    """Why nothing can be trained without the examples `left_out`; "" if it can."""
    for split in SPLITS:
        left = {entry.label for entry in known if entry.split == split and entry.id not in left_out}
        for label, name in enumerate(classes):
            if label not in left:
                return f"split {split} has no {name} without it"
    return ""
