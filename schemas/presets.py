"""What is known of public sets."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class PublishedTable:
    """The CSV of a public set, in its published form, which names images by file name or by its stem.

    names: the CSV's possible names in --input. image, label and group: its columns. suffix: what the image column omits from
    file names. codes: cells of the label column that stand for the classes, in label order. split_lists: files next to it
    that list the file names of a split.
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
    """What is known about a public set: its classes in label order, the pattern of the patient in its file names, which
    split is merged into which, whether an image may have several labels, and its table of labels, if there is one."""

    classes: tuple[str, ...]
    group_pattern: str
    merge_splits: Mapping[str, str]
    multi_label: bool = False
    table: PublishedTable | None = None


PRESETS: Mapping[str, Preset] = {
    # Kermany, Zhang, Goldbaum 2018. `person` numbers start again in test; val continues train's. The published val split
    # has 16 images, too few to choose a model by, so it joins train and a validation split is carved by patient.
    "kermany": Preset(
        classes=("NORMAL", "PNEUMONIA"),
        group_pattern=r"(?:^|/)(?i:(?P<pool>test)|train|val)/[^/]+/(?P<group>person\d+|(?:NORMAL2-)?IM-\d+)",
        merge_splits={"validation": "train"},
    ),
    # Wang et al. 2017. The order of the classes is that of the paper. The two lists split by patient, and the first is
    # for training and validation both.
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
    # Shih et al. 2019: a row for each box around an opacity, or one without a box. Each patient has one image.
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
    # The same images, in the three classes of the radiologists.
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
