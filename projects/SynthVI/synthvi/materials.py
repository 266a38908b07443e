"""What things are made of: reflectances in visible and infrared light, and the patterns of cloth.

A material's near-infrared reflectance is drawn from its own random stream, never from its colour:
dyes that look alike reflect infrared differently, which is why colour cannot be predicted across
modalities while the geometry of a pattern can.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from . import exact

from icre.modality import VISIBLE

Colours = tuple[tuple[int, int, int], ...]

# sRGB 0..255. What people wear: dark and grey far more often than bright, hence the repetitions.
NEUTRALS: Colours = (
    (22, 22, 26),
    (30, 31, 36),
    (44, 46, 52),
    (84, 86, 90),
    (132, 134, 138),
    (186, 187, 188),
    (236, 235, 230),
    (28, 34, 58),
    (34, 44, 80),
    (222, 212, 192),
)
BRIGHTS: Colours = (
    (44, 74, 130),
    (96, 136, 190),
    (150, 190, 222),
    (20, 92, 100),
    (132, 28, 38),
    (190, 48, 46),
    (206, 108, 58),
    (222, 182, 74),
    (110, 36, 76),
    (206, 132, 152),
    (98, 70, 138),
    (34, 82, 54),
    (96, 128, 74),
    (108, 104, 66),
    (94, 64, 46),
    (144, 106, 72),
    (194, 166, 128),
)
TOP_COLOURS = 2 * NEUTRALS + BRIGHTS
BOTTOM_COLOURS: Colours = 2 * (
    (24, 24, 28),
    (34, 36, 42),
    (66, 68, 74),
    (38, 50, 84),
    (52, 72, 112),
    (84, 108, 150),
    (176, 154, 122),
) + (
    (132, 134, 136),
    (92, 88, 62),
    (88, 62, 46),
    (226, 222, 212),
    (110, 34, 44),
    (130, 152, 180),
    (52, 76, 60),
)
LEATHER_COLOURS: Colours = (
    (22, 20, 20),
    (40, 34, 32),
    (76, 50, 34),
    (124, 84, 52),
    (226, 224, 220),
    (150, 150, 152),
    (44, 52, 78),
    (150, 36, 40),
    (58, 74, 60),
    (196, 160, 110),
)
SKIN_COLOURS: Colours = (
    (236, 200, 176),
    (220, 176, 146),
    (192, 142, 108),
    (146, 100, 72),
    (96, 64, 48),
)
HAIR_COLOURS: Colours = (
    (20, 17, 16),
    (30, 24, 21),
    (42, 29, 23),
    (78, 52, 34),
    (124, 88, 54),
    (186, 152, 100),
    (112, 54, 34),
    (150, 148, 146),
)
GARMENT_COLOURS = NEUTRALS + BRIGHTS


@dataclass(frozen=True)
class Material:
    """One uniform stuff: linear `rgb` reflectance (three numbers) and `nir` reflectance, 0..1."""

    rgb: tuple[float, float, float]
    nir: float

    def values(self, modality: int) -> np.ndarray:
        """Reflectance as a (C, 1, 1) float32 array: C = 3 for visible, 1 for infrared."""
        numbers = self.rgb if modality == VISIBLE else (self.nir,)
        return np.array(numbers, np.float32).reshape(-1, 1, 1)

    def times(self, share: float) -> "Material":
        """The same stuff, darker (share < 1) or lighter."""
        return Material(tuple(min(share * c, 1.0) for c in self.rgb), min(share * self.nir, 1.0))


@dataclass(frozen=True)
class Weave:
    """The geometry of a cloth: a `pattern` (a key of PATTERNS), its `period` in body heights and
    `phase` 0..1."""

    pattern: str = "plain"
    period: float = 0.1
    phase: float = 0.0


@dataclass(frozen=True)
class Cloth:
    """A weave of two materials."""

    base: Material
    second: Material
    weave: Weave = Weave()

    def colour(self, modality: int, y: np.ndarray, s: np.ndarray, px: float) -> np.ndarray:
        """Reflectance (C, h, w) at height `y` and arc length `s` (h, w, in body heights).

        `px` is pixels per body height, the sharpness of the pattern's edges. Plain cloth comes
        as (C, 1, 1), which broadcasts.
        """
        base, weave = self.base.values(modality), self.weave
        if weave.pattern == "plain":
            return base
        size = np.float32(1 / weave.period)
        share = PATTERNS[weave.pattern](
            y * size + np.float32(weave.phase), s * size, np.float32(px * weave.period)
        )
        return base + share * (self.second.values(modality) - base)


def _bands(x: np.ndarray, sharpness: float, width: float = 0.5) -> np.ndarray:
    """1 on a `width` share of each unit of x, else 0, with edges one pixel wide."""
    distance = np.abs(x - np.floor(x) - np.float32(0.5))
    return np.clip((np.float32(0.5 * width) - distance) * sharpness + np.float32(0.5), 0, 1)


def _dots(y: np.ndarray, s: np.ndarray, sharpness: float) -> np.ndarray:
    row = np.floor(y)
    across = s + np.float32(0.5) * (row - 2 * np.floor(row / 2))
    y, across = y - row - np.float32(0.5), across - np.floor(across) - np.float32(0.5)
    return np.clip((np.float32(0.3) - exact.length(y, across)) * sharpness + np.float32(0.5), 0, 1)


def _zigzag(y: np.ndarray, s: np.ndarray, sharpness: float) -> np.ndarray:
    return _bands(y + np.abs(s - np.floor(s) - np.float32(0.5)), np.float32(0.7) * sharpness)


def _blotches(y: np.ndarray, s: np.ndarray, sharpness: float) -> np.ndarray:
    """Camouflage: where a sum of four waves is high."""
    wave = np.float32(np.pi)
    high = (
        exact.sin(wave * (2 * y + s))
        + exact.sin(wave * (y - 2 * s) + 1)
        + exact.sin(wave * (3 * s + y) + 2)
        + exact.sin(wave * (y - s))
    )
    return np.clip(high * (np.float32(0.15) * sharpness) + np.float32(0.5), 0, 1)


PATTERNS: dict[str, Callable[[np.ndarray, np.ndarray, float], np.ndarray]] = {
    "plain": lambda y, s, k: np.zeros_like(y),
    "hoops": lambda y, s, k: _bands(y, k),
    "thin hoops": lambda y, s, k: _bands(y, k, 0.28),
    "stripes": lambda y, s, k: _bands(s, k),
    "pinstripes": lambda y, s, k: _bands(s, k, 0.22),
    "checks": lambda y, s, k: np.float32(0.5) * (_bands(y, k) + _bands(s, k)),
    "panes": lambda y, s, k: np.maximum(_bands(y, k, 0.2), _bands(s, k, 0.2)),
    "tiles": lambda y, s, k: np.abs(_bands(y / 2, 2 * k) - _bands(s / 2, 2 * k)),
    "diagonal": lambda y, s, k: _bands(y + s, np.float32(0.7) * k),
    "diamonds": lambda y, s, k: np.abs(_bands((y + s) / 2, k) - _bands((y - s) / 2, k)),
    "zigzag": _zigzag,
    "dots": _dots,
    "blotches": _blotches,
}


def linear(srgb: np.ndarray) -> tuple[float, float, float]:
    """sRGB 0..255 -> linear reflectance 0..1 (gamma 2.2, as the cameras here encode)."""
    return tuple(float(c) for c in (np.clip(srgb, 2, 250) / 255.0) ** 2.2)


def draw_rgb(
    rng: np.random.Generator, colours: Colours, jitter: float = 8.0
) -> tuple[float, float, float]:
    """A colour of the table, jittered in lightness and a little in hue."""
    srgb = np.array(colours[rng.integers(len(colours))], float)
    return linear(srgb * np.exp(rng.normal(0, jitter / 80)) + rng.normal(0, jitter / 2, 3))


def draw_material(
    rng: np.random.Generator,
    colours: Colours,
    jitter: float = 8.0,
    nir: tuple[float, float] = (0.05, 0.85),
) -> Material:
    """One material: a colour of the table, and an infrared reflectance of its own."""
    return Material(draw_rgb(rng, colours, jitter), float(rng.uniform(*nir)))


def draw_contrast(rng: np.random.Generator, base: Material, share: float = 0.95) -> Material:
    """A garment material that, `share` of the time, is sure to stand out from `base`, in each
    modality apart."""
    candidate = draw_material(rng, GARMENT_COLOURS)
    rgb, nir = candidate.rgb, candidate.nir
    if rng.random() < share:
        while abs(lightness(rgb) - lightness(base.rgb)) < STANDS_OUT:
            rgb = draw_rgb(rng, GARMENT_COLOURS)
    if rng.random() < share:
        while abs(nir**0.45 - base.nir**0.45) < STANDS_OUT:
            nir = float(rng.uniform(0.03, 0.9))
    return Material(rgb, nir)


TONES = (0.25, 0.75)  # lightness of the two tones of uniforms, dark and light
STANDS_OUT = 0.3  # difference in lightness at which two materials are told apart


def toned(material: Material, keep: float, beside: Material | None = None) -> Material:
    """The material, moved towards the nearer of two tones until a share `keep` of its distance is
    left, in visible and infrared light apart. One that stands out from the material `beside` it
    takes the other tone, so that a pattern stays a pattern."""
    rgb, nir = np.array(material.rgb) ** 0.45, material.nir**0.45
    grey = lightness(material.rgb)
    by_grey, by_nir = (lightness(beside.rgb), beside.nir**0.45) if beside else (None, None)
    tone, warm = _tone(grey, by_grey), _tone(nir, by_nir)
    return Material(
        tuple(float(c) for c in (tone + keep * (rgb - tone)).clip(0, 1) ** (1 / 0.45)),
        float((warm + keep * (nir - warm)) ** (1 / 0.45)),
    )


def _tone(value: float, beside: float | None) -> float:
    dark, light = TONES
    if beside is not None and abs(value - beside) >= STANDS_OUT:
        return dark if beside >= 0.5 else light
    return light if value >= 0.5 else dark


def lightness(rgb: tuple[float, float, float]) -> float:
    """Perceived lightness 0..1 of a linear colour."""
    return float(0.3 * rgb[0] + 0.5 * rgb[1] + 0.2 * rgb[2]) ** 0.45


def draw_weave(
    rng: np.random.Generator,
    patterns: dict[str, float],
    share: float,
    periods: tuple[float, float] = (0.06, 0.12),
) -> Weave:
    """A pattern, drawn by its weight, for a `share` of the clothes; the others are plain."""
    names, weights = list(patterns), np.array(list(patterns.values()))
    pattern = names[rng.choice(len(names), p=weights / weights.sum())]
    weave = Weave(pattern, float(rng.uniform(*periods)), float(rng.random()))
    return weave if rng.random() < share else Weave("plain", weave.period, weave.phase)
