"""Paints solids into an image of reflected light: vectorised coverage, shading and soft contact.

Everything is analytic (a solid's outline, normal and surface coordinates are closed forms of the
pixel), anti-aliased, and restricted to the solid's bounding box.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .solids import Chain, Limb, Patch, Solid, Stack, Surface


@dataclass(frozen=True)
class View:
    """How a person is seen.

    `yaw`: the person's turn (0 walks toward the camera, pi/2 to the right); `pitch`: the camera's
    tilt downwards in radians; `perspective`: how much nearer things high up look; `px`: pixels per
    body height; `foot`: (x, y) of the ground point in pixels.
    """

    yaw: float
    pitch: float
    perspective: float
    px: float
    foot: tuple[float, float]


@dataclass(frozen=True)
class Light:
    """`ambient` and `direct` strength, and the direct light's unit `direction` (x right, y up, z to
    the camera)."""

    ambient: float
    direct: float
    direction: tuple[float, float, float]


class Trace(NamedTuple):
    """A limb on the screen, per pixel of its box: `far` from the axis in radii, `radius`, place
    `along` the axis (0..1) and `side` across it (-1..1); `way` is its unit direction (x, y)."""

    box: tuple[slice, slice]
    far: np.ndarray
    radius: np.ndarray
    along: np.ndarray
    side: np.ndarray
    way: tuple[float, float]


class Canvas:
    """Linear light `image` (C, H, W) that solids are painted on; `cover` (H, W): where they are."""

    def __init__(self, background: np.ndarray, view: View, light: Light, modality: int,
                 folds: np.ndarray) -> None:
        """`background` (C, H, W) float32 is painted over; `folds` (>= H, >= W) is cloth relief."""
        self.image, self.view, self.light, self.modality = background, view, light, modality
        _, height, width = background.shape
        self.cover = np.zeros((height, width), np.float32)
        self.folds = folds
        self.x = ((np.arange(width, dtype=np.float32) + 0.5) - view.foot[0]) / view.px
        self.y = (view.foot[1] - (np.arange(height, dtype=np.float32) + 0.5)) / view.px
        self.sin, self.cos = float(np.sin(view.yaw)), float(np.cos(view.yaw))
        self.tilt = (float(np.sin(view.pitch)), float(np.cos(view.pitch)))

    def paint(self, solids: list[Solid]) -> None:
        """Paint the solids, farthest (lowest order) first."""
        for solid in sorted(solids, key=lambda s: s.order):
            (self._stack if isinstance(solid, Stack) else self._chain)(solid)

    def project(self, point: np.ndarray) -> tuple[float, float]:
        """Screen position (x, y) of a body point, in body heights from the ground point."""
        lateral, y, forward = (float(c) for c in point)
        grow = 1 + self.view.perspective * (y - 0.5)
        depth = forward * self.cos - lateral * self.sin
        across = lateral * self.cos + forward * self.sin
        return across * grow, y * self.tilt[1] - depth * self.tilt[0]

    def _box(self, x0: float, x1: float, y0: float, y1: float) -> tuple[slice, slice] | None:
        """Pixel rows and columns that cover a rectangle with a margin of two, None if outside."""
        px, (fx, fy) = self.view.px, self.view.foot
        rows = slice(max(int(fy - y1 * px) - 2, 0), min(int(fy - y0 * px) + 3, len(self.y)))
        cols = slice(max(int(fx + x0 * px) - 2, 0), min(int(fx + x1 * px) + 3, len(self.x)))
        return (rows, cols) if rows.start < rows.stop and cols.start < cols.stop else None

    def _stack(self, stack: Stack) -> None:
        px, (sin_p, cos_p) = self.view.px, self.tilt
        turn = self.view.yaw + stack.turn
        sin, cos = float(np.sin(turn)), float(np.cos(turn))
        wide = np.hypot(stack.lateral * cos, stack.forward * sin)
        reach = float(wide.max()) * (1 + self.view.perspective)
        x0, y0 = self.project(np.array([stack.centre[0], 0.0, stack.centre[1]]))
        slack = abs(stack.lean * 0.5) + reach
        low, high = float(stack.heights[0]), float(stack.heights[-1])
        sag = float(stack.forward.max() + stack.lateral.max()) * sin_p
        box = self._box(x0 - slack, x0 + slack, low * cos_p + y0 - sag, high * cos_p + y0 + sag)
        if box is None:
            return
        y = (self.y[box[0]] - y0) / cos_p
        a = np.maximum(np.interp(y, stack.heights, stack.lateral), 1e-4)
        b = np.maximum(np.interp(y, stack.heights, stack.forward), 1e-4)
        w = np.hypot(a * cos, b * sin)
        grow = 1 + self.view.perspective * (y - 0.5)
        axis = (x0 + stack.lean * (y - 0.5) * self.sin) * grow
        half = (w * grow).astype(np.float32)[:, None]
        v = (self.x[None, box[1]] - axis.astype(np.float32)[:, None]) / half
        inside = np.clip((1 - np.abs(v)) * half * px + 0.5, 0, 1)
        v = np.clip(v, -1, 1)
        nz = np.sqrt(1 - v * v)
        bulge = (a * b / w * (sin_p / cos_p)).astype(np.float32)[:, None]
        y = y.astype(np.float32)[:, None] + bulge * nz
        inside *= np.clip((y - low) * px + 0.5, 0, 1) * np.clip((high - y) * px + 0.5, 0, 1)
        tau = np.arcsin(v) - np.arctan2(b * sin, a * cos).astype(np.float32)[:, None]
        tau = tau - 2 * np.pi * np.floor(tau / (2 * np.pi) + 0.5)
        patch = Patch(y, tau, tau * float(stack.lateral.max() + stack.forward.max()) / 2, px)
        self._blend(box, inside, v, np.float32(0.15), nz, patch, stack.surface)

    def _chain(self, chain: Chain) -> None:
        """All shadows before all limbs: joined limbs do not darken each other at the joint."""
        traces = [(limb, trace) for limb in chain.limbs if (trace := self._trace(limb))]
        for _, trace in traces:
            near = np.clip((1.7 - trace.far) * trace.radius * (0.5 * self.view.px), 0, 1)
            self.image[(slice(None), *trace.box)] *= 1 - 0.3 * near * self.cover[trace.box]
        for limb, trace in traces:
            self._limb(limb, trace)

    def _trace(self, limb: Limb) -> Trace | None:
        (x0, y0), (x1, y1) = self.project(limb.start), self.project(limb.end)
        reach = 1.7 * max(limb.radii)
        box = self._box(min(x0, x1) - reach, max(x0, x1) + reach,
                        min(y0, y1) - reach, max(y0, y1) + reach)
        if box is None:
            return None
        dx, dy = x1 - x0, y1 - y0
        length = max(float(np.hypot(dx, dy)), 1e-4)
        ex, ey = self.x[None, box[1]] - np.float32(x0), self.y[box[0], None] - np.float32(y0)
        along = np.clip((ex * dx + ey * dy) / length ** 2, 0, 1)
        radius = limb.radii[0] + (limb.radii[1] - limb.radii[0]) * along
        ex, ey = ex - along * dx, ey - along * dy
        side = np.clip((ex * dy - ey * dx) / (length * radius), -1, 1)
        return Trace(box, np.sqrt(ex * ex + ey * ey) / radius, radius, along, side,
                     (dx / length, dy / length))

    def _limb(self, limb: Limb, trace: Trace) -> None:
        px, side, way = self.view.px, trace.side, trace.way
        inside = np.clip((1 - trace.far) * trace.radius * px + 0.5, 0, 1)
        nz = np.sqrt(1 - side * side)
        tau = np.arcsin(-side if way[1] < 0 else side) - np.float32(self.view.yaw)
        tau = tau - 2 * np.pi * np.floor(tau / (2 * np.pi) + 0.5)
        real = float(np.linalg.norm(limb.end - limb.start))
        patch = Patch(trace.along * real, tau, tau * limb.radii[0], px)
        self._blend(trace.box, inside, side * way[1], -side * way[0], nz, patch, limb.surface)

    def _blend(self, box: tuple[slice, slice], inside: np.ndarray, nx: np.ndarray, ny: np.ndarray,
               nz: np.ndarray, patch: Patch, surface: Surface) -> None:
        if surface.cut is not None:
            inside = inside * surface.cut(patch)
        lx, ly, lz = self.light.direction
        facing = np.maximum(nx * lx + ny * ly + nz * lz, 0)
        shade = (self.light.ambient + self.light.direct * facing) * self.folds[box]
        target = self.image[(slice(None), *box)]
        target += inside * (surface.colour(patch, self.modality) * shade - target)
        self.cover[box] = np.maximum(self.cover[box], inside)
