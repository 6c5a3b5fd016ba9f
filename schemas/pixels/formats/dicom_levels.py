"""The gray levels of DICOM's stored values by PS3.3 C.11: modality transform, then VOI LUT or window, then inversion.

These functions work on the few values that pixels can have, never on the pixels themselves.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from schemas.pixels.rejection import ImageRejected, Reason

COLOURS = ("Red", "Green", "Blue")


def display_levels(stored: NDArray[np.int64], dataset: Dataset) -> tuple[NDArray[np.float64], bool]:
    """The levels of consecutive stored values, from 0 (black) to 1 (white), and whether the window, if there is one, is
    usable."""
    photometric = dataset.PhotometricInterpretation
    if photometric == "PALETTE COLOR":
        red, green, blue = (_Table.of_palette(dataset, colour).levels(stored) for colour in COLOURS)
        return 0.299 * red + 0.587 * green + 0.114 * blue, True
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise ImageRejected(Reason.UNSUPPORTED, "one sample a pixel that is neither gray nor of a palette")
    values = stored.astype(np.float64)
    if dataset.get("ModalityLUTSequence"):
        values = _Table.of_item(dataset.ModalityLUTSequence[0]).entries(stored).astype(np.float64)
    elif dataset.get("RescaleSlope") is not None:
        slope, intercept = float(dataset.RescaleSlope), float(dataset.get("RescaleIntercept") or 0)
        values = values * slope + intercept
        if not np.isfinite(values).all():
            raise ImageRejected(Reason.DAMAGED, "RescaleSlope or RescaleIntercept gives no finite number")

    centre, width = (first_number(dataset.get(keyword)) for keyword in ("WindowCenter", "WindowWidth"))
    levels = None
    if dataset.get("VOILUTSequence"):
        levels = _Table.of_item(dataset.VOILUTSequence[0]).levels(values)
    elif centre is not None and width is not None:
        levels = _window(values, centre, width, str(dataset.get("VOILUTFunction") or "LINEAR"))
    usable = levels is not None or centre is None
    if levels is None:
        least, greatest = values.min(), values.max()
        levels = (values - least) / (greatest - least) if greatest > least else np.zeros_like(values)
    return (1 - levels if photometric == "MONOCHROME1" else levels), usable


def first_number(value: Any) -> float | None:
    """The first of several values, as a number. None if the element is absent or empty."""
    if value is None or isinstance(value, (str, float, int)):
        return float(value) if value not in (None, "") else None
    return float(value[0]) if len(value) else None


def _window(values: NDArray[np.float64], centre: float, width: float, function: str) -> NDArray[np.float64] | None:
    """The level of each value, from 0 to 1, by PS3.3 C.11.2.1.2 and C.11.2.1.3. None for a window that the standard
    forbids."""
    least_width = 1 if function == "LINEAR" else 0
    if not (np.isfinite((centre, width)).all() and width >= least_width and width > 0):
        return None
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -700, 700)))
    if function == "LINEAR_EXACT":
        return np.clip((values - centre) / width + 0.5, 0, 1)
    if width == 1:
        return (values > centre - 0.5).astype(np.float64)
    return np.clip((values - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)


@dataclass(frozen=True)
class _Table:
    """A look-up table of PS3.3 C.11.1.1, C.11.2.1.1 or C.7.6.3.1.5: `data[0]` is the entry for the input `first` and
    for all lower inputs."""

    first: int
    data: NDArray[Any]
    white: int

    @classmethod
    def of_item(cls, item: Dataset) -> "_Table":
        """A modality or VOI LUT. White is its greatest entry: descriptors claim 16 bits for tables that use 12."""
        count, first, _ = (int(value) for value in item.LUTDescriptor)
        words = item.LUTData
        data = np.frombuffer(words, np.uint16) if isinstance(words, bytes) else np.atleast_1d(np.asarray(words))
        data = data[: count or 65536]
        return cls(first, data, max(1, int(data.max())))

    @classmethod
    def of_palette(cls, dataset: Dataset, colour: str) -> "_Table":
        """One colour of a palette, with entries of 8 or 16 bits. Segmented palettes are not supported."""
        prefix = f"{colour}PaletteColorLookupTable"
        if f"{prefix}Data" not in dataset:
            raise ImageRejected(Reason.UNSUPPORTED, "a palette image without a plain palette")
        count, first, bits = (int(value) for value in dataset[f"{prefix}Descriptor"].value)
        words = dataset[f"{prefix}Data"].value
        data = np.frombuffer(words, np.uint8 if len(words) < 2 * (count or 65536) else np.uint16)
        return cls(first, data, 255 if bits == 8 else 65535)

    def entries(self, values: NDArray[Any]) -> NDArray[Any]:
        """What the table holds for each of `values`."""
        # The first input is signed if the values are, although some files declare it unsigned.
        first = self.first - 65536 if self.first > 32767 and values.min() < 0 else self.first
        found: NDArray[Any] = self.data[np.clip(values - first, 0, len(self.data) - 1).astype(np.intp)]
        return found

    def levels(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """The same entries as fractions of white, from 0 to 1."""
        return np.clip(self.entries(values) / self.white, 0, 1)
