"""What the readers of all formats return: one channel, and which of its values are black and white."""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from PIL import Image

from schemas.pixels.rejection import ImageRejected, Reason
from schemas.pixels.settings import Limits

SMALLEST_SIDE = 2


class Gray(NamedTuple):
    """One channel, not yet oriented. `image` has mode L, I;16, I or F. `low` becomes black and `high` becomes white;
    `low` may be the greater of the two. `orientation` is EXIF's (CIPA DC-008, tag 0x0112): 1 to 8, where 1 is
    upright."""

    image: Image.Image
    low: float = 0.0
    high: float = 255.0
    orientation: int = 1
    notes: tuple[str, ...] = ()


class Admit(Protocol):
    """Called with width and height before any pixel is decoded; raises ImageRejected for a size that is not admitted."""

    def __call__(self, width: int, height: int) -> None: ...


class Admission:
    """The Admit of one image. `pixels`: the greatest number of pixels that it has admitted. `size`: the width and height
    that it admitted first, which are those of the image; a reader may also ask about a tile."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.pixels = 0
        self.size = (0, 0)

    def __call__(self, width: int, height: int) -> None:
        size, limits = f"{width}x{height}", self._limits
        if width * height > limits.max_pixels:
            raise ImageRejected(Reason.TOO_MANY_PIXELS, f"{size} is above the limit of {limits.max_pixels} pixels")
        if min(width, height) < SMALLEST_SIDE:
            raise ImageRejected(Reason.TOO_SMALL, f"{size}; the shorter side needs {SMALLEST_SIDE}")
        if max(width, height) > limits.max_aspect * min(width, height):
            raise ImageRejected(Reason.BAD_ASPECT, f"{size} is longer than {limits.max_aspect:g}:1")
        self.size = self.size if self.pixels else (width, height)
        self.pixels = max(self.pixels, width * height)


def strips(width: int, height: int) -> Iterator[slice]:
    """The rows of an image in strips of about 131,000 pixels, so that no second copy of the image in a larger type is
    needed."""
    step = (1 << 17) // width + 1
    for top in range(0, height, step):
        yield slice(top, min(top + step, height))


def rows_of(image: Image.Image, rows: slice) -> Image.Image:
    """A copy of these rows. Does not use `crop`, which obeys Pillow's process-wide pixel limit."""
    size = image.width, rows.stop - rows.start
    return image.resize(size, Image.Resampling.NEAREST, (0, rows.start, image.width, rows.stop))
