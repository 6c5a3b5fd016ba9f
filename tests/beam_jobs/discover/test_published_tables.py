"""The tables of public sets are read in the columns and with the values in which they were published."""

from pathlib import Path

import pytest

from beam_jobs.discover.published_tables import read_published
from beam_jobs.discover.tables import Row, UnreadableTable, check_table
from schemas.errors import UsageError
from schemas.presets import PRESETS
from tests.beam_jobs.made import config
from tests.beam_jobs.published_sets import CHEXPERT_FINDINGS, MIMIC_FINDINGS

CHEXPERT_HEADER = f"Path,Sex,Age,Frontal/Lateral,AP/PA,{CHEXPERT_FINDINGS}"
PLACE = "CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg,Female,68,Frontal,AP"


def labels(tmp_path: Path, *rows: str, uncertain: str = "") -> list[str]:
    """The labels of rows of CheXpert, given as their 14 cells."""
    (tmp_path / "train.csv").write_text("\n".join([CHEXPERT_HEADER, *(f"{PLACE},{row}" for row in rows)]) + "\n")
    settings = config(preset="chexpert", uncertain=uncertain)
    return [row.label for row in read_published(str(tmp_path / "train.csv"), settings.public_set.tables[0], settings)]


def test_codes_stand_for_classes(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("patientId,x,y,width,height,Target\np1,,,,,0\np2,1.0,2.0,3.0,4.0,1\np3,,,,,\n")
    settings = config(preset="rsna", classes=("well", "ill"))
    found = list(read_published(str(tmp_path / "rows.csv"), settings.public_set.tables[0], settings))
    assert [(row.image, row.label, row.group, row.split, row.view) for row in found] == [
        ("p1.dcm", "well", "p1", "", ""),
        ("p2.dcm", "ill", "p2", "", ""),
        ("p3.dcm", "", "p3", "", ""),
    ]
    with pytest.raises(
        UsageError, match="has no column Image Index and no column Finding Labels and no column Patient ID"
    ):
        check_table(str(tmp_path / "rows.csv"), PRESETS["nih14"].tables[0])


def test_a_row_of_chexpert_names_its_image_split_and_view(tmp_path: Path) -> None:
    rows = [
        f"{PLACE},1.0,,,,,,,,,0.0,,,,1.0",
        "CheXpert-v1.0/train/patient00002/study3/view2_lateral.jpg,Male,87,Lateral,,,,1,0,,-1,,,,,,,,",
    ]
    (tmp_path / "train.csv").write_text("\r\n".join([CHEXPERT_HEADER, *rows]) + "\r\n")
    settings = config(preset="chexpert")
    train, valid = settings.public_set.tables
    check_table(str(tmp_path / "train.csv"), train)
    assert [tuple(row) for row in read_published(str(tmp_path / "train.csv"), train, settings)] == [
        (
            2,
            "patient00001/study1/view1_frontal.jpg",
            "No Finding|Support Devices",
            "train",
            "",
            "frontal",
            "",
            "train.csv",
        ),
        (3, "patient00002/study3/view2_lateral.jpg", "?Edema|Cardiomegaly", "train", "", "lateral", "", "train.csv"),
    ]
    assert {row.split for row in read_published(str(tmp_path / "train.csv"), valid, settings)} == {"validation"}


@pytest.mark.parametrize(
    ("uncertain", "expected"),
    [
        ("", ["?Edema|Cardiomegaly", "?Edema|?Fracture", "|", "", "No Finding"]),
        ("mask", ["?Edema|Cardiomegaly", "?Edema|?Fracture", "|", "", "No Finding"]),
        ("zero", ["Cardiomegaly", "|", "|", "", "No Finding"]),
        ("one", ["Cardiomegaly|Edema", "Edema|Fracture", "|", "", "No Finding"]),
    ],
)
def test_uncertain_findings_are_masked_present_or_absent(tmp_path: Path, uncertain: str, expected: list[str]) -> None:
    rows = (",,1.0,,,-1.0,0.0,,,,,,,", ",,,,,-1,,,,,,,-1.0,", ",,,,,,0.0,,,,,,,", ",,,,,,,,,,,,,", "1.0,,,,,,,,,,,,,")
    assert labels(tmp_path, *rows, uncertain=uncertain) == expected


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (",,1.0,,,2.0,,,,,,,,", "not as published: Edema in line 3 is not 1, 0, -1 or empty"),
        (",,1.0,,,,,,,,,,,Male 68", "Support Devices in line 3 is not 1, 0, -1 or empty; correct it"),
        (",,1.0,,,-0.5,,,,,,,,", "Edema in line 3"),
        (",,1.0,,,nan,,,,,,,,", "Edema in line 3"),
        (",,1.0,,,0.0", "cut off: line 3 ends before Consolidation; fetch it again"),
        (",,1.0,,,,,,,,,,,,1.0", "line 3 has 20 cells but the header has 19"),
    ],
)
def test_other_values_and_cut_rows_are_refused_without_the_cell(tmp_path: Path, row: str, says: str) -> None:
    with pytest.raises(UnreadableTable, match=says) as refused:
        labels(tmp_path, "1.0,,,,,,,,,,,,,", row)
    assert "Male" not in str(refused.value)


