"""Labels as people write them (`Mass|Nodule`) and as records hold them (an index, or a vector).

A data set has one kind of label. `class`: each image has one class, and its record holds the index of the class.
`multi_hot`: an image has any number of findings, and its record holds a vector with a 1 for each, in the order of the
classes. `multi_hot_uncertain`: as `multi_hot`, with a 2 for each finding that may be present or absent."""

from collections.abc import Iterable, Mapping, Sequence

CLASS, MULTI_HOT, MULTI_HOT_UNCERTAIN = "class", "multi_hot", "multi_hot_uncertain"
KINDS = (CLASS, MULTI_HOT, MULTI_HOT_UNCERTAIN)

SEPARATOR = "|"  # between the findings of one image, as in NIH ChestX-ray14
NO_FINDING = "No Finding"  # NIH's name for an image without findings; it is not a class if images have several labels

# In a vector, the value of an uncertain finding, which neither the loss nor a metric counts. In a record it is as long as 0
# and 1, so that all records of a data set have the same length.
UNCERTAIN = 2
UNCERTAIN_MARK = "?"  # before the name of an uncertain finding in a canonical label of that kind: `Mass|?Nodule`

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
    if kind == MULTI_HOT_UNCERTAIN:
        names = {name.removeprefix(UNCERTAIN_MARK) for name in names}
    return names if kind == CLASS else names - {NO_FINDING}


def encode_label(label: str, classes: Sequence[str], kind: str) -> Label:
    """What a record holds for a canonical label: the index of its class, or a 0 or 1 (or UNCERTAIN, if
    the kind allows it) for each of `classes`."""
    if kind == CLASS:
        return classes.index(label)
    names = names_in(label)
    uncertain = {name for name in classes if UNCERTAIN_MARK + name in names} if kind == MULTI_HOT_UNCERTAIN else set()
    return tuple(UNCERTAIN if name in uncertain else int(name in names) for name in classes)


def can_be(label: Label, classes: int, kind: str) -> bool:
    """Whether `label` is valid in a data set with this `kind` of label and this number of `classes`."""
    if isinstance(label, tuple):
        values = {0, 1, UNCERTAIN} if kind == MULTI_HOT_UNCERTAIN else {0, 1}
        return kind != CLASS and len(label) == classes and set(label) <= values
    return kind == CLASS and 0 <= label < classes


def positives(label: Label) -> tuple[int, ...]:
    """The indices of the classes that a record's label names: exactly one for an index, any number for a vector."""
    return tuple(index for index, value in enumerate(label) if value == 1) if isinstance(label, tuple) else (label,)


def label_text(label: Label, classes: Sequence[str]) -> str:
    """A record's label for people: `1 PNEUMONIA`, or `Mass|?Nodule`, or `No Finding`."""
    if not isinstance(label, tuple):
        return f"{label} {classes[label]}"
    marks = {0: None, 1: "", UNCERTAIN: UNCERTAIN_MARK}
    named = (mark + name for name, value in zip(classes, label, strict=True) if (mark := marks[value]) is not None)
    return SEPARATOR.join(named) or NO_FINDING


def class_totals(counts: Mapping[str, int], classes: Sequence[str]) -> dict[str, int]:
    """The number of images of each class, from the number of images with each canonical label."""
    return {name: sum(number for label, number in counts.items() if name in names_in(label)) for name in classes}
