"""Small versions of the public data sets, with the columns, file names and lists as published."""

from pathlib import Path

import numpy as np

from tests.conftest import write_images
from tests.schemas.image_files import dicom_file

NIH_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
)


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
