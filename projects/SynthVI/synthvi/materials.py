"""Materials (visible and infrared reflectance) and the patterns of cloth.

The near-infrared reflectance of a material is sampled independently of its colour: dyes that look
alike reflect infrared differently, so colour cannot be predicted across modalities while the
geometry of a pattern can.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from synthvi import portable_math
from synthvi.modality import VISIBLE
from synthvi.portable_math import clip

Colours = tuple[tuple[int, int, int], ...]


def _colours(codes: str) -> Colours:
    """sRGB hex codes -> triples 0..255."""
    return tuple((code[0], code[1], code[2]) for code in map(bytes.fromhex, codes.split()))


# Colours that are common in reality are listed or counted twice: people wear dark and grey far more
# often than bright colours.
NEUTRALS = _colours("16161a 1e1f24 2c2e34 54565a 84868a babbbc ecebe6 1c223a 222c50 ded4c0")
BRIGHTS = _colours(
    "2c4a82 6088be 96bede 145c64 841c26 be302e ce6c3a deb64a 6e244c ce8498 62468a 225236 "
    "60804a 6c6842 5e402e 906a48 c2a680"
)
TOP_COLOURS = 2 * NEUTRALS + BRIGHTS
GARMENT_COLOURS = NEUTRALS + BRIGHTS
BOTTOM_COLOURS = 2 * _colours("18181c 22242a 42444a 263254 344870 546c96 b09a7a") + _colours(
    "848688 5c583e 583e2e e2ded4 6e222c 8298b4 344c3c"
)
LEATHER_COLOURS = _colours("161414 282220 4c3222 7c5434 e2e0dc 969698 2c344e 962428 3a4a3c c4a06e")
SKIN_COLOURS = _colours("ecc8b0 dcb092 c08e6c 926448 604030")
HAIR_COLOURS = _colours("141110 1e1815 2a1d17 4e3422 7c5836 ba9864 703622 969492")


TONES = (0.25, 0.75)  # lightness of the two tones of uniforms
MIN_CONTRAST = 0.3  # lightness difference from which two materials look different


@dataclass(frozen=True)
class Material:
    """A material: linear reflectance `rgb` (three numbers) and near-infrared `nir`, all 0..1."""

    rgb: tuple[float, float, float]
    nir: float

    def reflectance(self, modality: int) -> np.ndarray:
        """Reflectance (C, 1, 1) float32; C is 3 for visible, 1 for infrared."""
        numbers = self.rgb if modality == VISIBLE else (self.nir,)
        return np.array(numbers, np.float32).reshape(-1, 1, 1)

    def scaled(self, share: float) -> "Material":
        """The same material, darker (share < 1) or lighter."""
        return Material(tuple(min(share * c, 1.0) for c in self.rgb), min(share * self.nir, 1.0))


@dataclass(frozen=True)
class Weave:
    """Geometry of a pattern: its name in PATTERNS, `period` in body heights, `phase` 0..1."""

    pattern: str = "plain"
    period: float = 0.1
    phase: float = 0.0


@dataclass(frozen=True)
class Cloth:
    """A pattern of two materials."""

    base: Material
    second: Material
    weave: Weave = Weave()

    def colour(self, modality: int, y: np.ndarray, s: np.ndarray, px: float) -> np.ndarray:
        """Reflectance of points on the cloth.

        Args:
            modality: VISIBLE or INFRARED.
            y: heights (h, w) in body heights.
            s: arc lengths (h, w) around the solid in body heights.
            px: pixels per body height, which decides how sharp edges are.

        Returns:
            (C, h, w), or (C, 1, 1) of a plain cloth.
        """
        base, weave = self.base.reflectance(modality), self.weave
        if weave.pattern == "plain":
            return base
        size = np.float32(1 / weave.period)
        share = PATTERNS[weave.pattern](
            y * size + np.float32(weave.phase), s * size, np.float32(px * weave.period)
        )
        return base + share * (self.second.reflectance(modality) - base)


def _bands(x: np.ndarray, sharpness: float, width: float = 0.5) -> np.ndarray:
    """1 on the share `width` of each unit of x, else 0, with edges one pixel wide."""
    distance = np.abs(x - np.floor(x) - np.float32(0.5))
    return clip((np.float32(0.5 * width) - distance) * sharpness + np.float32(0.5), 0, 1)


def _dots(y: np.ndarray, s: np.ndarray, sharpness: float) -> np.ndarray:
    row = np.floor(y)
    across = s + np.float32(0.5) * (row - 2 * np.floor(row / 2))
    y, across = y - row - np.float32(0.5), across - np.floor(across) - np.float32(0.5)
    return clip(
        (np.float32(0.3) - portable_math.hypot(y, across)) * sharpness + np.float32(0.5), 0, 1
    )


def _zigzag(y: np.ndarray, s: np.ndarray, sharpness: float) -> np.ndarray:
    return _bands(y + np.abs(s - np.floor(s) - np.float32(0.5)), np.float32(0.7) * sharpness)


def _blotches(y: np.ndarray, s: np.ndarray, sharpness: float) -> np.ndarray:
    """Camouflage: where a sum of four waves is high."""
    wave = np.float32(np.pi)
    high = (
        portable_math.sin(wave * (2 * y + s))
        + portable_math.sin(wave * (y - 2 * s) + 1)
        + portable_math.sin(wave * (3 * s + y) + 2)
        + portable_math.sin(wave * (y - s))
    )
    return clip(high * (np.float32(0.15) * sharpness) + np.float32(0.5), 0, 1)


# Share of the second material at (y, s) in periods; k is pixels per period.
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


def srgb_to_linear(srgb: np.ndarray) -> tuple[float, float, float]:
    """sRGB 0..255 -> linear reflectance 0..1, by a gamma of 2.2."""
    return tuple(float(c) for c in (clip(srgb, 2, 250) / 255.0) ** 2.2)


def sample_rgb(
    rng: np.random.Generator, colours: Colours, jitter: float = 8.0
) -> tuple[float, float, float]:
    """Sample a colour of the table, jittered in lightness and a little in hue."""
    srgb = np.array(colours[rng.integers(len(colours))], float)
    return srgb_to_linear(srgb * np.exp(rng.normal(0, jitter / 80)) + rng.normal(0, jitter / 2, 3))


def sample_material(
    rng: np.random.Generator,
    colours: Colours,
    jitter: float = 8.0,
    nir: tuple[float, float] = (0.05, 0.85),
) -> Material:
    """Sample a material: a colour of the table and an independent infrared reflectance."""
    return Material(sample_rgb(rng, colours, jitter), float(rng.uniform(*nir)))


def sample_contrasting(rng: np.random.Generator, base: Material, share: float = 0.95) -> Material:
    """Sample a garment material that differs clearly from `base`.

    It differs with probability `share` in each modality, independently.
    """
    candidate = sample_material(rng, GARMENT_COLOURS)
    rgb, nir = candidate.rgb, candidate.nir
    if rng.random() < share:
        while abs(lightness(rgb) - lightness(base.rgb)) < MIN_CONTRAST:
            rgb = sample_rgb(rng, GARMENT_COLOURS)
    if rng.random() < share:
        while abs(nir**0.45 - base.nir**0.45) < MIN_CONTRAST:
            nir = float(rng.uniform(0.03, 0.9))
    return Material(rgb, nir)


def pull_to_tones(material: Material, keep: float, beside: Material | None = None) -> Material:
    """Move a material towards the nearer of TONES, in each modality separately.

    Args:
        material: what to change.
        keep: share of the distance to the tone that is left.
        beside: the other material of a pattern. Where the two differ clearly, `material` gets the
            tone that `beside` does not have, so that the pattern stays visible.
    """
    rgb, nir = np.array(material.rgb) ** 0.45, material.nir**0.45
    grey = lightness(material.rgb)
    by_grey, by_nir = (lightness(beside.rgb), beside.nir**0.45) if beside else (None, None)
    tone, nir_tone = _tone_for(grey, by_grey), _tone_for(nir, by_nir)
    return Material(
        tuple(float(c) for c in (tone + keep * (rgb - tone)).clip(0, 1) ** (1 / 0.45)),
        float((nir_tone + keep * (nir - nir_tone)) ** (1 / 0.45)),
    )


def _tone_for(value: float, beside: float | None) -> float:
    dark, light = TONES
    if beside is not None and abs(value - beside) >= MIN_CONTRAST:
        return dark if beside >= 0.5 else light
    return light if value >= 0.5 else dark


def lightness(rgb: tuple[float, float, float]) -> float:
    """Perceived lightness 0..1 of a srgb_to_linear colour."""
    return float(0.3 * rgb[0] + 0.5 * rgb[1] + 0.2 * rgb[2]) ** 0.45


def sample_weave(
    rng: np.random.Generator,
    patterns: dict[str, float],
    share: float,
    periods: tuple[float, float] = (0.06, 0.12),
) -> Weave:
    """Sample a pattern by its weight with probability `share`, otherwise plain cloth."""
    names, weights = list(patterns), np.array(list(patterns.values()))
    pattern = names[rng.choice(len(names), p=weights / weights.sum())]
    weave = Weave(pattern, float(rng.uniform(*periods)), float(rng.random()))
    return weave if rng.random() < share else Weave("plain", weave.period, weave.phase)
