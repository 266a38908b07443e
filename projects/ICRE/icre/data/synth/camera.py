"""Cameras: light, place, optics and sensor, and how light becomes the bytes of an image."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

from icre.modality import INFRARED, VISIBLE

from . import scene
from .raster import Light

FINE = 128  # images lower than this are rendered at twice their size and averaged down


@dataclass(frozen=True)
class CameraSpec:
    """Which camera: its `number` in the layout, its modality and the number of its place.

    A `thermal` camera of the infrared modality sees warmth, not reflected light.
    """

    number: int
    modality: int
    place: int
    thermal: bool = False


@dataclass(frozen=True, eq=False)
class Camera:
    """A camera for one image size. Lengths in pixels of the rendering grid.

    `panorama` (C, h, w) is the lit background; `folds` cloth relief; `pitch` and `perspective` as
    in raster.View; `response` (C, C) mixes channels; `blur` is a sigma; `noise` and `row_noise` are
    standard deviations of the encoded value 0..1; `glow` how strong highlights bleed (infrared).
    """

    modality: int
    size: tuple[int, int]
    shrink: int
    panorama: np.ndarray
    folds: np.ndarray
    light: Light
    pitch: float
    perspective: float
    exposure: float
    response: np.ndarray
    falloff: np.ndarray
    blur: float
    noise: float
    row_noise: float
    glow: float
    quality: int


@lru_cache(maxsize=64)
def make_camera(seed: int, spec: CameraSpec, size: tuple[int, int]) -> Camera:
    """The camera of the world `seed` for images of `size` (height, width) in pixels."""
    rng = np.random.default_rng([seed, 29, spec.number, spec.modality])
    shrink = 1 if size[0] >= FINE else 2
    grid = (size[0] * shrink, size[1] * shrink)
    panorama = scene.paint(scene.sample_place(seed, spec.place), spec.modality, *grid)
    folds = ndimage.gaussian_filter(rng.standard_normal((2 * grid[0], 2 * grid[1])), (3.0, 1.5),
                                    mode="wrap") * 3.0
    common = {
        "modality": spec.modality, "size": size, "shrink": shrink,
        "folds": (1 + 0.10 * np.clip(folds, -1.5, 1.5)).astype(np.float32),
        "pitch": float(rng.uniform(0.03, 0.3)), "perspective": float(rng.uniform(0.0, 0.14)),
        "blur": float(rng.uniform(0.3, 0.9)) * grid[0] / 128, "quality": int(rng.integers(80, 93)),
    }
    make = _visible if spec.modality == VISIBLE else _thermal if spec.thermal else _infrared
    settings = make(rng, grid)
    far = settings.pop("far")
    panorama = ndimage.gaussian_filter(panorama * far, (0, 0.006 * grid[0], 0.006 * grid[0]))
    return Camera(panorama=panorama.astype(np.float32), **common, **settings)


def _visible(rng: np.random.Generator, grid: tuple[int, int]) -> dict:
    """Daylight or lamps: a main direction, a colour cast, a little crosstalk of the channels."""
    slant = float(rng.uniform(-0.7, 0.7))
    direction = np.array([slant, 0.45, 0.75])
    cast = np.diag(np.exp(rng.normal(0, 0.13, 3)))
    mix = float(rng.uniform(0.0, 0.18))
    response = cast @ ((1 - mix) * np.eye(3) + mix / 3)
    return {
        "light": Light(float(rng.uniform(0.35, 0.6)), float(rng.uniform(0.5, 0.8)),
                       tuple(direction / np.linalg.norm(direction))),
        "exposure": float(rng.uniform(0.75, 1.25)), "response": response.astype(np.float32),
        "falloff": np.ones(grid, np.float32), "far": float(rng.uniform(0.7, 1.0)),
        "noise": float(rng.uniform(0.01, 0.035)), "row_noise": 0.0, "glow": 0.0,
    }


def _infrared(rng: np.random.Generator, grid: tuple[int, int]) -> dict:
    """A lamp at the camera: flat frontal light that falls off with distance and off its axis."""
    y, x = np.mgrid[0:grid[0], 0:grid[1]] / grid[0]
    centre = rng.uniform(0.3, 0.7) * grid[1] / grid[0], rng.uniform(0.3, 0.5)
    spot = 2.2 * (x - centre[0]) ** 2 + (y - centre[1]) ** 2
    return {
        "light": Light(float(rng.uniform(0.12, 0.22)), float(rng.uniform(0.85, 1.0)),
                       (0.0, 0.05, 0.998)),
        "exposure": float(rng.uniform(0.95, 1.3)), "response": np.ones((1, 1), np.float32),
        "falloff": np.exp(-rng.uniform(0.7, 1.4) * spot).astype(np.float32),
        "far": float(rng.uniform(0.14, 0.4)),
        "noise": float(rng.uniform(0.018, 0.034)), "row_noise": float(rng.uniform(0.004, 0.012)),
        "glow": float(rng.uniform(0.05, 0.2)),
    }


def _thermal(rng: np.random.Generator, grid: tuple[int, int]) -> dict:
    """No lamp: bodies glow evenly before a cool background, which the lens shows softly."""
    return {
        "light": Light(0.75, 0.25, (0.0, 0.0, 1.0)), "exposure": float(rng.uniform(0.9, 1.1)),
        "response": np.ones((1, 1), np.float32), "falloff": np.ones(grid, np.float32),
        "far": float(rng.uniform(0.2, 0.35)), "noise": float(rng.uniform(0.01, 0.02)),
        "row_noise": 0.005, "glow": 0.05,
    }


def expose(camera: Camera, light: np.ndarray, gain: float,
           rng: np.random.Generator) -> np.ndarray:
    """Light (C, H, W), changed in place, -> image (h, w, 3) uint8: optics, sensor, gamma."""
    light *= camera.falloff * np.float32(gain * camera.exposure)
    if camera.modality == INFRARED:
        reach = 2 * (light.shape[1] // 24) + 1
        bright = ndimage.uniform_filter(np.maximum(light[0] - 0.5, 0), reach)
        light[0] += camera.glow * 3 * bright
    else:
        light = np.tensordot(camera.response, light, axes=1)
    light = ndimage.gaussian_filter(light, (0, camera.blur, camera.blur), truncate=2.5)
    if camera.shrink > 1:
        channels, height, width = light.shape
        k = camera.shrink
        light = light.reshape(channels, height // k, k, width // k, k).mean(axis=(2, 4))
    value = np.sqrt(np.clip(light, 0, 1))
    # The sensor is as fine as the rendering grid: averaging pixels down averages its noise too.
    noise, row_noise = camera.noise / camera.shrink, camera.row_noise / camera.shrink**0.5
    value += noise * rng.standard_normal(value.shape, dtype=np.float32)
    value += row_noise * rng.standard_normal((1, value.shape[1], 1), dtype=np.float32)
    image = (np.clip(value, 0, 1) * 255 + 0.5).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(image, (3, *image.shape[1:])).transpose(1, 2, 0))
