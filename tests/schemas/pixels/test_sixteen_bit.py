"""Samples of more than eight bits. The files are written byte by byte, because Pillow writes few of these layouts."""

import struct
import zlib
from functools import partial
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from schemas.pixels.decode import decode
from schemas.pixels.rejection import ImageRejected, Reason
from schemas.pixels.settings import ImageSettings
from tests.schemas.image_files import png_chunk

Order = Literal["<", ">"]
SETTINGS = ImageSettings()
COLUMNS, ROWS = np.meshgrid(np.arange(64), np.arange(64))
RAMP = (60 * COLUMNS + 5 * ROWS).astype(np.uint16)  # 0 to 4095: 12 bits stored in 16, as in radiographs
EXPECTED = RAMP / 4095 * 255
OPAQUE: NDArray[np.uint16] = np.full_like(RAMP, 65535)
HALF = np.where(COLUMNS < 32, 65535, 0).astype(np.uint16)


def far(data: bytes, expected: NDArray[Any]) -> float:
    return float(np.abs(decode(data, SETTINGS).pixels[:, :, 0] - expected).max())


def png(kind: int, *channels: NDArray[Any], extra: bytes = b"", bits: int = 16) -> bytes:
    """A PNG of 64x64 pixels of colour type `kind`."""
    rows = np.stack(channels, 2).astype(">u2") if bits == 16 else channels[0]
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    header = png_chunk(b"IHDR", struct.pack(">LLBBBBB", 64, 64, bits, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + png_chunk(b"IDAT", zlib.compress(raw)) + png_chunk(b"IEND", b"")


def tiff(*channels: NDArray[Any], order: Order, photometric: int, deflate: bool = False, **tags: int) -> bytes:
    """A TIFF of 64x64 pixels in one strip, with the directory at its end. `tags` sets numbered tags, such as `t338`."""
    kind = channels[0].dtype
    pixels = np.stack(channels, 2).astype(kind.newbyteorder(order)).tobytes()
    pixels = zlib.compress(pixels) if deflate else pixels
    bits = struct.pack(f"{order}{len(channels)}H", *[8 * kind.itemsize] * len(channels))
    place = bits.ljust(4, b"\0") if len(bits) <= 4 else struct.pack(f"{order}L", 8 + len(pixels))
    given = {int(name[1:]): value for name, value in tags.items()}
    numbers = {256: 64, 257: 64, 259: 8 if deflate else 1, 262: photometric, 273: 8, 277: len(channels), 278: 64}
    numbers |= {279: len(pixels)} | given
    entries = {tag: struct.pack(f"{order}HHLL", tag, 4, 1, value) for tag, value in numbers.items()}
    entries[258] = struct.pack(f"{order}HHL", 258, 3, len(channels)) + place
    if 338 in given:
        entries[338] = struct.pack(f"{order}HHLHH", 338, 3, 1, given[338], 0)
    start = 8 + len(pixels) + len(bits)
    magic = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}L", start)
    directory = struct.pack(f"{order}H", len(entries)) + b"".join(entries[tag] for tag in sorted(entries)) + bytes(4)
    return magic + pixels + bits + directory


@pytest.mark.parametrize(("kind", "channels"), [(4, [RAMP, OPAQUE]), (2, [RAMP] * 3), (6, [RAMP] * 3 + [OPAQUE])])
def test_a_16_bit_png_with_colours_or_alpha_is_scaled_by_its_range(kind: int, channels: list[NDArray[Any]]) -> None:
    assert far(png(kind, *channels), EXPECTED) <= 1


def test_16_bit_colours_become_luma() -> None:
    luma = 0.299 * RAMP + 0.587 * RAMP.T + 0.114 * 1000
    expected = (luma - luma.min()) / (luma.max() - luma.min()) * 255
    assert far(png(2, RAMP, RAMP.T, np.full_like(RAMP, 1000)), expected) <= 1


@pytest.mark.parametrize("alpha", [HALF, HALF // 2], ids=["opaque", "half"])
def test_16_bit_alpha_is_flattened_on_black(alpha: NDArray[Any]) -> None:
    shown = np.where(COLUMNS < 32, (RAMP + 1000 - 1000) / RAMP[:, :32].max() * 255, 0)
    assert far(png(4, RAMP + 1000, alpha), shown * (alpha.max() / 65535)) <= 1


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("deflate", [False, True])
def test_a_16_bit_tiff_of_any_layout_is_read(order: Order, deflate: bool) -> None:
    tiff_of = partial(tiff, order=order, deflate=deflate)
    assert far(tiff_of(RAMP, photometric=1), EXPECTED) <= 1
    assert far(tiff_of(RAMP, photometric=0), 255 - EXPECTED) <= 1  # white is zero
    assert far(tiff_of(RAMP, OPAQUE, photometric=1, t338=2), EXPECTED) <= 1
    assert far(tiff_of(RAMP, RAMP, RAMP, photometric=2), EXPECTED) <= 1
    assert far(tiff_of(RAMP, RAMP, RAMP, OPAQUE, photometric=2, t338=2), EXPECTED) <= 1
    premultiplied = (RAMP // 2, RAMP // 2, RAMP // 2, OPAQUE // 2)
    assert far(tiff_of(*premultiplied, photometric=2, t338=1), EXPECTED) <= 1


def test_32_bits_do_not_wrap_around() -> None:
    assert far(tiff(RAMP.astype(np.uint32) * 1_048_000, order="<", photometric=1), EXPECTED) <= 1


def test_unsupported_layouts_are_rejected() -> None:
    planes = tiff(RAMP, RAMP, RAMP, order="<", photometric=2, t284=2, t278=64)
    for data in (tiff(RAMP / 7.0, order="<", photometric=1, t339=3), planes):
        with pytest.raises(ImageRejected) as caught:
            decode(data, SETTINGS)
        assert caught.value.reason in (Reason.UNSUPPORTED, Reason.TRUNCATED)


def test_a_transparent_level_is_black_at_every_depth() -> None:
    def transparent(level: int) -> bytes:
        return png_chunk(b"tRNS", struct.pack(">H", level))

    fours = COLUMNS // 4
    packed = (fours[:, ::2] << 4 | fours[:, 1::2]).astype(np.uint8)
    assert far(png(0, packed, extra=transparent(15), bits=4), np.where(fours == 15, 0, fours * 17)) == 0
    assert far(png(0, RAMP, extra=transparent(4095)), np.where(RAMP == 4095, 0, EXPECTED)) <= 1
