"""Makes DICOM files of every usual and unusual kind."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filewriter import dcmwrite
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit

from tests.schemas import pictures
from tests.schemas.pictures import NAMES, saved, scene

DIGITAL_XRAY = "1.2.840.10008.5.1.4.1.1.1.1"


def dicom_object(pixels: NDArray[Any] | None = None, **elements: Any) -> Dataset:
    """A digital X-ray full of names, with native `pixels` ([rows, columns] or RGB); `elements` are set by keyword."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.Modality = DIGITAL_XRAY, f"1.2.3.4{pictures.chosen:04d}", "DX"
    dataset.PatientName, dataset.PatientID, dataset.ReferringPhysicianName = NAMES[:3]
    dataset.InstitutionName, dataset.PatientBirthDate = NAMES[3:]
    if pixels is not None:
        dataset.Rows, dataset.Columns = pixels.shape[:2]
        dataset.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
        dataset.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
        dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.dtype.itemsize
        dataset.HighBit = dataset.BitsStored - 1
        dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
        if pixels.ndim == 3:
            dataset.PlanarConfiguration = 0
        content = pixels.tobytes()
        dataset.add_new("PixelData", "OW" if pixels.dtype.itemsize == 2 else "OB", content + b"\0" * (len(content) % 2))
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def dicom_bytes(dataset: Dataset, syntax: str = ExplicitVRLittleEndian, bare: bool = False) -> bytes:
    """The file of `dataset`; `bare` leaves out preamble and file meta information."""
    stream = io.BytesIO()
    if bare:
        dcmwrite(stream, dataset, implicit_vr=UID(syntax).is_implicit_VR, little_endian=True)
        return stream.getvalue()
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(syntax)
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = UID("1.2.3.4")
    whole = FileDataset("", dataset, preamble=b"\0" * 128, file_meta=meta)
    known = UID(syntax).is_transfer_syntax
    dcmwrite(
        stream, whole, enforce_file_format=known, **({} if known else {"implicit_vr": False, "little_endian": True})
    )
    return stream.getvalue()


def large_dicom(kind: str, side: int) -> bytes:
    """`side` x `side` colour pixels: `kind` is JPEG, JPEG2000 or, for native pixels, a photometric interpretation."""
    elements = {"Rows": side, "Columns": side, "SamplesPerPixel": 3, "PlanarConfiguration": 0}
    if kind in ("JPEG", "JPEG2000"):
        frame = saved(Image.new("RGB", (side, side), (7, 8, 9)), kind, **({"no_jp2": True} if kind != "JPEG" else {}))
        syntax = JPEGBaseline8Bit if kind == "JPEG" else JPEG2000Lossless
        return encapsulated(frame, syntax, PhotometricInterpretation="YBR_FULL_422", **elements)
    native = bytes(3 * side * side)
    return dicom_bytes(dicom_object(scene(), PhotometricInterpretation=kind, PixelData=native, **elements))


def many_frames(megabytes: int) -> bytes:
    """A DICOM file of `megabytes` frames of one megabyte each."""
    elements = {"Rows": 1000, "Columns": 1000, "NumberOfFrames": megabytes, "PixelData": bytes(megabytes * 1_000_000)}
    return dicom_bytes(dicom_object(scene(), **elements))


def dicom_file(pixels: NDArray[Any] | None = None, **elements: Any) -> bytes:
    """`dicom_object` as a file."""
    return dicom_bytes(dicom_object(scene() if pixels is None else pixels, **elements))


def encapsulated(frame: bytes, syntax: str = JPEGBaseline8Bit, **elements: Any) -> bytes:
    """A DICOM file of the scene's size around one compressed frame."""
    dataset = dicom_object(scene(), **elements)
    dataset.add_new("PixelData", "OB", encapsulate([frame]))
    dataset["PixelData"].is_undefined_length = True
    return dicom_bytes(dataset, syntax)


def twelve_bits() -> NDArray[np.uint16]:
    """The scene with 12 bits stored in 16: its range becomes 0 to 4095."""
    gray = scene().astype(np.float64)
    levels: NDArray[np.uint16] = np.rint((gray - gray.min()) / (gray.max() - gray.min()) * 4095).astype(np.uint16)
    return levels


def without_pixels(sop_class: str = DIGITAL_XRAY) -> bytes:
    """A DICOM object that holds no PixelData."""
    return dicom_bytes(dicom_object(SOPClassUID=sop_class))


def wrong_rows() -> bytes:
    """A DICOM file whose Rows exceed its pixels."""
    dataset = dicom_object(scene())
    dataset.Rows = 500
    return dicom_bytes(dataset)
