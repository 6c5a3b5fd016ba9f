"""An image as the model gets it and as people see it, and what is drawn over it."""

from dataclasses import dataclass
from math import ceil, sqrt
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from schemas.decoders.pool import DecoderPool
from schemas.decoders.process import Answer
from schemas.pixels import measure
from schemas.pixels.rejection import Decoded, ImageRejected, Reason
from schemas.pixels.resize import Placement, placement
from schemas.pixels.settings import ImageSettings
from training.explanation.grid import Steps, interpolation
from training.explanation.methods import Map

FOR, AGAINST = (214, 39, 40), (31, 119, 180)  # red speaks for the class, blue against it
OPACITY = 0.6  # of the largest value
_TILE = 48  # the least side of a channel on a sheet, in pixels


@dataclass(frozen=True)
class Looked:
    """input: uint8 [height, width, channels], as the model gets it. picture: uint8 [height, width], the upright image in its
    own size (up to measure.LONGEST). place: where the input shows which part of the picture."""

    input: npt.NDArray[np.uint8]
    picture: npt.NDArray[np.uint8]
    place: Placement


def look(data: bytes, settings: ImageSettings, pool: DecoderPool) -> Looked | Answer:
    """The image in the file `data`, or the decoder's answer that says why there is none."""
    (answer,) = pool.decode([data], settings)
    if not isinstance(answer, Decoded):
        return answer
    (told,) = pool.decode([data], measure.settings_to_measure(settings), decoder=measure.DECODER)
    if not isinstance(told, Decoded):
        return told
    try:
        width, height = measure.size_in(told.pixels)
    except ValueError:
        return ImageRejected(Reason.DECODER_CRASHED, "the decoding process gave a size that cannot be one")
    shown = measure.settings_to_show(settings, (width, height))
    (square,) = pool.decode([data], shown)
    if not isinstance(square, Decoded):
        return square
    (x, y), (wide, tall) = (place := placement(width, height, shown)).corner, place.size
    picture = square.pixels[y : y + tall, x : x + wide, 0]
    return Looked(answer.pixels, picture, placement(picture.shape[1], picture.shape[0], settings))


def on_picture(values: Map, looked: Looked) -> Map:
    """A map of the model's input, on the picture. It is not a number where the model does not see the picture."""
    shape, place = looked.picture.shape, looked.place
    weights, seen = [], []
    for axis in (0, 1):
        start, end = place.box[1 - axis], place.box[3 - axis]
        corner, size = place.corner[1 - axis], place.size[1 - axis]
        centres = np.arange(shape[axis], dtype=np.float64) + 0.5
        seen.append((centres >= start) & (centres <= end))
        # Pixels of the input's part of the picture are cells of (end - start) / size pixels.
        step = (end - start) / size
        part = interpolation(centres, Steps(start + step / 2, step), size)
        weights.append(np.pad(part, ((0, 0), (corner, values.shape[axis] - corner - size))))
    mapped: Map = np.where(seen[0][:, np.newaxis] & seen[1], weights[0] @ values @ weights[1].T, np.nan)
    return mapped


def content(values: Map, looked: Looked) -> Map:
    """The part of a map of the model's input that shows the picture, without letterbox bars."""
    (x, y), (width, height) = looked.place.corner, looked.place.size
    return values[y : y + height, x : x + width]


def write_overlay(path: Path, values: Map, looked: Looked) -> None:
    """The picture with the map over it: FOR where it is positive and AGAINST where it is negative, the more opaque the
    greater the value is compared with the map's greatest. Darker where the model does not see the picture. PNG, RGB."""
    mapped = on_picture(values, looked)
    unseen, greatest = np.isnan(mapped), np.abs(content(values, looked)).max(initial=0.0) or 1.0
    share = np.where(unseen, 0, np.clip(mapped / greatest, -1, 1))[:, :, np.newaxis]
    gray = np.where(unseen, looked.picture * 0.5, looked.picture)[:, :, np.newaxis]
    opacity = OPACITY * np.abs(share)
    colour = np.where(share > 0, np.array(FOR), np.array(AGAINST))
    Image.fromarray(np.rint(gray * (1 - opacity) + colour * opacity).astype(np.uint8)).save(path)


def write_sheet(path: Path, channels: npt.NDArray[np.float32], title: str) -> None:
    """The channels [height, width, channels] of a layer as tiles, row by row, each from its least value in black to its
    greatest in white. PNG, gray."""
    height, width, count = channels.shape
    scale = max(1, ceil(_TILE / max(height, width)))
    low, high = channels.min(axis=(0, 1)), channels.max(axis=(0, 1))
    span = np.where(high > low, high - low, 1)
    tiles = np.rint((channels - low) / span * 255).astype(np.uint8).repeat(scale, 0).repeat(scale, 1)
    columns = ceil(sqrt(count))
    gap, top = 2, 16
    tall, wide = height * scale + gap, width * scale + gap
    sheet = np.full((top + ceil(count / columns) * tall, columns * wide), 64, np.uint8)
    for index in range(count):
        y, x = top + index // columns * tall, index % columns * wide
        sheet[y : y + tall - gap, x : x + wide - gap] = tiles[:, :, index]
    image = Image.fromarray(sheet)
    ImageDraw.Draw(image).text((2, 2), title, fill=255)
    image.save(path)
