"""The two kinds of solids that a person consists of, and their surfaces.

Lengths are in body heights. A point is (lateral, height, forward): lateral grows to the person's
left, forward is the walking direction. Angles run around a solid: 0 in front, +pi/2 on the left,
+-pi behind. A surface is a function of height and angle, so that patterns, prints, straps and open
jackets turn with the person.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from synthvi.materials import Cloth, Material


@dataclass(frozen=True)
class Patch:
    """Visible surface points of one solid, as arrays (h, w).

    Attributes:
        y: height, or length along a limb, in body heights.
        angle: in radians.
        arc: arc length around the solid in body heights.
        px: pixels per body height.
    """

    y: np.ndarray
    angle: np.ndarray
    arc: np.ndarray
    px: float

    def inside(self, distance: np.ndarray) -> np.ndarray:
        """Coverage 0..1 of a region with an edge one pixel wide.

        Args:
            distance: signed distance to the edge in body heights, positive inside.
        """
        return np.clip(distance * np.float32(self.px) + np.float32(0.5), 0, 1)


Mask = Callable[[Patch], np.ndarray]


@dataclass(frozen=True)
class Surface:
    """What a solid looks like.

    Attributes:
        cloth: of the whole surface.
        overlays: (mask, cloth) pairs, painted over it in order.
        cut: coverage of the part of the solid that exists; None is all.
        rough: how strongly folds bend the normals; 0 for skin.
    """

    cloth: Cloth
    overlays: tuple[tuple[Mask, Cloth], ...] = ()
    cut: Mask | None = None
    rough: float = 1.0

    def colour(self, patch: Patch, modality: int) -> np.ndarray:
        """Reflectance (C, h, w) of a patch, or (C, 1, 1) where it is uniform."""
        colour = self.cloth.colour(modality, patch.y, patch.arc, patch.px)
        for mask, cloth in self.overlays:
            over = cloth.colour(modality, patch.y, patch.arc, patch.px)
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
    """An upright solid with elliptic cross-sections.

    Attributes:
        heights: ascending, (n,).
        lateral: half-width of the ellipse at each height, (n,).
        forward: half-depth of the ellipse at each height, (n,).
        surface: what it looks like.
        centre: (lateral, forward) of the axis.
        axis: additional forward shift of the axis at each height, (n,) or a number.
        turn: additional yaw in radians.
        bias: by how much it is drawn nearer to the camera, in body heights, so that an outer layer
            hides an inner one that would poke through it.
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
    """A round solid with round ends.

    Attributes:
        start: of the axis (3,).
        end: of the axis (3,).
        radii: evenly spaced along the axis.
        surface: what it looks like.
        bias: as in Stack.
    """

    start: np.ndarray
    end: np.ndarray
    radii: tuple[float, ...]
    surface: Surface
    bias: float = 0.0


Solid = Stack | Limb
