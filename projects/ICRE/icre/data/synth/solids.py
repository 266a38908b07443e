"""The few solids a person is built of, and the surfaces that dress them.

Lengths are in body heights. A point is (lateral, height, forward): lateral grows to the person's
left, forward is where the person walks. The angle `tau` runs around a solid: 0 in front, +pi/2 on
the left, +-pi behind. A surface is a function of (height, tau), so patterns, logos, straps and open
jackets turn with the person by themselves.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .materials import Cloth, Material


@dataclass(frozen=True)
class Patch:
    """Visible surface points of one solid, arrays (h, w): `y` height (or length along a limb),
    `tau` angle, `s` arc length; `px` is pixels per body height."""

    y: np.ndarray
    tau: np.ndarray
    s: np.ndarray
    px: float

    def inside(self, signed: np.ndarray) -> np.ndarray:
        """Coverage 0..1 of the region where `signed` (body heights) is positive, one pixel soft."""
        return np.clip(signed * self.px + 0.5, 0, 1)


Mask = Callable[[Patch], np.ndarray]


@dataclass(frozen=True)
class Surface:
    """A cloth, then overlays (mask, cloth) painted in order; `cut` keeps a part of the solid."""

    cloth: Cloth
    overlays: tuple[tuple[Mask, Cloth], ...] = ()
    cut: Mask | None = None

    def colour(self, patch: Patch, modality: int) -> np.ndarray:
        """Reflectance (C, h, w) of a patch, or (C, 1, 1) where it is uniform."""
        colour = self.cloth.colour(modality, patch.y, patch.s, patch.px)
        for mask, cloth in self.overlays:
            over = cloth.colour(modality, patch.y, patch.s, patch.px)
            colour = colour + mask(patch) * (over - colour)
        return colour


def plain(material: Material) -> Cloth:
    """A cloth of one material."""
    return Cloth(material, material)


def uniform(material: Material) -> Surface:
    """A surface of one material."""
    return Surface(plain(material))


@dataclass(frozen=True)
class Stack:
    """An upright pile of ellipses: at `heights` (ascending) half-widths `lateral` and `forward`.

    `centre` is (lateral, forward) of the axis, `lean` its forward shift per height above 0.5,
    `turn` an extra yaw in radians. `order` sorts the solids for painting, low numbers first.
    """

    order: float
    heights: np.ndarray
    lateral: np.ndarray
    forward: np.ndarray
    surface: Surface
    centre: tuple[float, float] = (0.0, 0.0)
    lean: float = 0.0
    turn: float = 0.0


@dataclass(frozen=True)
class Limb:
    """A tapered capsule from `start` to `end` (points) with radii `radii` at its two ends."""

    start: np.ndarray
    end: np.ndarray
    radii: tuple[float, float]
    surface: Surface


@dataclass(frozen=True)
class Chain:
    """Limbs that are joined, painted in sequence; together they shade what lies behind them."""

    order: float
    limbs: tuple[Limb, ...]


Solid = Stack | Chain
