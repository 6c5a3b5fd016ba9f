"""Makes image files of every unusual and hostile kind, for the tests of decoding and of the conversion.

`GOOD` maps the name of a kind to a function that makes its bytes. `REJECTED` maps it to such a function and to the Reason
or SkipReason that decoding must give.
"""

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filewriter import dcmwrite
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit

from schemas.pixels.rejection import Reason, SkipReason

DIGITAL_XRAY = "1.2.840.10008.5.1.4.1.1.1.1"
NAMES = ("Zebedee^Quill", "MRN-8812-QX", "Dr^Farthing", "Saint Osyth Infirmary", "19410203")


_variant = 0  # changed by `variant`, so that a folder can hold many files of one kind without duplicates


def variant(make: Callable[[], bytes], number: int) -> bytes:
    """The file that `make` makes, with `number` (0 to 2047; 0 for none) in its picture or its identifier."""
    global _variant
    _variant = number
    try:
        return make()
    finally:
        _variant = 0


def scene(height: int = 120, width: int = 160) -> NDArray[np.uint8]:
    """A smooth picture that differs from its rotations and mirror images: uint8 [height, width], 20 to 235."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    smooth = 20 + 100 * x * x + 70 * y + 45 * np.exp(-30 * ((x - 0.3) ** 2 + (y - 0.2) ** 2))
    for bit in range(11):  # a row of bright dots in the middle
        if _variant >> bit & 1:
            smooth[height // 2 : height // 2 + 4, width // 20 + 4 * bit : width // 20 + 4 * bit + 4] = 235
    pixels: NDArray[np.uint8] = np.rint(smooth).astype(np.uint8)
    return pixels


def saved(image: Image.Image, format: str, **options: Any) -> bytes:
    """The file that Pillow writes."""
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def picture(format: str, mode: str = "L", **options: Any) -> bytes:
    """`scene()` in another format and mode."""
    return saved(Image.fromarray(scene()).convert(mode), format, **options)


def textured_jpeg(**options: Any) -> bytes:
    """A JPEG with enough detail to be damaged: 400x300 pixels of the scene with noise."""
    noise = np.random.default_rng(0).integers(-20, 20, (300, 400))
    return saved(Image.fromarray((scene(300, 400) + noise).clip(0, 255).astype(np.uint8)), "JPEG", **options)


def damaged_in_the_middle(data: bytes, count: int = 40) -> bytes:
    """`data` with `count` bytes in its middle replaced, never by JPEG markers."""
    middle = len(data) // 2
    return data[:middle] + bytes((7 * i) % 255 for i in range(count)) + data[middle + count :]


def oriented(format: str, orientation: int, **options: Any) -> bytes:
    """`scene()` stored so that a reader which applies the EXIF orientation sees it upright."""
    stored: dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: np.transpose,
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a, 2).T,
        8: lambda a: np.rot90(a, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = NAMES[0]
    return saved(Image.fromarray(np.ascontiguousarray(stored[orientation](scene()))), format, exif=exif, **options)


def ycck_jpeg() -> bytes:
    """A JPEG as Photoshop writes it: all inks inverted, then cyan, magenta and yellow as YCC, and a marker that says so."""
    gray = 255 - scene()
    stored = np.stack([gray, np.full_like(gray, 128), np.full_like(gray, 128), np.full_like(gray, 255)], 2)
    data = saved(Image.fromarray(255 - stored, "CMYK"), "JPEG", quality=95)
    at = data.index(b"Adobe") + 11
    return data[:at] + b"\x02" + data[at + 1 :]


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """One chunk of a PNG file."""
    return struct.pack(">L", len(content)) + kind + content + struct.pack(">L", zlib.crc32(kind + content))


def png_of_size(width: int, height: int, rows: int = 0) -> bytes:
    """An 8-bit gray PNG with a valid header and `rows` black rows, which compress to a thousandth."""
    header = struct.pack(">LLBBBBB", width, height, 8, 0, 0, 0, 0)
    content = zlib.compress(bytes((width + 1) * rows), 9)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", content) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def animation(format: str, **options: Any) -> bytes:
    """An animation of two different frames."""
    first, second = Image.fromarray(scene()), Image.fromarray(255 - scene())
    return saved(first, format, save_all=True, append_images=[second], **options)


def deep_gradient(format: str, greatest: int = 65535, **options: Any) -> bytes:
    """A 16-bit ramp from 0 at the left to `greatest` at the right, 256x256."""
    pixels = np.tile(np.linspace(0, greatest, 256).astype(np.uint16), (256, 1))
    pixels[-1, -1] -= _variant
    return saved(Image.fromarray(pixels), format, **options)


def dicom_object(pixels: NDArray[Any] | None = None, **elements: Any) -> Dataset:
    """A digital X-ray full of names, with native `pixels` ([rows, columns] or RGB); `elements` are set by keyword."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.Modality = DIGITAL_XRAY, f"1.2.3.4{_variant:04d}", "DX"
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


