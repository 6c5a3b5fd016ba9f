"""Contact sheets: the records themselves, for a person to look at."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

_MOST_COLUMNS, _LEAST_WIDTH, _GAP, _TITLE_HEIGHT = 12, 400, 2, 22
_SHOWN_SIDE = 96  # small tensors are enlarged to this, larger ones shown as they are


def contact_sheet(images: Mapping[str, Sequence[npt.NDArray[np.uint8]]]) -> bytes:
    """A PNG with a titled block of tiles for each entry. Images are uint8 [height, width, channels], all of one shape."""
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
    tile = Image.fromarray(image[:, :, 0])  # radiographs are gray: further channels repeat the first
    factor = max(1, round(_SHOWN_SIDE / max(tile.size)))
    return tile.resize((tile.width * factor, tile.height * factor), Image.Resampling.BICUBIC) if factor > 1 else tile
