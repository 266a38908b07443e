"""Draws solids into a picture of surfaces: which is nearest, what it is made of, where it faces.

Outline, depth, normal and surface coordinates of a solid are closed forms of the pixel, evaluated
in the solid's bounding box and kept where the solid is nearest (a soft z-buffer). Light comes
afterwards, once for the whole picture (see `shade`).
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from . import exact
from .solids import Limb, Patch, Solid, Stack, Surface

from icre.modality import VISIBLE

FAR = -9.0  # depth of the background, in body heights towards the camera
TURN = np.float32(2 * np.pi)


@dataclass(frozen=True)
class View:
    """How a person is seen through a pinhole camera.

    `yaw`: the person's turn (0 walks toward the camera, pi/2 to the right); `height` of the camera
    and its `distance` along the ground, in body heights; `px`: pixels per body height at the middle
    of the body; `foot`: (x, y) of the ground point in pixels.
    """

    yaw: float
    height: float
    distance: float
    px: float
    foot: tuple[float, float]

    @property
    def tilt(self) -> tuple[float, float]:
        """Sine and cosine of the angle at which the camera looks down at the middle."""
        reach = float(np.hypot(self.height - 0.5, self.distance))
        return (self.height - 0.5) / reach, self.distance / reach

    def project(
        self, x: np.ndarray, y: np.ndarray, z: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Screen x, screen y (up) and scale of points: x right, y up, z towards the camera.

        Lengths in body heights; the middle of the body has scale 1, the ground point screen (0, 0).
        """
        sin, cos = self.tilt
        reach = self.distance / cos
        y, z = np.asarray(y, float), np.asarray(z, float)
        scale = reach / (reach - z * cos - (y - 0.5) * sin)
        ground = -0.5 * cos * reach / (reach + 0.5 * sin)
        return x * scale, ((y - 0.5) * cos - z * sin) * scale - ground, scale


class Trace(NamedTuple):
    """A limb on the screen, per pixel of its box: `far` from the axis in radii, `radius`, place
    `along` the axis (0..1) and `side` across it (-1..1); `way` is its unit direction (x, y), `grow`
    its scale at either end."""

    box: tuple[slice, slice]
    far: np.ndarray
    radius: np.ndarray
    along: np.ndarray
    side: np.ndarray
    way: tuple[float, float]
    grow: np.ndarray


