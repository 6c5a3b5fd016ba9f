"""A procedural chest radiograph: what an X-ray beam would meet, summed along its path, and the display curve after it.

Everything is drawn in body coordinates: x from -1 (image left, the patient's right) to 1, y from -1 (neck) to 1
(abdomen). Attenuation is in units of a torso's full depth of soft tissue. Nothing here comes from a real image, and the
result must not be used to judge how a method performs on real images.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Map = npt.NDArray[np.floating[Any]]  # [height, width]

CAUSES = ("bacteria", "virus")


@dataclass(frozen=True)
class Anatomy:
    """What stays the same between two images of one person. Lengths are in body coordinates."""

    torso_width: float
    torso_shape: float
    lung_width: float
    lung_gap: float
    apex: float
    base: float
    heart_size: float
    heart_shift: float
    rib_spacing: float
    rib_offset: float
    rib_drop: float
    rib_strength: float
    spine_width: float
    spine_curve: float
    lung_density: float
    vessels: float
    breast: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Anatomy":
        """Draws a person from `rng`."""
        return cls(
            torso_width=rng.uniform(0.74, 0.88),
            torso_shape=rng.uniform(-0.10, 0.14),
            lung_width=rng.uniform(0.47, 0.58),
            lung_gap=rng.uniform(0.10, 0.15),
            apex=rng.uniform(-0.84, -0.72),
            base=rng.uniform(0.36, 0.56),
            heart_size=rng.uniform(0.88, 1.2),
            heart_shift=rng.uniform(-0.05, 0.05),
            rib_spacing=rng.uniform(0.14, 0.185),
            rib_offset=rng.uniform(0, 1),
            rib_drop=rng.uniform(0.5, 1.0),
            rib_strength=rng.uniform(0.05, 0.10),
            spine_width=rng.uniform(0.07, 0.095),
            spine_curve=rng.uniform(-0.04, 0.04),
            lung_density=rng.uniform(0.0, 0.12),
            vessels=rng.uniform(0.03, 0.09),
            breast=rng.uniform(0.03, 0.10) if rng.random() < 0.3 else 0.0,
        )


def draw_chest(anatomy: Anatomy, cause: str | None, shape: tuple[int, int], rng: np.random.Generator) -> Map:
    """One radiograph of a person: float32 [height, width] from 0 (black, air) to 1 (white, bone).

    `cause` is None for normal lungs, or one of CAUSES: "bacteria" gives one to four dense opacities, "virus" several
    fainter ones. Pose, breath and exposure come from `rng` and do not depend on `cause`.
    """
    x, y = _pose(shape, rng)
    x = x - anatomy.spine_curve * np.sin(2.5 * y)
    side = np.abs(x)
    lungs, edge = _lungs(anatomy, x, y, rng.uniform(-0.05, 0.05))
    heart = _heart(anatomy, x, y)
    air = lungs * (1 - 0.9 * heart) * (1 - anatomy.lung_density)
    air *= 1 - anatomy.vessels * _vessels(side, y, rng) - anatomy.breast * _breasts(side, y)
    if cause is not None:
        air *= 1 - _opacities(cause, x, y, lungs, rng)

    attenuation = _soft_tissue(anatomy, side, y, rng)
    attenuation += _mediastinum(anatomy, x, y) + 0.07 * heart - 0.62 * air
    attenuation += _bones(anatomy, side, y, edge, rng)
    attenuation -= _stomach_bubble(x, y, rng)
    return _display(attenuation, rng)


def _pose(shape: tuple[int, int], rng: np.random.Generator) -> tuple[Map, Map]:
    """Body coordinates of every pixel, after a small turn, shift and zoom."""
    height, width = shape
    column = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    row = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    angle = rng.normal(0, 0.045)
    zoom_x, zoom_y = rng.uniform(0.82, 1.0), rng.uniform(0.86, 1.0)
    x = zoom_x * (math.cos(angle) * column - math.sin(angle) * row) + rng.normal(0, 0.03)
    y = zoom_y * (math.sin(angle) * column + math.cos(angle) * row) + rng.normal(0, 0.03)
    return x, y


def _step(distance: Map, softness: float) -> Map:
    """0 where `distance` is well below zero, 1 where it is well above, and a transition of width `softness` between."""
    step: Map = np.clip(distance / softness + 0.5, 0, 1)
    return step


def _bump(x: Map, y: Map, centre: tuple[float, float], radii: tuple[float, float]) -> Map:
    """A Gaussian hill of height 1."""
    return np.exp(-(((x - centre[0]) / radii[0]) ** 2) - ((y - centre[1]) / radii[1]) ** 2)


def _noise(shape: tuple[int, ...], cells: int, rng: np.random.Generator) -> Map:
    """Smooth noise with a standard deviation of about 1 and `cells` bumps across the map."""
    coarse = Image.fromarray(rng.standard_normal((cells, cells), dtype=np.float32))
    return np.asarray(coarse.resize((shape[1], shape[0]), Image.Resampling.BICUBIC))


def _lungs(anatomy: Anatomy, x: Map, y: Map, breath: float) -> tuple[Map, Map]:
    """Depth of lung (0 to 1), and how far out towards the chest wall (0 at the lung's middle line, 1 at its wall)."""
    side = np.abs(x)
    height = np.clip((0.55 - y) / (0.55 - anatomy.apex), 0, 1)
    inner = anatomy.lung_gap - 0.05 * height + 0.05 * (1 - height) ** 2
    outer = inner + anatomy.lung_width * np.sqrt(1 - height**2.6) * (1 - 0.10 * np.clip(y - 0.3, 0, 1))
    across = (2 * side - inner - outer) / np.maximum(outer - inner, 1e-3)
    depth = np.sqrt(np.clip(1 - across**2, 0, 1)) ** 0.55 * _step(y - anatomy.apex, 0.04)
    # The right half of the diaphragm (image left) stands higher, above the liver.
    dome = anatomy.base + breath - 0.05 * (x < 0) + 0.9 * (side - 0.36) ** 2 + 0.6 * np.clip(side - 0.5, 0, 1) ** 1.5
    return depth * _step(dome - y, 0.035), across


def _heart(anatomy: Anatomy, x: Map, y: Map) -> Map:
    """Depth of the heart, 0 to 1: an egg that points down to the patient's left (image right)."""
    size = anatomy.heart_size
    along, across = x - 0.10 - anatomy.heart_shift, y - anatomy.base + 0.17
    u, v = 0.86 * along + 0.5 * across, -0.5 * along + 0.86 * across
    return np.sqrt(np.clip(1.05 - (u / (0.37 * size)) ** 2 - (v / (0.28 * size)) ** 2, 0, 1))


def _vessels(side: Map, y: Map, rng: np.random.Generator) -> Map:
    """Ridges of noise, dense at the hila and fading outwards."""
    fine = 1 - np.abs(_noise(side.shape, 34, rng)) + 0.5 * (1 - np.abs(_noise(side.shape, 60, rng)))
    ridges: Map = np.clip(fine, 0, 1.5)
    return (0.4 + 1.6 * _bump(side, y, (0.2, 0.0), (0.24, 0.34))) * ridges


def _breasts(side: Map, y: Map) -> Map:
    return _bump(side, y, (0.45, 0.32), (0.28, 0.2))


def _opacities(cause: str, x: Map, y: Map, lungs: Map, rng: np.random.Generator) -> Map:
    """The fraction of air that fluid has replaced: 0 to 0.95. Centres fall inside the lungs as drawn."""
    if cause == "bacteria":
        count, radius, strength = int(rng.integers(1, 5)), (0.20, 0.38), (0.55, 0.95)
    else:
        count, radius, strength = int(rng.integers(5, 11)), (0.12, 0.21), (0.5, 0.85)
    ragged = 0.22 * _noise(x.shape, 9, rng) + 0.16 * _noise(x.shape, 24, rng)
    inside = np.flatnonzero(lungs > 0.6)
    open_air = np.ones_like(x)
    for _ in range(count):
        at = np.unravel_index(rng.choice(inside), x.shape)
        rx, ry = rng.uniform(*radius, size=2)
        hill = _bump(x, y, (float(x[at]), float(y[at])), (float(rx), float(ry) * 1.1))
        open_air *= 1 - rng.uniform(*strength) * _step(hill + ragged * np.sqrt(hill) - 0.42, 0.75)
    return np.minimum(1 - open_air, 0.95)


def _soft_tissue(anatomy: Anatomy, side: Map, y: Map, rng: np.random.Generator) -> Map:
    """The body's outline: torso, shoulders that slope up to the neck, and (in some images) raised or lowered arms."""
    torso = anatomy.torso_width + anatomy.torso_shape * (y - 0.2) - 0.12 * np.clip(-y - 0.3, 0, 1)
    neck, reach = rng.uniform(0.24, 0.34), rng.uniform(1.0, 1.5)
    top, slope = rng.uniform(-1.05, -0.85), rng.uniform(0.25, 0.5)
    shoulder = neck + (reach - neck) * _step(y - top - slope / 2, slope) ** 0.6
    armpit = rng.uniform(-0.35, 0.1)
    outline = np.minimum(shoulder, torso + (reach - torso) * _step(armpit - y, 0.5) ** 2)
    depth = np.sqrt(np.clip(1 - (side / outline) ** 2, 0, 1)) ** 0.7
    fat = 1 + 0.05 * _noise(side.shape, 5, rng)
    tissue: Map = (0.30 * _step(depth, 0.2) + 0.55 * depth + 0.12 * _step(y - 0.45, 0.5)) * fat
    return tissue


def _mediastinum(anatomy: Anatomy, x: Map, y: Map) -> Map:
    """Spine with its discs, great vessels, and the dark column of the windpipe."""
    spine = _step(anatomy.spine_width - np.abs(x), 0.05)
    discs = 0.85 + 0.15 * np.cos(2 * np.pi * y / (0.8 * anatomy.rib_spacing))
    aorta = _bump(x, y, (0.11, -0.28), (0.10, 0.11))
    windpipe = _step(0.035 - np.abs(x + 0.01), 0.03) * _step(-0.25 - y, 0.2)
    centre: Map = 0.13 * spine * discs + 0.12 * _bump(x, y, (0, 0.1), (0.20, 2.0)) + 0.10 * aorta - 0.10 * windpipe
    return centre


def _bones(anatomy: Anatomy, side: Map, y: Map, edge: Map, rng: np.random.Generator) -> Map:
    """Ribs behind (steep outside) and in front (fainter, rising outwards), collar bones and upper arms."""
    cage = _step(1.12 - edge, 0.12) * _step(y - anatomy.apex - 0.01, 0.08) * _step(0.6 - y, 0.4)
    # Seen along its edge at the chest wall, a rib is brighter.
    tangent = 0.75 + 0.9 * np.clip(edge, 0, 1.1) ** 4
    behind = y - anatomy.rib_drop * side**2 + 0.06 * np.sin(4.5 * side)
    front = y + 0.9 * (side - 0.5) - 0.5 * (side - 0.5) ** 2
    ribs = _bands(behind / anatomy.rib_spacing + anatomy.rib_offset, 0.23)
    ribs += 0.4 * _bands(front / (1.2 * anatomy.rib_spacing) + 0.37, 0.26) * _step(side - 0.28, 0.2)
    tilt, level = rng.uniform(-0.35, 0.1), anatomy.apex + rng.uniform(0.02, 0.16)
    collar = 0.035 - np.abs(y - level - tilt * (side - 0.3) - 0.05 * np.sin(7 * side))
    bones = anatomy.rib_strength * ribs * cage * tangent
    bones += 0.16 * _step(collar, 0.03) * _step(side - 0.06, 0.06) * _step(0.72 - side, 0.1)
    bones += 0.22 * _bump(side, y, (1.0, -0.55), (0.13, 0.16))
    return bones


def _bands(phase: Map, width: float) -> Map:
    """Bars of half width `width` around every whole number of `phase`, with brighter rims like those of bone."""
    distance = np.abs(phase - np.round(phase))
    return _step(width - distance, 0.10) * (0.7 + 0.5 * (distance / width) ** 2)


def _stomach_bubble(x: Map, y: Map, rng: np.random.Generator) -> Map:
    if rng.random() < 0.5:
        return np.zeros_like(x)
    centre = rng.uniform(0.25, 0.5), rng.uniform(0.68, 0.9)
    return 0.25 * _step(_bump(x, y, centre, (0.16, 0.12)) - 0.4, 0.4)


def _display(attenuation: Map, rng: np.random.Generator) -> Map:
    """Exposure, contrast and tone of the viewing station, with scattered light."""
    # Like such a station, it sets level and window from the image itself, so that neither reveals how much air is left.
    tone = (attenuation - attenuation.mean()) / attenuation.std()
    image = 1 / (1 + np.exp(-rng.uniform(0.9, 1.5) * (tone + rng.uniform(-0.25, 0.7))))
    # Air outside the body is black at any exposure, except for the scatter.
    scatter = rng.uniform(0.1, 0.6)
    image *= scatter + (1 - scatter) * _step(attenuation - 0.12, 0.2)
    clipped: Map = np.clip((image - 0.06) / 0.9, 0, 1)
    return clipped