def large_picture(format: str, mode: str, side: int) -> bytes:
    """`side` x `side` pixels of one colour."""
    return saved(Image.new(mode, (side, side)), format)


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


def float_tiff(*values: float) -> bytes:
    """A float32 TIFF of the scene; its first pixels are replaced by `values`."""
    pixels = scene().astype(np.float32) * 3 - 100
    pixels.flat[: len(values)] = values
    return saved(Image.fromarray(pixels), "TIFF")


def transparent(mode: str) -> Image.Image:
    """The scene with its right half transparent, over white that must not show."""
    alpha = np.repeat([255, 0], 80).astype(np.uint8)[np.newaxis].repeat(120, 0)
    image = Image.fromarray(np.where(alpha > 0, scene(), 255).astype(np.uint8)).convert(mode)
    image.putalpha(Image.fromarray(alpha))
    return image


GOOD: dict[str, Callable[[], bytes]] = {
    "gray.jpg": lambda: picture("JPEG"),
    "rgb.jpg": lambda: picture("JPEG", "RGB"),
    "progressive.jpg": lambda: picture("JPEG", progressive=True),
    "cmyk.jpg": lambda: picture("JPEG", "CMYK"),
    "ycck.jpg": ycck_jpeg,
    "turned.jpg": lambda: oriented("JPEG", 6),
    "trailing bytes.jpg": lambda: picture("JPEG") + b"\0" * 100,
    "gray.png": lambda: picture("PNG"),
    "palette.png": lambda: picture("PNG", "P"),
    "one bit.png": lambda: picture("PNG", "1"),
    "alpha.png": lambda: saved(transparent("RGB"), "PNG"),
    "deep.png": lambda: deep_gradient("PNG"),
    "png named.jpg": lambda: picture("PNG"),
    "gray.tiff": lambda: picture("TIFF"),
    "lzw.tiff": lambda: picture("TIFF", compression="tiff_lzw"),
    "deep.tiff": lambda: deep_gradient("TIFF"),
    "float.tiff": float_tiff,
    "cmyk.tiff": lambda: picture("TIFF", "CMYK"),
    "gray.bmp": lambda: picture("BMP"),
    "still.gif": lambda: picture("GIF"),
    "lossy.webp": lambda: picture("WEBP", "RGB", quality=90),
    "lossless.webp": lambda: picture("WEBP", "RGB", lossless=True),
    "gray.dcm": dicom_file,
    "twelve bits.dcm": lambda: dicom_file(twelve_bits(), BitsStored=12, HighBit=11),
    "no file meta.dcm": lambda: dicom_bytes(dicom_object(scene()), ImplicitVRLittleEndian, bare=True),
    "explicit no file meta.dcm": lambda: dicom_bytes(dicom_object(scene()), bare=True),
    "rgb.dcm": lambda: dicom_file(np.stack([scene()] * 3, 2)),
    "jpeg.dcm": lambda: encapsulated(picture("JPEG")),
}

