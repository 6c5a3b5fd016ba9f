"""What is drawn lies where the model saw it, at the image's own resolution."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from schemas.decoders.pool import DecoderPool
from schemas.pixels import measure
from schemas.pixels.rejection import ImageRejected, Reason
from schemas.pixels.settings import ImageSettings
from training.explanation.pictures import Looked, content, look, on_picture, write_overlay, write_sheet

WIDTH, HEIGHT = 300, 180


@pytest.fixture(scope="module")
def pool() -> Iterator[DecoderPool]:
    with DecoderPool(1) as made:
        yield made


def encoded(pixels: npt.NDArray[np.generic], format: str = "png", **options: object) -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, format, **options)
    return data.getvalue()


def spot(x: int, y: int) -> npt.NDArray[np.uint8]:
    """Black with a white square of 20 pixels around (x, y)."""
    pixels = np.zeros((HEIGHT, WIDTH), np.uint8)
    pixels[y - 10 : y + 10, x - 10 : x + 10] = 255
    return pixels


def looked_at(data: bytes, settings: ImageSettings, pool: DecoderPool) -> Looked:
    looked = look(data, settings, pool)
    assert isinstance(looked, Looked), looked
    return looked


def centre(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """x and y of the centre of mass, in pixels from the corner."""
    values = np.nan_to_num(values)
    total = values.sum()
    x = (values.sum(0) @ (np.arange(values.shape[1]) + 0.5)) / total
    return float(x), float((values.sum(1) @ (np.arange(values.shape[0]) + 0.5)) / total)


@pytest.mark.parametrize("mode", ["stretch", "letterbox", "crop"])
@pytest.mark.parametrize("crop", [1.0, 0.7])
def test_the_input_is_drawn_where_it_came_from(mode: str, crop: float, pool: DecoderPool) -> None:
    settings = ImageSettings(image_size=64, resize_mode=mode, crop=crop)
    looked = looked_at(encoded(spot(170, 60)), settings, pool)
    np.testing.assert_array_equal(looked.picture, spot(170, 60))
    drawn = on_picture(looked.input[:, :, 0].astype(float), looked)
    assert centre(drawn) == pytest.approx((170, 60), abs=0.7)


def test_what_the_model_does_not_see_has_no_value(pool: DecoderPool) -> None:
    settings = ImageSettings(image_size=64, resize_mode="crop", crop=0.5)
    looked = looked_at(encoded(spot(170, 60)), settings, pool)
    seen = ~np.isnan(on_picture(np.ones((64, 64)), looked))
    assert [(int(where.min()), int(where.max())) for where in np.nonzero(seen)] == [(45, 134), (105, 194)]
    boxed = looked_at(encoded(spot(170, 60)), ImageSettings(image_size=64, resize_mode="letterbox"), pool)
    bars = np.full((64, 64), 7.0)
    assert content(bars, boxed).shape == (38, 64)
    content(bars, boxed)[:] = 1.0
    np.testing.assert_allclose(on_picture(bars, boxed), 1.0)  # nothing of the bars


def test_an_image_of_another_orientation_and_depth(pool: DecoderPool) -> None:
    settings = ImageSettings(image_size=32)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = looked_at(encoded(spot(170, 60), "jpeg", exif=exif, quality=95), settings, pool)
    assert turned.picture.shape == (WIDTH, HEIGHT)
    assert centre(turned.picture.astype(float)) == pytest.approx((HEIGHT - 60, 170), abs=0.7)
    assert centre(on_picture(turned.input[:, :, 0].astype(float), turned)) == pytest.approx((120, 170), abs=0.7)
    deep = looked_at(encoded(spot(170, 60).astype(np.uint16) * 8), settings, pool)
    np.testing.assert_array_equal(deep.picture, spot(170, 60))


def test_a_very_long_image_is_reduced(pool: DecoderPool, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = looked_at(encoded(np.zeros((600, 6000), np.uint8)), ImageSettings(image_size=32), pool)
    assert looked.picture.shape == (410, 4096)


def test_an_image_that_is_none(pool: DecoderPool) -> None:
    answer = look(b"text", ImageSettings(), pool)
    assert isinstance(answer, ImageRejected)
    assert answer.reason is Reason.NOT_AN_IMAGE


def test_a_size_that_cannot_be_one() -> None:
    with pytest.raises(ValueError, match="0x0"):
        measure.size_in(np.zeros((8, 8, 1), np.uint8))
    with pytest.raises(ValueError, match="x"):
        measure.size_in(np.full((8, 8, 1), 255, np.uint8))


def test_colours(tmp_path: Path, pool: DecoderPool) -> None:
    looked = looked_at(encoded(np.full((40, 40), 100, np.uint8)), ImageSettings(image_size=8), pool)
    values = np.zeros((8, 8))
    values[:, :2], values[:, 6:] = 2.0, -1.0
    write_overlay(tmp_path / "x.png", values, looked)
    drawn = np.asarray(Image.open(tmp_path / "x.png")).astype(int)
    assert drawn.shape == (40, 40, 3)
    np.testing.assert_array_equal(drawn[20, 20], [100] * 3)
    np.testing.assert_allclose(drawn[20, 1], 0.4 * 100 + 0.6 * np.array([214, 39, 40]), atol=1)  # the greatest
    np.testing.assert_allclose(drawn[20, 38], 0.7 * 100 + 0.3 * np.array([31, 119, 180]), atol=1)  # half as much
    write_overlay(tmp_path / "y.png", np.zeros((8, 8)), looked)
    assert set(np.asarray(Image.open(tmp_path / "y.png")).ravel().tolist()) == {100}


def test_a_sheet_of_channels(tmp_path: Path) -> None:
    channels = np.zeros((24, 24, 3), np.float32)
    channels[:12, :, 0], channels[:, :, 1], channels[:, 12:, 2] = 1.0, 5.0, -3.0
    write_sheet(tmp_path / "x.png", channels, "layer")
    sheet = np.asarray(Image.open(tmp_path / "x.png"))
    first, second, third = sheet[16:64, :48], sheet[16:64, 50:98], sheet[66:114, :48]
    np.testing.assert_array_equal(first, np.repeat([255, 0], 24)[:, np.newaxis].repeat(48, 1))
    assert not second.any()  # the same everywhere
    np.testing.assert_array_equal(third[0], np.repeat([255, 0], 24))
