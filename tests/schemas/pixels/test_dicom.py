from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

from schemas.pixels.decode import decode
from schemas.pixels.rejection import NO_USABLE_WINDOW, ImageRejected, Reason
from schemas.pixels.settings import ImageSettings
from tests.schemas.dicom_files import dicom_bytes, dicom_file, dicom_object, twelve_bits
from tests.schemas.pictures import scene

SETTINGS = ImageSettings()


def pixels(data: bytes) -> NDArray[np.int_]:
    return decode(data, SETTINGS).pixels[:, :, 0].astype(int)


def small(levels: NDArray[Any]) -> NDArray[np.float64]:
    """Levels 0 to 255, resized from 120x160 (the scene's size) to 64x64 as means over blocks of an enlarged image."""
    means: NDArray[np.float64] = levels.repeat(8, 0).repeat(2, 1).reshape(64, 15, 64, 5).mean((1, 3))
    return means


def far(actual: NDArray[Any], expected: NDArray[Any]) -> float:
    return float(np.abs(actual - expected).max())


def rejected(data: bytes, settings: ImageSettings = SETTINGS) -> ImageRejected:
    with pytest.raises(ImageRejected) as caught:
        decode(data, settings)
    return caught.value


def lut(first: int, entries: NDArray[Any], bits: int) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(entries), first, bits])
    item.add_new("LUTData", "US", [int(entry) for entry in entries])
    return item


def test_twelve_bits_span_the_full_range() -> None:
    assert far(pixels(dicom_file(twelve_bits(), BitsStored=12, HighBit=11)), small(twelve_bits() / 4095 * 255)) <= 2


def test_eight_bits_keep_their_levels() -> None:
    assert far(pixels(dicom_file()), small(scene().astype(float))) <= 2


def test_signed_values_equal_unsigned_ones() -> None:
    signed = twelve_bits().astype(np.int16) - 2000
    np.testing.assert_array_equal(pixels(dicom_file(signed)), pixels(dicom_file(twelve_bits())))


def test_monochrome1_is_inverted() -> None:
    one = pixels(dicom_file(twelve_bits(), PhotometricInterpretation="MONOCHROME1"))
    assert far(one, 255 - pixels(dicom_file(twelve_bits()))) <= 1


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("window", [{}, {"WindowCenter": 900, "WindowWidth": 700}], ids=["range", "window"])
def test_padding_is_black_and_does_not_change_other_levels(photometric: str, window: dict[str, int]) -> None:
    elements = {"PhotometricInterpretation": photometric, **window}
    plain, padded = twelve_bits(), twelve_bits()
    plain[:60], padded[:60] = plain[60:].min(), np.resize([60000, 60007], 160)
    image = pixels(dicom_file(padded, PixelPaddingValue=60007, PixelPaddingRangeLimit=60000, **elements))
    assert (image[:31] == 0).all()
    np.testing.assert_array_equal(image[33:], pixels(dicom_file(plain, **elements))[33:])


def test_padding_with_the_wrong_sign_is_recognised() -> None:
    plain, padded = twelve_bits().astype(np.int16), twelve_bits().astype(np.int16)
    plain[:60], padded[:60] = plain[60:].min(), -2000
    dataset = dicom_object(padded)
    dataset.add_new("PixelPaddingValue", "US", 65536 - 2000)
    np.testing.assert_array_equal(pixels(dicom_bytes(dataset))[33:], pixels(dicom_file(plain))[33:])


def test_padding_that_covers_the_whole_image_is_ignored() -> None:
    declared = dicom_file(twelve_bits(), PixelPaddingValue=0, PixelPaddingRangeLimit=65535)
    np.testing.assert_array_equal(pixels(declared), pixels(dicom_file(twelve_bits())))


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_a_window_equals_pydicoms(function: str) -> None:
    elements = {
        "WindowCenter": 1000,
        "WindowWidth": 1400,
        "VOILUTFunction": function,
        "RescaleSlope": "0.5",
        "RescaleIntercept": "-50",
        "BitsStored": 12,
        "HighBit": 11,
    }
    dataset = dicom_object(twelve_bits(), **elements)
    shown = apply_voi_lut(apply_modality_lut(twelve_bits(), dataset), dataset)
    # pydicom's output has the range of the rescaled stored values.
    expected = (shown + 50) / (4095 * 0.5) * 255
    assert far(pixels(dicom_bytes(dataset)), small(expected)) <= 2


