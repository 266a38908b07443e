"""What things are made of: reflectances in visible and infrared light, and the patterns of cloth.

A material's near-infrared reflectance is drawn from its own random stream, never from its colour:
dyes that look alike reflect infrared differently, which is why colour cannot be predicted across
modalities while the geometry of a pattern can.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from icre.modality import VISIBLE

GARMENT_COLOURS = (  # sRGB 0..255, what people wear rather than the whole colour cube
    (22, 22, 26), (55, 57, 62), (110, 112, 116), (170, 172, 174), (232, 231, 226),
    (28, 36, 74), (44, 74, 130), (96, 136, 190), (150, 190, 222), (20, 92, 100),
    (140, 24, 34), (206, 44, 46), (222, 106, 52), (232, 190, 66), (120, 30, 80),
    (214, 122, 150), (104, 66, 148), (30, 84, 52), (88, 130, 66), (108, 104, 62),
    (88, 58, 40), (140, 100, 66), (198, 172, 134), (226, 214, 188),
)
SKIN_COLOURS = ((238, 204, 180), (222, 178, 146), (196, 144, 108), (150, 102, 72), (98, 64, 46))
HAIR_COLOURS = ((20, 17, 16), (42, 29, 23), (78, 50, 32), (128, 88, 52), (190, 154, 98),
                (124, 52, 30), (150, 148, 146))


@dataclass(frozen=True)
class Material:
    """One uniform stuff: linear `rgb` reflectance (three numbers) and `nir` reflectance, 0..1."""

    rgb: tuple[float, float, float]
    nir: float

    def values(self, modality: int) -> np.ndarray:
        """Reflectance as a (C, 1, 1) float32 array: C = 3 for visible, 1 for infrared."""
        numbers = self.rgb if modality == VISIBLE else (self.nir,)
        return np.array(numbers, np.float32).reshape(-1, 1, 1)


@dataclass(frozen=True)
class Cloth:
    """A `pattern` (a key of PATTERNS) of two materials; `period` in body heights, `phase` 0..1."""

    base: Material
    second: Material
    pattern: str = "plain"
    period: float = 0.1
    phase: float = 0.0

    def colour(self, modality: int, y: np.ndarray, s: np.ndarray, px: float) -> np.ndarray:
        """Reflectance (C, h, w) at height `y` and arc length `s` (h, w, in body heights).

        `px` is pixels per body height, the sharpness of the pattern's edges. Plain cloth comes
        as (C, 1, 1), which broadcasts.
        """
        base = self.base.values(modality)
        if self.pattern == "plain":
            return base
        share = PATTERNS[self.pattern](y / self.period + self.phase, s / self.period,
                                       px * self.period)
        return base + share * (self.second.values(modality) - base)


def _bands(x: np.ndarray, sharpness: float, width: float = 0.5) -> np.ndarray:
    """1 on a `width` share of each unit of x, else 0, with edges one pixel wide."""
    distance = np.abs(x - np.floor(x) - 0.5)
    return np.clip((0.5 * width - distance) * sharpness + 0.5, 0, 1)


def _dots(y: np.ndarray, s: np.ndarray, sharpness: float) -> np.ndarray:
    row = np.floor(y)
    across = s + 0.5 * (row % 2)
    radius = np.hypot(y - row - 0.5, across - np.floor(across) - 0.5)
    return np.clip((0.32 - radius) * sharpness + 0.5, 0, 1)


PATTERNS: dict[str, Callable[[np.ndarray, np.ndarray, float], np.ndarray]] = {
    "plain": lambda y, s, k: np.zeros_like(y),
    "hoops": lambda y, s, k: _bands(y, k),
    "thin hoops": lambda y, s, k: _bands(y, k, 0.28),
    "stripes": lambda y, s, k: _bands(s, k),
    "checks": lambda y, s, k: 0.5 * (_bands(y, k) + _bands(s, k)),
    "tiles": lambda y, s, k: np.abs(_bands(0.5 * y, 2 * k) - _bands(0.5 * s, 2 * k)),
    "diagonal": lambda y, s, k: _bands(y + s, 0.7 * k),
    "dots": _dots,
}


def linear(srgb: np.ndarray) -> tuple[float, float, float]:
    """sRGB 0..255 -> linear reflectance 0..1 (gamma 2.2, as the cameras here encode)."""
    return tuple(float(c) for c in (np.clip(srgb, 2, 253) / 255.0) ** 2.2)


def draw_material(rng: np.random.Generator, colours: tuple, jitter: float = 12.0,
                  nir: tuple[float, float] = (0.04, 0.85)) -> Material:
    """One material: a jittered colour of the table, and an infrared reflectance of its own."""
    srgb = np.array(colours[rng.integers(len(colours))]) + rng.normal(0, jitter, 3)
    return Material(linear(srgb), float(rng.uniform(*nir)))


def draw_contrast(rng: np.random.Generator, base: Material) -> Material:
    """A garment material that mostly (19 in 20) stands out from `base` in each modality."""
    candidate = draw_material(rng, GARMENT_COLOURS)
    rgb, nir = candidate.rgb, candidate.nir
    if rng.random() < 0.95:
        while abs(_lightness(rgb) - _lightness(base.rgb)) < 0.3:
            rgb = draw_material(rng, GARMENT_COLOURS).rgb
    if rng.random() < 0.95:
        while abs(nir ** 0.45 - base.nir ** 0.45) < 0.3:
            nir = float(rng.uniform(0.03, 0.9))
    return Material(rgb, nir)


def _lightness(rgb: tuple[float, float, float]) -> float:
    return float(np.dot(rgb, (0.3, 0.5, 0.2))) ** 0.45


def draw_cloth(rng: np.random.Generator, patterns: dict[str, float],
               periods: tuple[float, float] = (0.06, 0.12)) -> Cloth:
    """A cloth whose pattern is drawn by the weights of `patterns`."""
    names, weights = list(patterns), np.array(list(patterns.values()))
    base = draw_material(rng, GARMENT_COLOURS)
    pattern = names[rng.choice(len(names), p=weights / weights.sum())]
    return Cloth(base, draw_contrast(rng, base), pattern, float(rng.uniform(*periods)),
                 float(rng.random()))
