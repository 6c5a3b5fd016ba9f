"""Small versions of the public data sets, with the columns, file names and lists as published."""

import gzip
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tests.conftest import write_images
from tests.schemas.dicom_files import dicom_file

NIH_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
)

CHEXPERT_FINDINGS = (
    "No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,Lung Lesion,Edema,Consolidation,Pneumonia,Atelectasis,"
    "Pneumothorax,Pleural Effusion,Pleural Other,Fracture,Support Devices"
)
MIMIC_FINDINGS = (
    "Atelectasis,Cardiomegaly,Consolidation,Edema,Enlarged Cardiomediastinum,Fracture,Lung Lesion,Lung Opacity,No Finding,"
    "Pleural Effusion,Pleural Other,Pneumonia,Pneumothorax,Support Devices"
)
MIMIC_METADATA = (
    "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns,StudyDate,StudyTime,"
    "ProcedureCodeSequence_CodeMeaning,ViewCodeSequence_CodeMeaning,PatientOrientationCodeSequence_CodeMeaning"
)


class Published(NamedTuple):
    """What the tables say about an image: the cells of its findings by column, its split, patient and view."""

    cells: dict[str, str]
    split: str
    patient: str
    view: str


def nih(folder: Path) -> dict[str, str]:
    """Writes ten patients with three images each, in two of the published folders. Returns {file name: finding labels}."""
    labels = ("No Finding", "Cardiomegaly|Emphysema", "Hernia")
    names = {f"{patient:08d}_{n:03d}.png": labels[n] for patient in range(1, 11) for n in range(3)}
    write_images(folder, [f"images_{1 + n // 15:03d}/images/{name}" for n, name in enumerate(names)])
    rows = [
        f"{name},{label},{int(name[9:12])},{int(name[:8])},058,M,PA,2682,2749,0.143,0.143,"
        for name, label in names.items()
    ]
    (folder / "Data_Entry_2017.csv").write_text("\n".join([NIH_HEADER, *rows]) + "\n")
    test = [name for name in names if int(name[:8]) > 8]
    (folder / "test_list.txt").write_text("\n".join(test))
    (folder / "train_val_list.txt").write_text("\r\n".join(name for name in names if name not in test) + "\r\n")
    return names


def rsna(folder: Path) -> None:
    """Writes six healthy and six ill patients. Each ill patient has two boxes and so two rows."""
    rows = ["patientId,x,y,width,height,Target"]
    classes = ["patientId,class"]
    for n in range(12):
        patient = f"{n:08x}-0000-4000-8000-000000000000"
        path = folder / f"stage_2_train_images/{patient}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(dicom_file(np.random.default_rng(n).integers(0, 4096, (32, 32), dtype=np.uint16)))
        rows += (
            [f"{patient},264.0,152.0,213.0,379.0,1", f"{patient},562.0,152.0,256.0,453.0,1"]
            if n % 2
            else [f"{patient},,,,,0"]
        )
        classes += [
            f"{patient},{['Normal', 'Lung Opacity', 'No Lung Opacity / Not Normal', 'Lung Opacity'][n % 4]}"
        ] * (1 + n % 2)
    (folder / "stage_2_train_labels.csv").write_text("\n".join(rows) + "\n")
    (folder / "stage_2_detailed_class_info.csv").write_text("\n".join(classes) + "\n")


def chexpert(folder: Path, inside: str = "", named: str = "CheXpert-v1.0-small") -> dict[str, Published]:
    """Writes ten patients of train and three of valid, each with a frontal image, every second one with a lateral one
    too, and every third one with a second study. `inside`: where the images and tables are below `folder`. `named`: the
    folder that the tables name. Returns {path below `folder`: what the tables say}."""
    images = {}
    for patient in range(1, 14):
        split = "train" if patient <= 10 else "valid"
        for study in range(1, 3 if patient % 3 == 0 else 2):
            cells = finding_cells(f"chexpert {patient} {study}", CHEXPERT_FINDINGS.split(","), split == "train")
            for view in ("frontal", "lateral")[: 1 + patient % 2]:
                path = f"{split}/patient{patient:05d}/study{study}/view{1 + (view == 'lateral')}_{view}.jpg"
                images[path] = Published(cells, split, f"patient{patient:05d}", view)
    place = folder / inside
    write_images(place, {path: 1000 + n for n, path in enumerate(images)})
    for split in ("train", "valid"):
        rows = [
            f"{named}/{path},Female,64,{told.view.title()},{'AP' * (told.view == 'frontal')},{','.join(told.cells.values())}"
            for path, told in images.items()
            if told.split == split
        ]
        header = f"Path,Sex,Age,Frontal/Lateral,AP/PA,{CHEXPERT_FINDINGS}"
        (place / f"{split}.csv").write_text("\n".join([header, *rows]) + "\n")
    return {f"{inside}/{path}".lstrip("/"): told for path, told in images.items()}


def mimic(folder: Path) -> dict[str, Published]:
    """Writes twelve patients with one or two studies of one to three images. Returns {path below `folder`: what the
    tables say}."""
    views = ("PA", "LATERAL", "AP", "LL", "", "AP AXIAL")
    images: dict[str, Published] = {}
    labels, splits, metadata = [], [], []
    for n in range(12):
        subject, split = str(10000032 + n), ("train", "train", "validate", "test")[n % 4]
        for study in range(50414267 + 10 * n, 50414267 + 10 * n + 1 + n % 2):
            cells = finding_cells(f"mimic {study}", MIMIC_FINDINGS.split(","), True)
            labels.append(f"{subject},{study},{','.join(cells.values())}")
            for image in range(1 + (study + n) % 3):
                number = len(images)
                dicom, view = "-".join(f"{number * 7919 + k:08x}" for k in range(5)), views[(n + image) % 6]
                path = f"files/p{subject[:2]}/p{subject}/s{study}/{dicom}.jpg"
                images[path] = Published(cells, split, subject, view)
                splits.append(f"{dicom},{study},{subject},{split}")
                told = f"CHEST (PA AND LAT),{view},3056,2544,21800506,213014.531"
                metadata.append(f"{dicom},{subject},{study},{told},CHEST (PA AND LAT),postero-anterior,Erect")
    write_images(folder, {path: 2000 + n for n, path in enumerate(images)})
    write_gzip(folder / "mimic-cxr-2.0.0-chexpert.csv.gz", [f"subject_id,study_id,{MIMIC_FINDINGS}", *labels])
    write_gzip(folder / "mimic-cxr-2.0.0-split.csv.gz", ["dicom_id,study_id,subject_id,split", *splits])
    write_gzip(folder / "mimic-cxr-2.0.0-metadata.csv.gz", [MIMIC_METADATA, *metadata])
    return images


def finding_cells(seed: str, findings: Sequence[str], blanks: bool) -> dict[str, str]:
    """Cells as a labeller of reports writes them, which leaves most of them blank, or as radiologists do."""
    random = np.random.default_rng(list(seed.encode()))
    share = (0.6, 0.1, 0.2, 0.1) if blanks else (0, 0.7, 0.3, 0)
    cells = {name: str(random.choice(["", "0.0", "1.0", "-1.0"], p=share)) for name in findings}
    found = any(
        cell in ("1.0", "-1.0") for name, cell in cells.items() if name not in ("No Finding", "Support Devices")
    )
    cells["No Finding"] = ("" if blanks else "0.0") if found else "1.0"
    return cells


def write_gzip(path: Path, lines: Iterable[str]) -> None:
    path.write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode(), mtime=0))


def read_gzip(path: Path) -> list[str]:
    return gzip.decompress(path.read_bytes()).decode().splitlines()
