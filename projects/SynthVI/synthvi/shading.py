"""Light on a person: ambient and direct light, ambient occlusion, and the shadow on the ground."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from synthvi import portable_math
from synthvi.portable_math import clip
from synthvi.raster import Canvas
from synthvi.solids import Limb, Solid

OCCLUSION_GAIN = 5.0  # loss of ambient light per body height that the surroundings are nearer
OCCLUSION_RADIUS = 0.035  # of the surroundings of a point, in body heights


@dataclass(frozen=True, eq=False)
class Light:
    """Light on the person.

    Attributes:
        ambient: strength per channel (C,).
        direct: strength per channel (C,).
        direction: unit vector to the direct light: x right, y up, z towards the camera.
        shadow: how dark its cast shadow is, 0..1.
    """

    ambient: np.ndarray
    direct: np.ndarray
    direction: tuple[float, float, float]
    shadow: float


def reflected_light(canvas: Canvas, light: Light) -> np.ndarray:
    """Reflected light (C, H, W) of the solids on a canvas, times their cover."""
    nx, ny, nz = canvas.normal
    lx, ly, lz = (np.float32(v) for v in light.direction)
    facing = np.maximum(nx * lx + ny * ly + nz * lz, 0) / np.maximum(canvas.cover, 0.1)
    reach = 2 * max(int(OCCLUSION_RADIUS * canvas.view.px), 1) + 1
    depth = np.maximum(canvas.depth, -0.3)
    near = ndimage.uniform_filter(depth, reach, mode="nearest") - depth
    open_sky = 1 - clip(near * np.float32(OCCLUSION_GAIN), 0, 0.45)
    above = np.float32(0.85) + np.float32(0.15) * ny
    ambient = light.ambient.astype(np.float32)[:, None, None]
    direct = light.direct.astype(np.float32)[:, None, None]
    return canvas.albedo * (ambient * (above * open_sky) + direct * (facing * np.sqrt(open_sky)))


def ground_shadow(canvas: Canvas, solids: list[Solid], light: Light) -> np.ndarray:
    """Share of light (H, W) that reaches the ground: less below the person and in the cast shadow.

    The axis of each solid is projected along the light onto the ground and drawn as a soft stroke.
    """
    height, width = canvas.cover.shape
    step = 2
    x, y = canvas.x[None, ::step], canvas.y[::step, None]
    sin, _ = canvas.tilt
    flat = max(sin, 0.12)
    x_off, y_off = x / np.float32(0.13), y / np.float32(0.25 * flat)
    dark = np.float32(0.8) * portable_math.bell(x_off * x_off + y_off * y_off)
    lx, ly, lz = light.direction
    strokes = [_axis(canvas, solid) for solid in solids]
    for start, end, radius in strokes if light.shadow > 0.1 else ():
        (x0, x1), (y0, y1) = _cast_to_ground(canvas, np.array([start, end]), lx / ly, lz / ly)
        dx, dy = x1 - x0, (y1 - y0) / flat
        ex, ey = x - np.float32(x0), (y - np.float32(y0)) / np.float32(flat)
        along = clip(
            (ex * np.float32(dx) + ey * np.float32(dy)) / np.float32(max(dx * dx + dy * dy, 1e-6)),
            0,
            1,
        )
        ex, ey = ex - along * np.float32(dx), ey - along * np.float32(dy)
        far = (ex * ex + ey * ey) / np.float32(radius * radius)
        np.maximum(dark, np.float32(light.shadow) * clip(2.2 - 1.2 * far, 0, 1), out=dark)
    dark = ndimage.uniform_filter(dark, max(int(0.02 * canvas.view.px), 1), mode="nearest")
    dark = dark.repeat(step, 0).repeat(step, 1)[:height, :width]
    return 1 - np.float32(0.75) * dark


def _axis(canvas: Canvas, solid: Solid) -> tuple[np.ndarray, np.ndarray, float]:
    """The ends (3,) of a solid's axis in camera directions, and its mean radius."""
    if isinstance(solid, Limb):
        ends, radius = np.array([solid.start, solid.end]), float(np.mean(solid.radii))
    else:
        lateral, forward = solid.centre
        ends = np.array([[lateral, height, forward] for height in solid.heights[[0, -1]]])
        radius = float(np.mean(solid.lateral + solid.forward)) / 2
    x, z = canvas.rotate(ends[:, 0], ends[:, 2])
    return np.array([x[0], ends[0, 1], z[0]]), np.array([x[1], ends[1, 1], z[1]]), radius


def _cast_to_ground(
    canvas: Canvas, points: np.ndarray, aside: float, ahead: float
) -> tuple[np.ndarray, np.ndarray]:
    """Screen coordinates (x, y) of points (n, 3) projected onto the ground along the light."""
    x, y, z = points.T
    sx, sy, _ = canvas.view.project(x - aside * y, 0 * y, z - ahead * y)
    return sx, sy
