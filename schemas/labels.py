"""Labels as people write them (`Mass|Nodule`) and as records hold them (an index, or a vector).

A data set has one kind of label. `class`: each image has one class, and its record holds the index of the class.
`multi_hot`: an image has any number of findings, and its record holds a vector with a 1 for each, in the order of the
classes."""

from collections.abc import Iterable, Mapping, Sequence

CLASS, MULTI_HOT = "class", "multi_hot"
KINDS = (CLASS, MULTI_HOT)

SEPARATOR = "|"  # between the findings of one image, as in NIH ChestX-ray14
NO_FINDING = "No Finding"  # NIH's name for an image without findings; it is not a class if images have several labels

# In a multi-hot vector: the finding may be present or absent. Neither the loss nor a metric counts it. It is as long as
# 0 and 1 in a record, so that all records of a data set have one length.
UNCERTAIN = 2

Label = int | tuple[int, ...]


def canonical(cell: str) -> str:
    """`cell` in a canonical form: `B|A|B` becomes `A|B`, so that equal sets of findings are equal texts. `|` alone
    means no finding; an empty cell means unlabelled."""
    if SEPARATOR not in cell:
        return cell.strip()
    return SEPARATOR.join(sorted({name for part in cell.split(SEPARATOR) if (name := part.strip())})) or SEPARATOR


def names_in(label: str) -> tuple[str, ...]:
    """The names that a canonical label joins."""
    return tuple(name for name in label.split(SEPARATOR) if name)


def kind_of(labels: Iterable[str]) -> str:
    """MULTI_HOT if any of the canonical labels joins names, else CLASS."""
    return MULTI_HOT if any(SEPARATOR in label for label in labels) else CLASS


def class_names(labels: Iterable[str], kind: str) -> set[str]:
    """The classes that these canonical labels name."""
    names = {name for label in labels for name in names_in(label)}
    return names - {NO_FINDING} if kind == MULTI_HOT else names


def encode_label(label: str, classes: Sequence[str], kind: str) -> Label:
    """What a record holds for a canonical label: the index of its class, or a 0 or 1 for each of `classes`."""
    if kind == CLASS:
        return classes.index(label)
    names = names_in(label)
    return tuple(int(name in names) for name in classes)


def can_be(label: Label, classes: int, kind: str) -> bool:
    """Whether `label` is valid in a data set with this `kind` of label and this number of `classes`."""
    if isinstance(label, tuple):
        return kind == MULTI_HOT and len(label) == classes and set(label) <= {0, 1, UNCERTAIN}
    return kind == CLASS and 0 <= label < classes


def positives(label: Label) -> tuple[int, ...]:
    """The indices of the classes that a record's label names: exactly one for an index, any number for a vector."""
    return tuple(index for index, value in enumerate(label) if value == 1) if isinstance(label, tuple) else (label,)


def label_text(label: Label, classes: Sequence[str]) -> str:
    """A record's label for people: `1 PNEUMONIA`, or `Mass|Nodule`, or `No Finding`."""
    names = SEPARATOR.join(classes[index] for index in positives(label))
    return names or NO_FINDING if isinstance(label, tuple) else f"{label} {names}"


def class_totals(counts: Mapping[str, int], classes: Sequence[str]) -> dict[str, int]:
    """The number of images of each class, from the number of images with each canonical label."""
    return {name: sum(number for label, number in counts.items() if name in names_in(label)) for name in classes}
