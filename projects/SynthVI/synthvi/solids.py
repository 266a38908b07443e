"""The two solids a person is built of, and the surfaces that dress them.

Lengths are in body heights. A point is (lateral, height, forward): lateral grows to the person's
left, forward is where the person walks. The angle `tau` runs around a solid: 0 in front, +pi/2 on
the left, +-pi behind. A surface is a function of (height, tau), so patterns, prints, straps and
open jackets turn with the person by themselves.
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
        return np.clip(signed * np.float32(self.px) + np.float32(0.5), 0, 1)


Mask = Callable[[Patch], np.ndarray]


@dataclass(frozen=True)
class Surface:
    """A cloth, then overlays (mask, cloth) painted in order; `cut` keeps a part of the solid.

    `rough` is how strongly cloth folds bend its normals, 0 for skin.
    """

    cloth: Cloth
    overlays: tuple[tuple[Mask, Cloth], ...] = ()
    cut: Mask | None = None
    rough: float = 1.0

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


def uniform(material: Material, rough: float = 0.3) -> Surface:
    """A surface of one material."""
    return Surface(plain(material), rough=rough)


@dataclass(frozen=True)
class Stack:
    """An upright pile of ellipses: at `heights` (ascending) half-widths `lateral` and `forward`.

    `centre` is (lateral, forward) of the axis and `axis` its extra forward shift at `heights`;
    `turn` is an extra yaw in radians. `bias` brings a layer nearer to the camera (body heights), so
    that a coat hides the leg that would poke through it.
    """

    heights: np.ndarray
    lateral: np.ndarray
    forward: np.ndarray
    surface: Surface
    centre: tuple[float, float] = (0.0, 0.0)
    axis: np.ndarray | float = 0.0
    turn: float = 0.0
    bias: float = 0.0


@dataclass(frozen=True)
class Limb:
    """A round rod from `start` to `end` (points), its `radii` evenly spaced along it, with round
    ends; `bias` as in Stack."""

    start: np.ndarray
    end: np.ndarray
    radii: tuple[float, ...]
    surface: Surface
    bias: float = 0.0


Solid = Stack | Limb