@pytest.mark.parametrize("column", ["Path", "Frontal/Lateral", "Pleural Other", "No Finding"])
def test_a_missing_column_is_named(tmp_path: Path, column: str) -> None:
    header = [name for name in CHEXPERT_HEADER.split(",") if name != column]
    (tmp_path / "train.csv").write_text(",".join(header) + "\n" + "," * (len(header) - 1) + "\n")
    with pytest.raises(UsageError, match=f"has no column {column}; its first line must name Path, Frontal/Lateral, No"):
        check_table(str(tmp_path / "train.csv"), PRESETS["chexpert"].tables[0])


def test_the_tables_of_mimic_cxr_are_about_studies_and_images(tmp_path: Path) -> None:
    texts = (
        f"subject_id,study_id,{MIMIC_FINDINGS}\n10000032,50414267,,,,1.0,,,-1.0,,,,,,,\n",
        "dicom_id,study_id,subject_id,split\n02aa804e-bde0,50414267,10000032,validate\n",
        "dicom_id,subject_id,study_id,ViewPosition,Rows\n02aa804e-bde0,10000032,50414267,LL,3056\nab,1,2,,1\n"
        "ac,1,2,XTABLE LATERAL,1\n",
    )
    settings = config(preset="mimic-cxr")
    rows: list[Row] = []
    for number, (text, table) in enumerate(zip(texts, settings.public_set.tables, strict=True)):
        (tmp_path / f"{number}.csv").write_text(text)
        check_table(str(tmp_path / f"{number}.csv"), table)
        rows += read_published(str(tmp_path / f"{number}.csv"), table, settings)
    image, study, patient = "02aa804e-bde0.jpg", "50414267", "10000032"
    assert [tuple(row) for row in rows] == [
        (2, "", "?Lung Lesion|Edema", "", patient, "", study, "0.csv"),
        (2, image, "", "validation", patient, "", study, "1.csv"),
        (2, image, "", "", patient, "lateral", study, "2.csv"),
        (3, "ab.jpg", "", "", "1", "other", "2", "2.csv"),
        (4, "ac.jpg", "", "", "1", "other", "2", "2.csv"),
    ]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("a,50414267,10000032,dunno", "split in line 2 is not train, validate or test"),
        ("a,50414267,10000032,", "split in line 2 is not train, validate or test"),
        ("a,,10000032,train", "line 2 has no study_id; correct it"),
    ],
)
def test_a_row_without_split_or_study_is_refused(tmp_path: Path, row: str, says: str) -> None:
    (tmp_path / "split.csv").write_text(f"dicom_id,study_id,subject_id,split\n{row}\n")
    settings = config(preset="mimic-cxr")
    with pytest.raises(UnreadableTable, match=says):
        list(read_published(str(tmp_path / "split.csv"), settings.public_set.tables[1], settings))
