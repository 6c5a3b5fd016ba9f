"""What is known about public data sets."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class PublishedTable:
    """The CSV of a public set as it was published. It names images by file name or by the stem of the file name.

    names: the names that the CSV may have in --input. image, label and group: its columns. suffix: what the image
    column omits from file names. codes: the cells of the label column that stand for the classes, in label order.
    split_lists: for each file in --input that lists the file names of a split, the name of that split.
    """

    names: tuple[str, ...]
    image: str
    label: str
    group: str
    suffix: str = ""
    codes: tuple[str, ...] = ()
    split_lists: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Preset:
    """What is known about a public set: its classes in label order, the pattern that finds the patient in its file
    names, which split is merged into which, whether an image may have several labels, and its table of labels if it has
    one."""

    classes: tuple[str, ...]
    group_pattern: str
    merge_splits: Mapping[str, str]
    multi_label: bool = False
    table: PublishedTable | None = None


PRESETS: Mapping[str, Preset] = {
    # Kermany, Zhang, Goldbaum 2018. The `person` numbers start again in test and continue from train to val. The
    # published val split has 16 images, too few to choose a model, so it is merged into train and a validation split is
    # carved by patient.
    "kermany": Preset(
        classes=("NORMAL", "PNEUMONIA"),
        group_pattern=r"(?:^|/)(?i:(?P<pool>test)|train|val)/[^/]+/(?P<group>person\d+|(?:NORMAL2-)?IM-\d+)",
        merge_splits={"validation": "train"},
    ),
    # Wang et al. 2017. The classes are in the order of the paper. The two lists split the images by patient, and the
    # first one is for both training and validation.
    "nih14": Preset(
        classes=tuple(
            "Atelectasis Cardiomegaly Effusion Infiltration Mass Nodule Pneumonia Pneumothorax Consolidation Edema "
            "Emphysema Fibrosis Pleural_Thickening Hernia".split()
        ),
        group_pattern="",
        merge_splits={},
        multi_label=True,
        table=PublishedTable(
            names=("Data_Entry_2017.csv", "Data_Entry_2017_v2020.csv"),
            image="Image Index",
            label="Finding Labels",
            group="Patient ID",
            split_lists={"train_val_list.txt": "train", "test_list.txt": "test"},
        ),
    ),
    # Shih et al. 2019: one row for each box around an opacity, or a single row without a box. Each patient has one
    # image.
    "rsna": Preset(
        classes=("NORMAL", "PNEUMONIA"),
        group_pattern="",
        merge_splits={},
        table=PublishedTable(
            names=("stage_2_train_labels.csv",),
            image="patientId",
            label="Target",
            group="patientId",
            suffix=".dcm",
            codes=("0", "1"),
        ),
    ),
    # The same images, in the radiologists' three classes.
    "rsna3": Preset(
        classes=("Normal", "No Lung Opacity / Not Normal", "Lung Opacity"),
        group_pattern="",
        merge_splits={},
        table=PublishedTable(
            names=("stage_2_detailed_class_info.csv",),
            image="patientId",
            label="class",
            group="patientId",
            suffix=".dcm",
        ),
    ),
}