REJECTED: dict[str, tuple[Callable[[], bytes], Reason | SkipReason]] = {
    "zero bytes.jpg": (lambda: b"", Reason.EMPTY),
    "page.jpg": (lambda: b"<!DOCTYPE html><html><body>404 not found: %d</body></html>" % _variant, Reason.NOT_AN_IMAGE),
    "cut.jpg": (lambda: textured_jpeg()[:-5000], Reason.TRUNCATED),
    "cut progressive.jpg": (lambda: textured_jpeg(progressive=True)[:-5000], Reason.TRUNCATED),
    "no end.jpg": (lambda: picture("JPEG")[:-2], Reason.TRUNCATED),
    "cut header.jpg": (lambda: picture("JPEG", comment=b"%d" % _variant)[:100], Reason.TRUNCATED),
    "damaged.jpg": (lambda: damaged_in_the_middle(textured_jpeg(), 2000), Reason.DAMAGED),
    "cut.png": (lambda: picture("PNG")[:-500], Reason.TRUNCATED),
    "no end.png": (lambda: picture("PNG")[:-12], Reason.TRUNCATED),
    "damaged.png": (lambda: damaged_in_the_middle(picture("PNG"), 2), Reason.DAMAGED),
    "cut.tiff": (lambda: picture("TIFF")[:-5000], Reason.TRUNCATED),
    "cut.gif": (lambda: picture("GIF")[:-3000], Reason.TRUNCATED),
    "cut.bmp": (lambda: picture("BMP")[:-3000], Reason.TRUNCATED),
    "cut.webp": (lambda: picture("WEBP", "RGB")[:-50], Reason.TRUNCATED),
    "bomb.png": (lambda: png_of_size(30_000, 30_000 + _variant), Reason.TOO_MANY_PIXELS),
    "one pixel.png": (lambda: saved(Image.new("L", (1, 1), _variant % 256), "PNG"), Reason.TOO_SMALL),
    "stripe.jpg": (lambda: saved(Image.new("L", (840 + _variant, 40)), "JPEG"), Reason.BAD_ASPECT),
    "animated.gif": (lambda: animation("GIF"), Reason.ANIMATED),
    "animated.png": (lambda: animation("PNG"), Reason.ANIMATED),
    "animated.webp": (lambda: animation("WEBP", lossless=True), Reason.ANIMATED),
    "pages.tiff": (lambda: animation("TIFF"), Reason.MULTI_FRAME),
    "not numbers.tiff": (lambda: float_tiff(float("nan"), float("inf"), _variant), Reason.UNSUPPORTED),
    "cut.dcm": (lambda: dicom_file()[:-2000], Reason.TRUNCATED),
    "cut jpeg.dcm": (lambda: encapsulated(picture("JPEG"))[:-1000], Reason.TRUNCATED),
    "frames.dcm": (lambda: dicom_file(NumberOfFrames=4), Reason.MULTI_FRAME),
    "no pixels.dcm": (without_pixels, Reason.NO_PIXEL_DATA),
    "wrong rows.dcm": (wrong_rows, Reason.SIZE_MISMATCH),
    "wrong frame.dcm": (lambda: encapsulated(textured_jpeg()), Reason.SIZE_MISMATCH),
    "huge.dcm": (lambda: dicom_file(Rows=65535, Columns=65535), Reason.TOO_MANY_PIXELS),
    "video.dcm": (
        lambda: encapsulated(b"\0\0\1\xb3" * 9, "1.2.840.10008.1.2.4.100"),
        Reason.UNSUPPORTED_TRANSFER_SYNTAX,
    ),
    "named.dcm": (lambda: dicom_file(BurnedInAnnotation="YES"), Reason.BURNED_IN_ANNOTATION),
    "DICOMDIR": (lambda: without_pixels("1.2.840.10008.1.3.10"), SkipReason.DICOMDIR),
    "report.dcm": (lambda: without_pixels("1.2.840.10008.5.1.4.1.1.88.22"), SkipReason.STRUCTURED_REPORT),
    "state.dcm": (lambda: without_pixels("1.2.840.10008.5.1.4.1.1.11.1"), SkipReason.PRESENTATION_STATE),
}
