"""Rasterise solids into maps of reflectance, normals, coverage and depth.

Outline, depth, normal and surface coordinates of a solid are closed-form functions of the pixel.
They are evaluated in the solid's bounding box and kept where the solid is nearest (a z-buffer with
soft edges). Light is applied afterwards, once for the whole image (see `shading`).
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from synthvi import portable_math
from synthvi.modality import VISIBLE
from synthvi.portable_math import clip
from synthvi.solids import Limb, Patch, Solid, Stack, Surface

BACKGROUND_DEPTH = -9.0  # in body heights towards the camera
FULL_TURN = np.float32(2 * np.pi)


@dataclass(frozen=True)
class View:
    """View of a person through a pinhole camera.

    Attributes:
        yaw: of the person in radians; 0 walks towards the camera, pi/2 to the right.
        height: of the camera, in body heights.
        distance: of the camera along the ground, in body heights.
        px: pixels per body height at the middle of the body.
        foot: pixel (x, y) of the ground below the person.
    """

    yaw: float
    height: float
    distance: float
    px: float
    foot: tuple[float, float]

    @cached_property
    def tilt(self) -> tuple[float, float]:
        """Sine and cosine of the angle at which the camera looks down at the middle of the body."""
        reach = float(np.hypot(self.height - 0.5, self.distance))
        return (self.height - 0.5) / reach, self.distance / reach

    def project(
        self, x: np.ndarray, y: np.ndarray, z: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Project points (x right, y up, z towards the camera) in body heights.

        Returns:
            Screen x, screen y (up) and scale. The middle of the body has scale 1, and the ground
            below it is at (0, 0) on the screen.
        """
        sin, cos = self.tilt
        reach = self.distance / cos
        y, z = np.asarray(y, float), np.asarray(z, float)
        scale = reach / (reach - z * cos - (y - 0.5) * sin)
        ground = -0.5 * cos * reach / (reach + 0.5 * sin)
        return x * scale, ((y - 0.5) * cos - z * sin) * scale - ground, scale


class Trace(NamedTuple):
    """A limb on the screen; arrays are per pixel of its bounding box.

    Attributes:
        box: rows and columns.
        distance: from the axis, in radii.
        radius: on the screen.
        along: position along the axis, 0..1.
        side: position across the axis, -1..1.
        direction: unit vector (x, y) of the axis.
        depth: at either end, (2,).
    """

    box: tuple[slice, slice]
    distance: np.ndarray
    radius: np.ndarray
    along: np.ndarray
    side: np.ndarray
    direction: tuple[float, float]
    depth: np.ndarray


