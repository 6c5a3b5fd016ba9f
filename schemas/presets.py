"""What is known about public data sets."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from schemas.labels import NO_FINDING

FRONTAL, LATERAL, OTHER_VIEW, EVERY_VIEW = "frontal", "lateral", "other", "all"
VIEWS = (FRONTAL, LATERAL, EVERY_VIEW)  # which images to convert; the first is the default
MASK, ZERO, ONE = "mask", "zero", "one"
UNCERTAIN_AS = (MASK, ZERO, ONE)  # what an uncertain finding becomes; the first is the default


@dataclass(frozen=True)
class PublishedTable:
    """A table of a public set as it was published: CSV, or CSV compressed with gzip. It names images by the ends of
    their paths, or by the stems of their file names.

    names: the names that the table may have. The first table of a preset is --manifest or in --input, and the others
    are in the same folder as the first. image, study, label, group, split and view: its columns, "" for those that it
    lacks. A row without an image is about each image of its study. suffix: what the image column omits from file names.
    codes: the cells of the label column that stand for the classes, in label order. findings: columns in place of
    label, one for each finding, with 1 (present), 0 (absent), -1 (uncertain) or nothing (not mentioned). views: the
    cells of the view column that stand for FRONTAL or LATERAL; all others are OTHER_VIEW. whole_split: the split of
    every row, in place of the column. split_lists: for each file in --input that lists the file names of a split, the
    name of that split.
    """

    names: tuple[str, ...]
    image: str = ""
    label: str = ""
    group: str = ""
    suffix: str = ""
    codes: tuple[str, ...] = ()
    split_lists: Mapping[str, str] = field(default_factory=dict)
    study: str = ""
    split: str = ""
    view: str = ""
    findings: tuple[str, ...] = ()
    views: Mapping[str, str] = field(default_factory=dict)
    whole_split: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the table must have."""
        named = (self.image, self.label, self.group, self.study, self.split, self.view)
        return tuple(dict.fromkeys(filter(None, (*named, *self.findings))))


@dataclass(frozen=True)
class Preset:
    """What is known about a public set: its classes in label order, the pattern that finds the patient in its file
    names, which split is merged into which, whether an image may have several labels, its tables if it has any, and how
    many of the last parts of a path name an image in them."""

    classes: tuple[str, ...]
    group_pattern: str
    merge_splits: Mapping[str, str]
    multi_label: bool = False
    tables: tuple[PublishedTable, ...] = ()
    name_parts: int = 1

    @property
    def uncertain(self) -> bool:
        """Whether findings may be uncertain."""
        return any(table.findings for table in self.tables)

    @property
    def studies(self) -> bool:
        """Whether the tables are joined by study."""
        return any(table.study for table in self.tables)

    @property
    def views(self) -> bool:
        """Whether the tables name the view of each image."""
        return any(table.view for table in self.tables)


# The observations of Irvin et al. 2019 that both CheXpert and MIMIC-CXR have a column for, in the order of the paper.
_CHEXPERT_COLUMNS = (
    *(
        NO_FINDING,
        "Enlarged Cardiomediastinum",
        "Cardiomegaly",
        "Lung Opacity",
        "Lung Lesion",
        "Edema",
        "Consolidation",
    ),
    *("Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices"),
)
# No Finding is no class, as in NIH ChestX-ray14: it follows from the others.
_CHEXPERT_CLASSES = tuple(name for name in _CHEXPERT_COLUMNS if name != NO_FINDING)

# The folders that the archives of CheXpert unpack to. In the one in batches, the images of train are in other batches.
_CHEXPERT_FOLDERS = ("", "CheXpert-v1.0-small/", "CheXpert-v1.0/", "CheXpert-v1.0 batch 1 (validate & csv)/")
_CHEXPERT_TRAIN = PublishedTable(
    names=tuple(f"{folder}train.csv" for folder in _CHEXPERT_FOLDERS),
    image="Path",
    view="Frontal/Lateral",
    findings=_CHEXPERT_COLUMNS,
    views={"Frontal": FRONTAL, "Lateral": LATERAL},
    whole_split="train",
)


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
        tables=(
            PublishedTable(
                names=("Data_Entry_2017.csv", "Data_Entry_2017_v2020.csv"),
                image="Image Index",
                label="Finding Labels",
                group="Patient ID",
                split_lists={"train_val_list.txt": "train", "test_list.txt": "test"},
            ),
        ),
    ),
    # Shih et al. 2019: one row for each box around an opacity, or a single row without a box. Each patient has one
    # image.
    "rsna": Preset(
        classes=("NORMAL", "PNEUMONIA"),
        group_pattern="",
        merge_splits={},
        tables=(
            PublishedTable(
                names=("stage_2_train_labels.csv",),
                image="patientId",
                label="Target",
                group="patientId",
                suffix=".dcm",
                codes=("0", "1"),
            ),
        ),
    ),
    # The same images, in the radiologists' three classes.
    "rsna3": Preset(
        classes=("Normal", "No Lung Opacity / Not Normal", "Lung Opacity"),
        group_pattern="",
        merge_splits={},
        tables=(
            PublishedTable(
                names=("stage_2_detailed_class_info.csv",),
                image="patientId",
                label="class",
                group="patientId",
                suffix=".dcm",
            ),
        ),
    ),
    # Irvin et al. 2019. Patient numbers do not start again in valid. File names do repeat, and the folder above the
    # patient differs between the releases, so an image is named by patient, study and file.
    "chexpert": Preset(
        classes=_CHEXPERT_CLASSES,
        group_pattern=r"(?:^|/)(patient\d+)/",
        merge_splits={},
        multi_label=True,
        tables=(_CHEXPERT_TRAIN, replace(_CHEXPERT_TRAIN, names=("valid.csv",), whole_split="validation")),
        name_parts=3,
    ),
    # Johnson et al. 2019: one row of labels for each study, and in two other tables one row for each of its images.
    "mimic-cxr": Preset(
        classes=_CHEXPERT_CLASSES,
        group_pattern="",
        merge_splits={},
        multi_label=True,
        tables=(
            PublishedTable(
                names=("mimic-cxr-2.0.0-chexpert.csv.gz", "mimic-cxr-2.0.0-chexpert.csv"),
                study="study_id",
                group="subject_id",
                findings=_CHEXPERT_COLUMNS,
            ),
            PublishedTable(
                names=("mimic-cxr-2.0.0-split.csv.gz", "mimic-cxr-2.0.0-split.csv"),
                image="dicom_id",
                study="study_id",
                group="subject_id",
                suffix=".jpg",
                split="split",
            ),
            PublishedTable(
                names=("mimic-cxr-2.0.0-metadata.csv.gz", "mimic-cxr-2.0.0-metadata.csv"),
                image="dicom_id",
                study="study_id",
                group="subject_id",
                suffix=".jpg",
                view="ViewPosition",
                views={"PA": FRONTAL, "AP": FRONTAL, "LATERAL": LATERAL, "LL": LATERAL},
            ),
        ),
    ),
}
