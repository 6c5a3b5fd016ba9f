"""Samples of more than eight bits, scaled by their own range: gray, and colour or alpha, whose lower bytes Pillow
drops."""

import re
import sys

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin
from PIL.ImageFile import ImageFile

from schemas.pixels.gray import Gray, rows_of, strips
from schemas.pixels.rejection import ImageRejected, Reason

_PHOTOMETRIC, _PLANAR, _SAMPLE_FORMAT = 262, 284, 339
_WHITE_IS_ZERO, _UNSIGNED, _SEPARATE_PLANES = 0, 1, 2
_GRAY_MODES = ("I;16", "I;16B", "I", "F")
_LAYOUT = re.compile(r"(LA|RGB|RGBX|RGBA|RGBa);16([BLN])")

# Layouts that Pillow does not know. Those of gray and alpha are taken apart in this module.
for _order, _letter in ((b"II", "L"), (b"MM", "B")):
    TiffImagePlugin.OPEN_INFO.setdefault((_order, 1, (1,), 1, (16, 16), (2,)), ("RGBA", f"LA;16{_letter}"))
TiffImagePlugin.OPEN_INFO.setdefault((b"MM", 0, (1,), 1, (16,), ()), ("I;16B", "I;16B"))


def has_16_bit_samples(image: ImageFile) -> bool:
    """Whether an opened PNG or TIFF has samples of more than eight bits."""
    return image.mode in _GRAY_MODES or _LAYOUT.fullmatch(_layout(image)) is not None


def read_16_bit_samples(image: ImageFile, again: ImageFile) -> Gray:
    """One gray channel of `image`, which is opened but not loaded, scaled from its least to its greatest value and with
    alpha flattened onto black. `again` is the same image, opened a second time: of a colour image, Pillow reads only
    one byte of each sample at a time."""
    layout = _LAYOUT.fullmatch(_layout(image))
    if layout is None:
        return _gray(image)
    if _tags(image).get(_PLANAR) == _SEPARATE_PLANES:
        raise ImageRejected(Reason.UNSUPPORTED, "16-bit colours in separate planes")
    channels, order = layout.groups()
    if order == "N":
        order = "L" if sys.byteorder == "little" else "B"
    if channels == "LA":
        _load_as(image, "RGBA")  # the four bytes of each pixel
    else:
        # Premultiplied colours (RGBa) are already over black. Reading with the other byte order gives the lower bytes.
        raw = "RGBA" if channels == "RGBa" else channels
        _load_as(image, f"{raw};16{order}")
        _load_as(again, f"{raw};16{'B' if order == 'L' else 'L'}")
    luma = np.empty((image.height, image.width), np.uint16)
    alpha = np.empty_like(luma) if channels in ("LA", "RGBA") else None
    low, high = 65535, 0
    for rows in strips(*image.size):
        values = _samples(image, again, rows, channels, order)
        luma[rows] = values[:, :, 0] if channels == "LA" else np.rint(values[:, :, :3] @ [0.299, 0.587, 0.114])
        shown = luma[rows]
        if alpha is not None:
            alpha[rows] = values[:, :, -1]
            shown = shown[values[:, :, -1] > 0]
        low, high = min(low, int(shown.min(initial=65535))), max(high, int(shown.max(initial=0)))
    if alpha is not None and low <= high:
        for rows in strips(*image.size):
            over_black = (luma[rows].clip(low, high) - float(low)) * (alpha[rows] / 65535) + low
            luma[rows] = np.rint(over_black)
    return Gray(Image.fromarray(luma), low, high)


def _samples(image: Image.Image, again: Image.Image, rows: slice, channels: str, order: str) -> NDArray[np.uint16]:
    """[rows, columns, samples] from the bytes that Pillow has loaded."""
    upper = np.asarray(rows_of(image, rows)).astype(np.uint16)
    if channels == "LA":
        most, least = (0, 1) if order == "B" else (1, 0)
        samples: NDArray[np.uint16] = upper[:, :, most::2] << np.uint16(8) | upper[:, :, least::2]
    else:
        samples = upper << np.uint16(8) | np.asarray(rows_of(again, rows))
    return samples


def _tags(image: ImageFile) -> dict[int, int]:
    tags: dict[int, int] = getattr(image, "tag_v2", {})
    return tags


def _gray(image: ImageFile) -> Gray:
    image.load()
    gray: Image.Image = image
    tags = _tags(image)
    if image.mode == "I;16B":
        gray = Image.fromarray(np.asarray(image).astype(np.uint16))
    elif image.mode == "I" and tags and _first(tags, _SAMPLE_FORMAT, _UNSIGNED) == _UNSIGNED:
        gray = Image.fromarray(np.asarray(image).view(np.uint32).astype(np.float32))  # Pillow reads them as signed
    low, high = np.ravel(gray.getextrema()).tolist()
    if "transparency" in image.info and image.mode == "I;16":
        gray = Image.fromarray(_hidden(np.array(image), image.info["transparency"], int(low)))
    if tags and _first(tags, _PHOTOMETRIC, _WHITE_IS_ZERO) == _WHITE_IS_ZERO:
        low, high = high, low
    return Gray(gray, low, high)


def _hidden(pixels: NDArray[np.uint16], level: int, black: int) -> NDArray[np.uint16]:
    pixels[pixels == level] = black
    return pixels


def _first(tags: dict[int, int], tag: int, otherwise: int) -> int:
    return int(np.ravel(tags.get(tag, otherwise))[0])


def _layout(image: ImageFile) -> str:
    """Pillow's name for the layout of the pixels in the file."""
    arguments = image.tile[0].args if image.tile else ""
    return arguments if isinstance(arguments, str) else str((arguments or ("",))[0])


def _load_as(image: ImageFile, layout: str) -> None:
    image.tile = [
        tile._replace(args=layout if isinstance(tile.args, str) else (layout, *(tile.args or ("",))[1:]))
        for tile in image.tile
    ]
    image.load()
