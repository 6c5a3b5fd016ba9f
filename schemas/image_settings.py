"""How a raw image becomes a tensor: settings alone, which data sets and models store. No decoder is loaded for them."""

from dataclasses import dataclass

from schemas.errors import UsageError

RESIZE_MODES = ("stretch", "letterbox", "crop")


@dataclass(frozen=True)
class ImageSettings:
    """How a raw image becomes a tensor. Stored in the manifest and in a model's run folder.

    image_size: height and width of the result, in pixels.
    channels: 1, or 3 for the gray channel three times.
    resize_mode: "stretch" to the square, "letterbox" (black borders) or "crop" (the centre square).
    crop: fraction of each side that is kept, from the centre, before the resize.
    brightness: added to every pixel, as a fraction of the full range: -1 to 1.
    contrast: factor applied around mid-gray (127.5), before brightness is added.
    max_pixels: larger images are rejected from their header.
    allow_burned_in: take DICOM images whose BurnedInAnnotation is YES (text, often a name, in the pixels).
    max_aspect: images are rejected whose longer side is more than so many times the shorter.
    """

    image_size: int = 64
    channels: int = 1
    resize_mode: str = "stretch"
    crop: float = 1.0
    brightness: float = 0.0
    contrast: float = 1.0
    max_pixels: int = 100_000_000
    allow_burned_in: bool = False
    max_aspect: float = 20.0

    def __post_init__(self) -> None:
        def check(flag: str, allowed: bool, rule: str) -> None:
            if not allowed:
                raise UsageError(f"--{flag} {getattr(self, flag)!r}: must be {rule}")

        check("image_size", isinstance(self.image_size, int) and 8 <= self.image_size <= 4096, "8 to 4096 pixels")
        check("channels", self.channels in (1, 3), "1 or 3")
        check("resize_mode", self.resize_mode in RESIZE_MODES, f"one of {', '.join(RESIZE_MODES)}")
        check("crop", 0.1 <= self.crop <= 1, "a fraction from 0.1 to 1")
        check("brightness", -1 <= self.brightness <= 1, "from -1 to 1")
        check("contrast", 0 < self.contrast <= 10, "above 0, up to 10")
        check("max_pixels", isinstance(self.max_pixels, int) and self.max_pixels >= 1, "a whole number from 1")
        check("max_aspect", self.max_aspect >= 1, "1 or more")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the result."""
        return self.image_size, self.image_size, self.channels

    @property
    def letterboxed(self) -> bool:
        """Whether there may be black bars beside the image."""
        return self.resize_mode == "letterbox"