class Canvas:
    """What is seen in each pixel.

    Attributes:
        cover: share of the pixel that solids cover (H, W).
        albedo: reflectance times cover (C, H, W).
        normal: unit normal times cover (3, H, W): x right, y up, z towards the camera.
        depth: towards the camera, in body heights (H, W).
    """

    def __init__(self, size: tuple[int, int], view: View, modality: int, folds: np.ndarray) -> None:
        """An empty canvas of `size` (H, W); `folds` (2, H, W) as in camera.Camera."""
        self.view, self.modality, self.folds = view, modality, folds
        height, width = size
        self.albedo = np.zeros((3 if modality == VISIBLE else 1, height, width), np.float32)
        self.normal = np.zeros((3, height, width), np.float32)
        self.cover = np.zeros((height, width), np.float32)
        self.depth = np.full((height, width), BACKGROUND_DEPTH, np.float32)
        self.set_view(view)

    def set_view(self, view: View) -> None:
        """Set the view of the solids that are painted next, such as another person's."""
        self.view = view
        height, width = self.cover.shape
        self.x = ((np.arange(width, dtype=np.float32) + 0.5) - view.foot[0]) / view.px
        self.y = (view.foot[1] - (np.arange(height, dtype=np.float32) + 0.5)) / view.px
        self.sin, self.cos = float(np.sin(view.yaw)), float(np.cos(view.yaw))
        self.tilt = view.tilt

    def paint(self, solids: list[Solid]) -> None:
        """Draw solids; nearer ones cover others in any order of drawing."""
        for solid in solids:
            (self._paint_stack if isinstance(solid, Stack) else self._paint_limb)(solid)

    def rotate(self, lateral: np.ndarray, forward: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates of the body -> (x right, z towards the camera)."""
        return (lateral * self.cos + forward * self.sin, forward * self.cos - lateral * self.sin)

    def _pixel_box(self, x0: float, x1: float, y0: float, y1: float) -> tuple[slice, slice] | None:
        """Pixel rows and columns that cover a rectangle with a margin, None if outside."""
        px, (fx, fy) = self.view.px, self.view.foot
        rows = slice(max(int(fy - y1 * px) - 1, 0), min(int(fy - y0 * px) + 2, len(self.y)))
        cols = slice(max(int(fx + x0 * px) - 1, 0), min(int(fx + x1 * px) + 2, len(self.x)))
        return (rows, cols) if rows.start < rows.stop and cols.start < cols.stop else None

    def _paint_stack(self, stack: Stack) -> None:
        px, (sin_p, cos_p) = self.view.px, self.tilt
        yaw = self.view.yaw + stack.turn
        sin, cos = float(np.sin(yaw)), float(np.cos(yaw))
        low, high = float(stack.heights[0]), float(stack.heights[-1])
        h = np.concatenate([[low - 0.2], stack.heights, [high + 0.2]])
        a = np.maximum(_repeat_ends(stack.lateral), 1e-4)
        b = np.maximum(_repeat_ends(stack.forward), 1e-4)
        axis = _repeat_ends(stack.centre[1] + stack.axis + 0 * stack.heights)
        x, z = self.rotate(stack.centre[0], axis)
        sx, sy, scale = self.view.project(x, h, z)
        wide = np.hypot(a * cos, b * sin)
        deep = a * b / wide
        half = wide * scale
        sag = float(deep.max()) * abs(sin_p) * float(scale.max())
        box = self._pixel_box(
            float((sx - half).min()),
            float((sx + half).max()),
            float(sy[1]) - sag,
            float(sy[-2]) + sag,
        )
        if box is None:
            return
        # One table row per height, then interpolated to the pixel rows.
        turn = np.arctan2(b * sin, a * cos)
        slope = clip(-np.gradient(wide, h), -1.5, 1.5)
        table = np.stack([h, sx, half, z, deep, turn, slope])
        rows = np.stack([np.interp(self.y[box[0]], sy, column) for column in table])
        y, sx, half, z, deep, turn, slope = rows.astype(np.float32)[:, :, None]
        # v: position across the outline, -1..1; nz: depth of the surface there, 0..1.
        v = (self.x[None, box[1]] - sx) / half
        inside = clip((1 - np.abs(v)) * (half * np.float32(px)) + np.float32(0.5), 0, 1)
        v = clip(v, -1, 1)
        nz = np.sqrt(1 - v * v)
        inside *= clip((high - y) * px + 0.5, 0, 1)
        y = np.minimum(y + (deep * np.float32(sin_p / cos_p)) * nz, np.float32(high))
        inside *= clip((y - low) * px + 0.5, 0, 1)
        angle = _wrapped(portable_math.arcsin(v) - turn)
        depth = (z + deep * nz) * np.float32(cos_p) + y * np.float32(sin_p)
        size = float(stack.lateral.max() + stack.forward.max()) / 2
        unit = 1 / np.sqrt(1 + slope * slope)
        normal = (v * unit, slope * unit, nz * unit)
        self._blend(
            box,
            inside,
            depth + np.float32(stack.bias),
            normal,
            Patch(y, angle, angle * np.float32(size), px),
            stack.surface,
        )

    def _trace(self, limb: Limb) -> Trace | None:
        """Project a limb; None if it is outside of the image."""
        ends = np.array([limb.start, limb.end])
        x, z = self.rotate(ends[:, 0], ends[:, 2])
        (x0, x1), (y0, y1), scale = self.view.project(x, ends[:, 1], z)
        reach = max(limb.radii) * float(scale.max())
        box = self._pixel_box(
            min(x0, x1) - reach, max(x0, x1) + reach, min(y0, y1) - reach, max(y0, y1) + reach
        )
        if box is None:
            return None
        dx, dy = np.float32(x1 - x0), np.float32(y1 - y0)
        length = np.float32(max(float(np.hypot(dx, dy)), 1e-4))
        ex, ey = self.x[None, box[1]] - np.float32(x0), self.y[box[0], None] - np.float32(y0)
        along = clip((ex * dx + ey * dy) / (length * length), 0, 1)
        radii = np.array(limb.radii) * np.linspace(scale[0], scale[1], len(limb.radii))
        radius = _interpolate(along, radii.astype(np.float32))
        ex, ey = ex - along * dx, ey - along * dy
        side = clip((ex * dy - ey * dx) / (length * radius), -1, 1)
        depth = z * self.tilt[1] + ends[:, 1] * self.tilt[0]
        return Trace(
            box,
            np.sqrt(ex * ex + ey * ey) / radius,
            radius,
            along,
            side,
            (float(dx / length), float(dy / length)),
            depth.astype(np.float32),
        )

    def _paint_limb(self, limb: Limb) -> None:
        trace = self._trace(limb)
        if trace is None:
            return
        px, side, direction = np.float32(self.view.px), trace.side, trace.direction
        inside = clip((1 - trace.distance) * (trace.radius * px) + np.float32(0.5), 0, 1)
        nz = np.sqrt(np.maximum(1 - trace.distance * trace.distance, 0))
        across = portable_math.arcsin(-side if direction[1] < 0 else side)
        angle = _wrapped(across - np.float32(self.view.yaw))
        length = np.float32(np.linalg.norm(limb.end - limb.start))
        start, end = trace.depth
        depth = start + trace.along * (end - start) + trace.radius * nz
        normal = (side * np.float32(direction[1]), side * np.float32(-direction[0]), nz)
        self._blend(
            trace.box,
            inside,
            depth + np.float32(limb.bias),
            normal,
            Patch(trace.along * length, angle, angle * np.float32(limb.radii[0]), float(px)),
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
        """Blend a solid into the maps where it is nearer than what has been drawn."""
        if surface.cut is not None:
            inside = inside * surface.cut(patch)
        behind = self.depth[box]
        nearer = (depth - behind) * np.float32(self.view.px) + np.float32(0.5)
        alpha = inside * clip(nearer, 0, 1)
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


def _repeat_ends(values: np.ndarray) -> np.ndarray:
    """Repeat the first and the last value, so that a stack continues straight at its ends."""
    return np.concatenate([values[:1], values, values[-1:]])


def _wrapped(angle: np.ndarray) -> np.ndarray:
    """Angles in -pi..pi."""
    return angle - FULL_TURN * np.floor(angle / FULL_TURN + np.float32(0.5))


def _interpolate(position: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Interpolate evenly spaced `values` linearly at positions 0..1."""
    if len(values) == 2:
        return values[0] + (values[1] - values[0]) * position
    step = position * np.float32(len(values) - 1)
    left = np.minimum(step.astype(np.int32), len(values) - 2)
    return values[left] + (values[left + 1] - values[left]) * (step - left)