def test_the_first_of_several_windows_is_used() -> None:
    several = dicom_file(twelve_bits(), WindowCenter=[900, 3000], WindowWidth=[700, 100])
    np.testing.assert_array_equal(pixels(several), pixels(dicom_file(twelve_bits(), WindowCenter=900, WindowWidth=700)))


@pytest.mark.parametrize("width", [0, -5, 0.25])
def test_a_forbidden_window_is_noted_and_not_used(width: float) -> None:
    decoded = decode(dicom_file(twelve_bits(), WindowCenter=900, WindowWidth=width), SETTINGS)
    assert decoded.notes == (NO_USABLE_WINDOW,)
    np.testing.assert_array_equal(decoded.pixels[:, :, 0], pixels(dicom_file(twelve_bits())))


def test_a_window_of_width_one_is_a_threshold() -> None:
    result = pixels(dicom_file(twelve_bits(), WindowCenter=2000, WindowWidth=1))
    np.testing.assert_array_equal(result, pixels(dicom_file(np.where(twelve_bits() >= 2000, 255, 0).astype(np.uint8))))


def test_a_voi_lut_takes_precedence_over_the_window() -> None:
    entries = np.rint(4095 * (np.arange(3000) / 2999) ** 2)
    dataset = dicom_object(twelve_bits(), VOILUTSequence=[lut(500, entries, 12)], WindowCenter=1, WindowWidth=2)
    expected = apply_voi_lut(twelve_bits(), dataset) / 4095 * 255
    assert far(pixels(dicom_bytes(dataset)), small(expected)) <= 2


def test_a_modality_lut_is_applied() -> None:
    entries = 4095 - np.arange(4096)
    dataset = dicom_object(twelve_bits(), ModalityLUTSequence=[lut(0, entries, 16)])
    assert far(pixels(dicom_bytes(dataset)), 255 - pixels(dicom_file(twelve_bits()))) <= 1


def test_colour_becomes_luma() -> None:
    colour = np.stack([scene(), scene()[::-1], scene()[:, ::-1]], 2)
    expected = colour @ [0.299, 0.587, 0.114]
    assert far(pixels(dicom_file(colour)), small(expected)) <= 3
    luma = np.stack([scene(), np.full_like(scene(), 128), np.full_like(scene(), 128)], 2)
    assert far(pixels(dicom_file(luma, PhotometricInterpretation="YBR_FULL")), small(scene().astype(float))) <= 3


@pytest.mark.parametrize("bits", [8, 16])
def test_palette_colours_become_luma(bits: int) -> None:
    ramps = [np.arange(256)[::-1], np.arange(256), np.full(256, 80)]
    elements: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour, ramp in zip(("Red", "Green", "Blue"), ramps, strict=True):
        words = ramp.astype(np.uint8) if bits == 8 else (ramp * 257).astype(np.uint16)
        elements[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, bits]
        elements[f"{colour}PaletteColorLookupTableData"] = words.tobytes()
    expected = 0.299 * (255.0 - scene()) + 0.587 * scene() + 0.114 * 80
    assert far(pixels(dicom_file(scene(), **elements)), small(expected)) <= 2


def test_a_palette_image_without_a_palette_is_rejected() -> None:
    assert rejected(dicom_file(PhotometricInterpretation="PALETTE COLOR")).reason is Reason.UNSUPPORTED


def test_stored_bits_are_located_by_the_high_bit() -> None:
    plain = pixels(dicom_file(twelve_bits(), BitsStored=12, HighBit=11))
    overlay = twelve_bits() | (np.arange(160, dtype=np.uint16) % 16 << 12)
    np.testing.assert_array_equal(pixels(dicom_file(overlay, BitsStored=12, HighBit=11)), plain)
    upper = twelve_bits() << 4 | np.arange(160, dtype=np.uint16) % 16
    np.testing.assert_array_equal(pixels(dicom_file(upper, BitsStored=12, HighBit=15)), plain)
    signed = (twelve_bits().astype(np.int16) - 2048) << 4
    np.testing.assert_array_equal(pixels(dicom_file(signed, BitsStored=12, HighBit=15)), plain)


@pytest.mark.parametrize("keyword", ["RescaleSlope", "RescaleIntercept"])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e400"])
def test_a_rescale_value_that_is_not_finite_is_damage(keyword: str, value: str) -> None:
    elements = {"RescaleSlope": "1000000", "RescaleIntercept": "1000000", keyword: "7777777"}
    data = dicom_file(twelve_bits(), **elements).replace(b"7777777", value.ljust(7).encode())
    with pytest.raises(ImageRejected) as caught:
        decode(data, SETTINGS)
    assert caught.value.reason is Reason.DAMAGED