class Canvas:
    """What is seen per pixel: reflectance `albedo` (C, H, W) and `normal` (3, H, W), both times
    `cover` (H, W), the share that a solid covers; `depth` (H, W) towards the camera."""

    def __init__(self, size: tuple[int, int], view: View, modality: int, folds: np.ndarray) -> None:
        """`folds` (2, H, W): how cloth relief bends normals sideways and upwards."""
        self.view, self.modality, self.folds = view, modality, folds
        height, width = size
        self.albedo = np.zeros((3 if modality == VISIBLE else 1, height, width), np.float32)
        self.normal = np.zeros((3, height, width), np.float32)
        self.cover = np.zeros((height, width), np.float32)
        self.depth = np.full((height, width), FAR, np.float32)
        self.look_from(view)

    def look_from(self, view: View) -> None:
        """Draw what follows by another view of the same scene: another person's."""
        self.view = view
        height, width = self.cover.shape
        self.x = ((np.arange(width, dtype=np.float32) + 0.5) - view.foot[0]) / view.px
        self.y = (view.foot[1] - (np.arange(height, dtype=np.float32) + 0.5)) / view.px
        self.sin, self.cos = float(np.sin(view.yaw)), float(np.cos(view.yaw))
        self.tilt = view.tilt

    def paint(self, solids: list[Solid]) -> None:
        """Draw the solids; nearer ones win, in whatever order they come."""
        for solid in solids:
            (self._stack if isinstance(solid, Stack) else self._limb)(solid)

    def turned(self, lateral: np.ndarray, forward: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A point of the body -> (x right, z towards the camera)."""
        return (lateral * self.cos + forward * self.sin, forward * self.cos - lateral * self.sin)

    def _box(self, x0: float, x1: float, y0: float, y1: float) -> tuple[slice, slice] | None:
        """Pixel rows and columns that cover a rectangle with a margin, None if outside."""
        px, (fx, fy) = self.view.px, self.view.foot
        rows = slice(max(int(fy - y1 * px) - 1, 0), min(int(fy - y0 * px) + 2, len(self.y)))
        cols = slice(max(int(fx + x0 * px) - 1, 0), min(int(fx + x1 * px) + 2, len(self.x)))
        return (rows, cols) if rows.start < rows.stop and cols.start < cols.stop else None

    def _stack(self, stack: Stack) -> None:
        px, (sin_p, cos_p) = self.view.px, self.tilt
        yaw = self.view.yaw + stack.turn
        sin, cos = float(np.sin(yaw)), float(np.cos(yaw))
        low, high = float(stack.heights[0]), float(stack.heights[-1])
        h = np.concatenate([[low - 0.2], stack.heights, [high + 0.2]])
        a = np.maximum(_ends(stack.lateral), 1e-4)
        b = np.maximum(_ends(stack.forward), 1e-4)
        axis = _ends(stack.centre[1] + stack.axis + 0 * stack.heights)
        x, z = self.turned(stack.centre[0], axis)
        sx, sy, scale = self.view.project(x, h, z)
        wide = np.hypot(a * cos, b * sin)
        deep = a * b / wide
        half = wide * scale
        sag = float(deep.max()) * abs(sin_p) * float(scale.max())
        box = self._box(
            float((sx - half).min()),
            float((sx + half).max()),
            float(sy[1]) - sag,
            float(sy[-2]) + sag,
        )
        if box is None:
            return
        turn = np.arctan2(b * sin, a * cos)
        slope = np.clip(-np.gradient(wide, h), -1.5, 1.5)
        table = np.stack([h, sx, half, z, deep, turn, slope])
        rows = np.stack([np.interp(self.y[box[0]], sy, column) for column in table])
        y, sx, half, z, deep, turn, slope = rows.astype(np.float32)[:, :, None]
        v = (self.x[None, box[1]] - sx) / half
        inside = np.clip((1 - np.abs(v)) * (half * np.float32(px)) + np.float32(0.5), 0, 1)
        v = np.clip(v, -1, 1)
        nz = np.sqrt(1 - v * v)
        inside *= np.clip((high - y) * px + 0.5, 0, 1)
        y = np.minimum(y + (deep * np.float32(sin_p / cos_p)) * nz, np.float32(high))
        inside *= np.clip((y - low) * px + 0.5, 0, 1)
        tau = _wrapped(exact.arcsin(v) - turn)
        depth = (z + deep * nz) * np.float32(cos_p) + y * np.float32(sin_p)
        size = float(stack.lateral.max() + stack.forward.max()) / 2
        unit = 1 / np.sqrt(1 + slope * slope)
        normal = (v * unit, slope * unit, nz * unit)
        self._blend(
            box,
            inside,
            depth + np.float32(stack.bias),
            normal,
            Patch(y, tau, tau * np.float32(size), px),
            stack.surface,
        )

    def _trace(self, limb: Limb) -> tuple[Trace, np.ndarray] | None:
        ends = np.stack([limb.start, limb.end])
        x, z = self.turned(ends[:, 0], ends[:, 2])
        (x0, x1), (y0, y1), grow = self.view.project(x, ends[:, 1], z)
        reach = max(limb.radii) * float(grow.max())
        box = self._box(
            min(x0, x1) - reach, max(x0, x1) + reach, min(y0, y1) - reach, max(y0, y1) + reach
        )
        if box is None:
            return None
        dx, dy = np.float32(x1 - x0), np.float32(y1 - y0)
        length = np.float32(max(float(np.hypot(dx, dy)), 1e-4))
        ex, ey = self.x[None, box[1]] - np.float32(x0), self.y[box[0], None] - np.float32(y0)
        along = np.clip((ex * dx + ey * dy) / (length * length), 0, 1)
        radii = np.array(limb.radii) * np.linspace(grow[0], grow[1], len(limb.radii))
        radius = _along(along, radii.astype(np.float32))
        ex, ey = ex - along * dx, ey - along * dy
        side = np.clip((ex * dy - ey * dx) / (length * radius), -1, 1)
        depth = z * self.tilt[1] + ends[:, 1] * self.tilt[0]
        return Trace(
            box,
            np.sqrt(ex * ex + ey * ey) / radius,
            radius,
            along,
            side,
            (float(dx / length), float(dy / length)),
            grow,
        ), depth.astype(np.float32)

    def _limb(self, limb: Limb) -> None:
        found = self._trace(limb)
        if found is None:
            return
        trace, ends = found
        px, side, way = np.float32(self.view.px), trace.side, trace.way
        inside = np.clip((1 - trace.far) * (trace.radius * px) + np.float32(0.5), 0, 1)
        nz = np.sqrt(np.maximum(1 - trace.far * trace.far, 0))
        tau = _wrapped(exact.arcsin(-side if way[1] < 0 else side) - np.float32(self.view.yaw))
        real = np.float32(np.linalg.norm(limb.end - limb.start))
        depth = ends[0] + trace.along * (ends[1] - ends[0]) + trace.radius * nz
        normal = (side * np.float32(way[1]), side * np.float32(-way[0]), nz)
        self._blend(
            trace.box,
            inside,
            depth + np.float32(limb.bias),
            normal,
            Patch(trace.along * real, tau, tau * np.float32(limb.radii[0]), float(px)),
            limb.surface,
        )

    def _blend(
        self,
        box: tuple[slice, slice],
        inside: np.ndarray,
        depth: np.ndarray,
        normal: tuple[np.ndarray, ...],
        patch: Patch,
        surface: Surface,
    ) -> None:
        if surface.cut is not None:
            inside = inside * surface.cut(patch)
        behind = self.depth[box]
        before = (depth - behind) * np.float32(self.view.px) + np.float32(0.5)
        alpha = inside * np.clip(before, 0, 1)
        albedo = self.albedo[(slice(None), *box)]
        albedo += alpha * (surface.colour(patch, self.modality) - albedo)
        for axis, part in enumerate(normal):
            target = self.normal[(axis, *box)]
            if axis < 2 and surface.rough:
                part = part + np.float32(surface.rough) * self.folds[(axis, *box)]
            target += alpha * (part - target)
        cover = self.cover[box]
        cover += alpha * (1 - cover)
        np.maximum(behind, depth, out=behind, where=inside > 0.5)


def _ends(values: np.ndarray) -> np.ndarray:
    """The values with the first and the last one twice: a stack goes on straight at its ends."""
    return np.concatenate([values[:1], values, values[-1:]])


def _wrapped(angle: np.ndarray) -> np.ndarray:
    return angle - TURN * np.floor(angle / TURN + np.float32(0.5))


def _along(place: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Linear interpolation of evenly spaced `values` at places 0..1."""
    if len(values) == 2:
        return values[0] + (values[1] - values[0]) * place
    step = place * np.float32(len(values) - 1)
    left = np.minimum(step.astype(np.int32), len(values) - 2)
    return values[left] + (values[left + 1] - values[left]) * (step - left)
