"""Places: the background that a camera looks at, the same geometry for every camera of a place."""

from dataclasses import dataclass

import numpy as np

from icre.modality import VISIBLE

from . import materials
from .materials import Cloth, Material

WIDER, TALLER = 5.0, 1.15  # size of the painted panorama in box widths and box heights


@dataclass(frozen=True)
class Panel:
    """A rectangle (left, top, right, bottom in fractions of the panorama) and its cloth."""

    box: tuple[float, float, float, float]
    cloth: Cloth


@dataclass(frozen=True)
class Place:
    """A `wall`, a `floor` below the `horizon` (fraction), and `panels` painted over, in order."""

    wall: Cloth
    floor: Cloth
    horizon: float
    panels: tuple[Panel, ...]


def sample_place(seed: int, number: int) -> Place:
    """The place `number` of the world `seed`."""
    rng = np.random.default_rng([seed, 23, number])
    horizon = float(rng.uniform(0.5, 0.72))
    panels = [_upright(rng, horizon) for _ in range(rng.integers(7, 12))]
    panels += [_low(rng, horizon) for _ in range(rng.integers(3, 7))]
    skirting = Panel((0.0, horizon - 0.025, 1.0, horizon), _stuff(rng, "plain"))
    return Place(_stuff(rng, rng.choice(["plain", "tiles", "stripes"]), soft=True),
                 _stuff(rng, rng.choice(["tiles", "hoops", "plain"]), soft=True), horizon,
                 (skirting, *panels))


def _stuff(rng: np.random.Generator, pattern: str, soft: bool = False) -> Cloth:
    """Building materials: mostly greyish; `soft` patterns differ little, as tiles and joints do."""
    base = materials.draw_material(rng, materials.GARMENT_COLOURS)
    grey = float(np.mean(base.rgb)) * 0.7 + 0.12
    base = Material(tuple(0.3 * c + 0.7 * grey for c in base.rgb), float(rng.uniform(0.15, 0.6)))
    share = float(rng.uniform(0.75, 0.92)) if soft else float(rng.uniform(0.4, 1.3))
    second = Material(tuple(share * c for c in base.rgb), share * base.nir)
    return Cloth(base, second, str(pattern), float(rng.uniform(0.12, 0.35)), float(rng.random()))


def _upright(rng: np.random.Generator, horizon: float) -> Panel:
    """A door, window, pillar or poster: stands on the skirting or hangs on the wall."""
    left, width = rng.uniform(0, 1), rng.uniform(0.02, 0.14)
    bottom = horizon if rng.random() < 0.6 else rng.uniform(0.3, horizon)
    top = bottom - rng.uniform(0.15, 0.6)
    kind = rng.choice(["plain", "plain", "hoops", "tiles", "stripes"])
    return Panel((left, max(top, 0.0), left + width, bottom), _stuff(rng, kind))


def _low(rng: np.random.Generator, horizon: float) -> Panel:
    """A bench, bin, plant tub or parked thing on the floor."""
    left, width = rng.uniform(0, 1), rng.uniform(0.03, 0.1)
    bottom = rng.uniform(horizon + 0.02, horizon + 0.2)
    top = bottom - rng.uniform(0.08, 0.25)
    return Panel((left, top, left + width, bottom), _stuff(rng, "plain"))


def paint(place: Place, modality: int, height: int, width: int) -> np.ndarray:
    """Reflectance panorama (C, TALLER*height, WIDER*width) float32 for images of one size."""
    rows, cols = int(TALLER * height), int(WIDER * width)
    y = ((np.arange(rows, dtype=np.float32) + 0.5) / height)[:, None]
    x = ((np.arange(cols, dtype=np.float32) + 0.5) / height)[None, :]
    ground = place.horizon * TALLER
    near = np.maximum(y - ground, 0) + 0.08
    distance, across = 0.35 / near, (x - x.mean()) * 0.4 / near
    lit = (1.12 - 0.3 * y) * (1 + 0.12 * np.sin(2 * np.pi * x / x.max() * 3))
    wall = place.wall.colour(modality, y + 0 * x, x + 0 * y, height) * lit
    floor = place.floor.colour(modality, 0.3 * distance + 0 * x, 0.6 * across, 0.3 * height * near)
    channels = 3 if modality == VISIBLE else 1
    image = np.broadcast_to(wall, (channels, rows, cols)).copy()
    below = np.clip((y - ground) * height + 0.5, 0, 1)
    image += below * (floor * (0.75 + 0.5 * (y - ground)) - image)
    for panel in place.panels:
        _panel(image, panel, modality, x, y, height)
    return image


def _panel(image: np.ndarray, panel: Panel, modality: int, x: np.ndarray, y: np.ndarray,
           px: int) -> None:
    left, top, right, bottom = (np.float32(v) for v in panel.box)
    left, right = left * x.max(), right * x.max()
    top, bottom = top * y.max(), bottom * y.max()
    inside = (np.clip((x - left) * px + 0.5, 0, 1) * np.clip((right - x) * px + 0.5, 0, 1)
              * np.clip((y - top) * px + 0.5, 0, 1) * np.clip((bottom - y) * px + 0.5, 0, 1))
    foot = np.clip(1.4 - 12 * np.abs(y - bottom - 0.02), 0, 1) * np.clip((x - left) * px, 0, 1)
    image *= 1 - 0.25 * foot * np.clip((right - x) * px, 0, 1) * (y > bottom)
    colour = panel.cloth.colour(modality, y + 0 * x, x + 0 * y, px)
    image += inside * (colour * (1.1 - 0.25 * (y - top)) - image)
