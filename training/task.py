"""What the labels of a data set ask of a model: the number of its outputs, and what they mean.

binary: one class of two per image; one output, the probability of the second class (a sigmoid).
multiclass: one class of several; the probabilities of all classes, which sum to 1 (a softmax).
multilabel: any number of findings per image; the probability of each finding (a sigmoid each).
"""

from dataclasses import dataclass

from schemas.dataset import Manifest
from schemas.errors import UsageError
from schemas.labels import CLASS

BINARY, MULTICLASS, MULTILABEL = "binary", "multiclass", "multilabel"


@dataclass(frozen=True)
class Task:
    """The classes in label order and the kind of label (schemas/labels.py). Raises UsageError if there is nothing to
    learn."""

    classes: tuple[str, ...]
    label_kind: str = CLASS

    def __post_init__(self) -> None:
        if len(self.classes) < (2 if self.label_kind == CLASS else 1):
            raise UsageError(
                f"the data set has {len(self.classes)} class(es) ({', '.join(self.classes)}); a model needs two or more"
            )

    @property
    def kind(self) -> str:
        """BINARY, MULTICLASS or MULTILABEL."""
        if self.label_kind != CLASS:
            return MULTILABEL
        return BINARY if len(self.classes) == 2 else MULTICLASS

    @property
    def outputs(self) -> int:
        """The number of probabilities that the model gives for an image."""
        return 1 if self.kind == BINARY else len(self.classes)

    @property
    def activation(self) -> str:
        """The activation of the last layer."""
        return "softmax" if self.kind == MULTICLASS else "sigmoid"

    @property
    def label_width(self) -> int | None:
        """The length of a record's label vector; None if the label is the index of one class."""
        return len(self.classes) if self.kind == MULTILABEL else None


def task_of(manifest: Manifest) -> Task:
    """The task that a data set sets."""
    return Task(manifest.classes, manifest.label_kind)
