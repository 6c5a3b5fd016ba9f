"""Contact sheets of the records, for people."""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from beam_jobs.reading.shards import read_examples
from schemas.dataset import Manifest, Shard
from schemas.labels import positives

_MOST_COLUMNS, _LEAST_WIDTH, _GAP, _TITLE_HEIGHT = 12, 400, 2, 22
_SHOWN_SIDE = 96  # in pixels; small tensors are enlarged to about this
_MOST_SIDE = 256  # in pixels; large tensors are reduced to this
_PREVIEW_EXAMPLES = 24  # of each class


def preview_images(
    manifest: Manifest, folder: str, opened: Callable[[Shard], BinaryIO]
) -> dict[str, list[npt.NDArray[np.uint8]]]:
    """The first examples of each class in the first split, as the shards hold them. `opened` opens a shard that is, or will
    be, in `folder`."""
    split = next(iter(manifest.splits))
    found: dict[str, list[npt.NDArray[np.uint8]]] = {name: [] for name in manifest.classes}
    wanted = dict(zip(manifest.classes, manifest.label_counts(split), strict=True))
    for example in read_examples(folder, manifest, split, opened):
        for index in positives(example.label):
            block = found[manifest.classes[index]]
            if len(block) < _PREVIEW_EXAMPLES:
                block.append(reduced(example.image))
        if all(len(found[name]) == min(count, _PREVIEW_EXAMPLES) for name, count in wanted.items()):
            break
    return {f"{name}  ({split}, {len(block)} of {wanted[name]:,})": block for name, block in found.items()}


def reduced(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The first channel of a uint8 [height, width, channels] image, shrunk to the size of a tile: uint8 [height, width,
    1]."""
    gray: npt.NDArray[np.uint8] = np.ascontiguousarray(image[:, :, :1])  # the other channels repeat the first
    if max(gray.shape) <= _MOST_SIDE:
        return gray
    scale = _MOST_SIDE / max(gray.shape)
    size = max(1, round(gray.shape[1] * scale)), max(1, round(gray.shape[0] * scale))
    small: npt.NDArray[np.uint8] = np.asarray(Image.fromarray(gray[:, :, 0]).resize(size, Image.Resampling.BOX))
    return small[:, :, np.newaxis]


def contact_sheet(images: Mapping[str, Sequence[npt.NDArray[np.uint8]]]) -> bytes:
    """A PNG with a titled block of tiles for each entry. Images are uint8 [height, width, channels], all of one
    shape."""
    tiles = {title: [_tile(image) for image in block] for title, block in images.items() if len(block)}
    if not tiles:
        tiles = {"no examples": []}
    side = max((max(tile.size) for block in tiles.values() for tile in block), default=_SHOWN_SIDE) + _GAP
    columns = min(_MOST_COLUMNS, max(1, *map(len, tiles.values())))
    rows = {title: -(-len(block) // columns) for title, block in tiles.items()}
    width = max(side * columns, _LEAST_WIDTH)  # room for the titles
    sheet = Image.new("L", (width, sum(rows.values()) * side + len(tiles) * _TITLE_HEIGHT), 32)
    draw, font, top = ImageDraw.Draw(sheet), ImageFont.load_default(14), 0
    for title, block in tiles.items():
        draw.text((6, top + 3), title, fill=255, font=font)
        top += _TITLE_HEIGHT
        for index, tile in enumerate(block):
            sheet.paste(tile, (index % columns * side, top + index // columns * side))
        top += rows[title] * side
    file = io.BytesIO()
    sheet.save(file, "PNG")
    return file.getvalue()


def _tile(image: npt.NDArray[np.uint8]) -> Image.Image:
    tile = Image.fromarray(reduced(image)[:, :, 0])
    factor = max(1, round(_SHOWN_SIDE / max(tile.size)))
    return tile.resize((tile.width * factor, tile.height * factor), Image.Resampling.BICUBIC) if factor > 1 else tile
