"""The settings that turn a raw image into a tensor, as data sets and models store them. Loads no decoder."""

from dataclasses import dataclass, fields

from schemas.errors import UsageError

RESIZE_MODES = ("stretch", "letterbox", "crop")


@dataclass(frozen=True)
class PixelSettings:
    """The settings that change the tensor. A model works only with images that were made with the same settings.

    image_size: height and width of the result, in pixels.
    channels: 1, or 3 to repeat the gray channel three times.
    resize_mode: "stretch" to the square, "letterbox" (black borders) or "crop" (the centre square).
    crop: fraction of each side that is kept, from the centre, before the resize.
    brightness: added to every pixel, as a fraction of the full range: -1 to 1.
    contrast: factor applied around mid-gray (127.5), before brightness is added.
    """

    image_size: int = 64
    channels: int = 1
    resize_mode: str = "stretch"
    crop: float = 1.0
    brightness: float = 0.0
    contrast: float = 1.0

    def __post_init__(self) -> None:
        size = self.image_size
        _check("image_size", size, isinstance(size, int) and 8 <= size <= 4096, "8 to 4096 pixels")
        _check("channels", self.channels, self.channels in (1, 3), "1 or 3")
        _check("resize_mode", self.resize_mode, self.resize_mode in RESIZE_MODES, f"one of {', '.join(RESIZE_MODES)}")
        _check("crop", self.crop, 0.1 <= self.crop <= 1, "a fraction from 0.1 to 1")
        _check("brightness", self.brightness, -1 <= self.brightness <= 1, "from -1 to 1")
        _check("contrast", self.contrast, 0 < self.contrast <= 10, "above 0, up to 10")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the result."""
        return self.image_size, self.image_size, self.channels

    @property
    def letterboxed(self) -> bool:
        """Whether the result may have black bars beside the image."""
        return self.resize_mode == "letterbox"


@dataclass(frozen=True)
class Limits:
    """Which images are admitted. The limits do not change the tensor of an admitted image.

    max_pixels: larger images are rejected as soon as their header is read.
    allow_burned_in: accept DICOM images whose BurnedInAnnotation is YES (text, often a name, in the pixels).
    max_aspect: images are rejected if the longer side is more than this many times the shorter.
    """

    max_pixels: int = 100_000_000
    allow_burned_in: bool = False
    max_aspect: float = 20.0

    def __post_init__(self) -> None:
        pixels = self.max_pixels
        _check("max_pixels", pixels, isinstance(pixels, int) and pixels >= 1, "a whole number from 1")
        _check("max_aspect", self.max_aspect, self.max_aspect >= 1, "1 or more")


@dataclass(frozen=True)
class ImageSettings(Limits, PixelSettings):
    """All settings, with the fields of PixelSettings first, as the manifest and a model's run folder store them."""

    def __post_init__(self) -> None:
        PixelSettings.__post_init__(self)
        Limits.__post_init__(self)

    @property
    def pixels(self) -> PixelSettings:
        """These settings without the limits."""
        return PixelSettings(**{field.name: getattr(self, field.name) for field in fields(PixelSettings)})


def _check(flag: str, value: object, allowed: bool, rule: str) -> None:
    if not allowed:
        raise UsageError(f"--{flag} {value!r}: must be {rule}")
