"""Cameras: optics and sensor, lighting, and how light becomes an image."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

from synthvi.background import paint_panorama
from synthvi.levels import Level
from synthvi.modality import INFRARED, VISIBLE
from synthvi.place import sample_place
from synthvi.shading import Light

SUPERSAMPLE_BELOW = 192  # lower images are rendered at twice their size and averaged down


@dataclass(frozen=True)
class CameraSpec:
    """Which camera: its `number` in the layout, its modality and the number of its `place`.

    A `thermal` camera is infrared and sees emitted warmth in place of reflected light.
    """

    number: int
    modality: int
    place: int
    thermal: bool = False


@dataclass(frozen=True, eq=False)
class Camera:
    """A camera for one image size; H, W are the size of the rendering grid.

    Attributes:
        spec: which camera it is.
        indoor: whether its place is a room.
        size: (height, width) of its images in pixels.
        supersampling: H / image height, 1 or 2.
        panorama: reflectance of the background (C, h, w), larger than an image; for infrared, times
            the light of the lamp that reaches it.
        folds: how folds of cloth bend normals sideways and upwards (2, 2H, 2W).
        height: as in raster.View.
        distance: as in raster.View.
        exposure: factor on light.
        response: mixes channels (C, C).
        lamp_cone: light of the lamp (H, W) across the image.
        lamp: unit direction of the lamp, as in shading.Light.
        blur: sigma of the lens in pixels of the image.
        noise: standard deviation per pixel of the encoded value 0..1.
        row_noise: standard deviation per row.
        glow: strength of the glow around highlights.
        jpeg_quality: of the image files.
    """

    spec: CameraSpec
    indoor: bool
    size: tuple[int, int]
    supersampling: int
    panorama: np.ndarray
    folds: np.ndarray
    height: float
    distance: float
    exposure: float
    response: np.ndarray
    lamp_cone: np.ndarray
    lamp: tuple[float, float, float]
    blur: float
    noise: float
    row_noise: float
    glow: float
    jpeg_quality: int


@dataclass(frozen=True, eq=False)
class Lighting:
    """Light and exposure of one image.

    Attributes:
        light: on the person.
        background: strength on the background (C,).
        gain: factor on all light.
        noise_gain: factor on the noise; 1 in good light.
        motion_blur: in widths of the image.
    """

    light: Light
    background: np.ndarray
    gain: float
    noise_gain: float
    motion_blur: float


@lru_cache(maxsize=64)
def make_camera(seed: int, spec: CameraSpec, size: tuple[int, int]) -> Camera:
    """The camera of the world `seed` for images of `size` (height, width) in pixels."""
    rng = np.random.default_rng([seed, 29, spec.number, spec.modality])
    supersampling = 1 if size[0] >= SUPERSAMPLE_BELOW else 2
    grid = (size[0] * supersampling, size[1] * supersampling)
    place = sample_place(seed, spec.place)
    panorama, distance_behind = paint_panorama(place, spec.modality, *grid)
    # Outdoor cameras hang higher and farther away than those in rooms.
    common = {
        "spec": spec,
        "indoor": place.indoor,
        "size": size,
        "supersampling": supersampling,
        "height": float(rng.uniform(1.1, 1.9 if place.indoor else 2.6)),
        "distance": float(rng.uniform(2.2, 4.0 if place.indoor else 6.5)),
        "blur": float(rng.uniform(0.3, 0.75)) * size[0] / 128,
        "jpeg_quality": int(rng.integers(78, 93)),
        "folds": _folds(rng, grid),
    }
    if spec.modality == VISIBLE:
        settings = _visible(rng, grid)
    else:
        settings = (_thermal if spec.thermal else _infrared)(rng, grid)
        falloff = settings.pop("falloff")
        panorama = panorama / (1 + distance_behind / falloff) ** 2
    soft = 0.004 * grid[0]
    panorama = ndimage.gaussian_filter(panorama, (0, soft, soft))
    return Camera(panorama=panorama.astype(np.float32), **common, **settings)


def _folds(rng: np.random.Generator, grid: tuple[int, int]) -> np.ndarray:
    """Slopes of random wrinkles at two scales (2, 2H, 2W)."""
    height, width = 2 * grid[0], 2 * grid[1]
    field = np.zeros((height, width))
    for scale, weight in ((0.022, 1.0), (0.010, 0.4)):
        sigma = scale * grid[0]
        noise = ndimage.gaussian_filter(
            rng.standard_normal((height, width)), (sigma, 0.6 * sigma), mode="wrap"
        )
        field += weight * sigma * noise / noise.std()
    down, across = np.gradient(field)
    return np.stack([-0.20 * across, 0.20 * down]).astype(np.float32)


def _visible(rng: np.random.Generator, grid: tuple[int, int]) -> dict:
    """An imperfect white balance, some crosstalk of the channels, lamps at one side."""
    cast = np.diag(np.exp(rng.normal(0, 0.09, 3)))
    mix = float(rng.uniform(0.0, 0.2))
    response = cast @ ((1 - mix) * np.eye(3) + mix / 3)
    lamp = np.array([rng.uniform(-0.6, 0.6), 0.9, rng.uniform(0.2, 0.8)])
    return {
        "exposure": float(rng.uniform(0.95, 1.3)),
        "response": response.astype(np.float32),
        "lamp_cone": np.ones(grid, np.float32),
        "lamp": tuple(lamp / np.linalg.norm(lamp)),
        "noise": float(rng.uniform(0.008, 0.022)),
        "row_noise": 0.0,
        "glow": 0.0,
    }


def _infrared(rng: np.random.Generator, grid: tuple[int, int]) -> dict:
    """A lamp at the camera: frontal light that decreases with distance and away from its axis."""
    y, x = np.mgrid[0 : grid[0], 0 : grid[1]] / grid[0]
    centre = rng.uniform(0.3, 0.7) * grid[1] / grid[0], rng.uniform(0.3, 0.5)
    off = 2.2 * (x - centre[0]) ** 2 + (y - centre[1]) ** 2
    return {
        "exposure": float(rng.uniform(0.9, 1.3)),
        "response": np.ones((1, 1), np.float32),
        "lamp_cone": np.exp(-rng.uniform(0.6, 1.3) * off).astype(np.float32),
        "lamp": (0.0, 0.12, 0.993),
        "falloff": float(rng.uniform(1.0, 3.0)),
        "noise": float(rng.uniform(0.016, 0.03)),
        "row_noise": float(rng.uniform(0.004, 0.010)),
        "glow": float(rng.uniform(0.08, 0.25)),
    }


def _thermal(rng: np.random.Generator, grid: tuple[int, int]) -> dict:
    """No lamp: bodies emit evenly in front of a cool background."""
    return {
        "exposure": float(rng.uniform(0.9, 1.1)),
        "response": np.ones((1, 1), np.float32),
        "lamp_cone": np.ones(grid, np.float32),
        "lamp": (0.0, 0.12, 0.993),
        "falloff": float(rng.uniform(1.5, 2.5)),
        "noise": float(rng.uniform(0.01, 0.02)),
        "row_noise": 0.005,
        "glow": 0.05,
    }


def sample_lighting(camera: Camera, level: Level, rng: np.random.Generator) -> Lighting:
    """Sample the light of one image: lamps indoors; sun, clouds or dusk outdoors; infrared lamp."""
    gain = float(np.exp(rng.normal(0, 0.16 if camera.spec.modality == INFRARED else 0.09)))
    motion_blur = float(abs(rng.normal(0, 0.008))) * level.blur
    if camera.spec.modality == INFRARED:
        share = 0.75 if camera.spec.thermal else float(rng.uniform(0.12, 0.22))
        light = Light(np.array([share]), np.array([1.1 - share]), camera.lamp, 0.0)
        return Lighting(light, np.array([0.9]), gain, 1.0, motion_blur)
    if camera.indoor:
        warm = np.array([1.03, 1.0, 0.94])
        light = Light(0.55 * warm, 0.55 * warm, camera.lamp, 0.35)
        return Lighting(light, 0.85 * warm, gain, 1.0, motion_blur)
    return OUTDOORS[_weather(level, rng)](rng, gain, motion_blur)


def _weather(level: Level, rng: np.random.Generator) -> str:
    draw = rng.random()
    return "dusk" if draw < level.dusk else "sun" if draw < 2 * level.dusk else "clouds"


def _sun(rng: np.random.Generator, gain: float, motion_blur: float) -> Lighting:
    aside = rng.uniform(-0.9, 0.9)
    direction = np.array([aside, rng.uniform(0.5, 1.0), rng.uniform(0.1, 0.8)])
    light = Light(
        np.array([0.34, 0.38, 0.46]),
        np.array([0.98, 0.90, 0.76]),
        tuple(direction / np.linalg.norm(direction)),
        0.85,
    )
    return Lighting(light, np.array([0.88, 0.88, 0.84]), gain, 0.8, 0.5 * motion_blur)


def _clouds(rng: np.random.Generator, gain: float, motion_blur: float) -> Lighting:
    light = Light(np.array([0.66, 0.68, 0.72]), np.full(3, 0.36), (0.1, 0.9, 0.42), 0.12)
    return Lighting(light, np.array([0.80, 0.82, 0.86]), gain, 1.0, motion_blur)


def _dusk(rng: np.random.Generator, gain: float, motion_blur: float) -> Lighting:
    """Blue sky light and a weak orange lamp; the sensor amplifies it together with the noise."""
    direction = np.array([rng.uniform(-0.8, 0.8), 0.75, 0.5])
    light = Light(
        np.array([0.24, 0.29, 0.42]),
        np.array([0.34, 0.25, 0.14]),
        tuple(direction / np.linalg.norm(direction)),
        0.4,
    )
    return Lighting(
        light,
        np.array([0.32, 0.33, 0.42]),
        gain * float(rng.uniform(1.0, 1.6)),
        2.2,
        2.5 * motion_blur,
    )


OUTDOORS = {"sun": _sun, "clouds": _clouds, "dusk": _dusk}


def expose(
    camera: Camera, light: np.ndarray, lighting: Lighting, level: Level, rng: np.random.Generator
) -> np.ndarray:
    """Light (C, H, W) of the rendering grid -> image (h, w, 3) uint8: lens, sensor, gamma."""
    light = light * (camera.lamp_cone * np.float32(lighting.gain * camera.exposure))
    light = _downsample(light, camera.supersampling)
    if camera.spec.modality == INFRARED:
        window = 2 * (light.shape[1] // 24) + 1
        bright = ndimage.uniform_filter(np.maximum(light[0] - 0.5, 0), window)
        light[0] += np.float32(camera.glow * 3) * bright
    else:
        light = _mix_channels(camera.response, light)
    sigma = camera.blur * level.blur
    light = ndimage.gaussian_filter(light, (0, sigma, sigma), truncate=2.5)
    motion_blur = round(lighting.motion_blur * light.shape[1])
    if motion_blur > 1:
        light = ndimage.uniform_filter1d(light, motion_blur, axis=2)
    value = np.sqrt(np.clip(light, 0, 1))
    # The sensor has the resolution of the rendering grid: averaging pixels averages noise too.
    strength = lighting.noise_gain * level.noise / camera.supersampling
    value += np.float32(camera.noise * strength) * rng.standard_normal(value.shape, np.float32)
    lines = np.float32(camera.row_noise * level.noise / camera.supersampling**0.5)
    value += lines * rng.standard_normal((1, value.shape[1], 1), np.float32)
    image = (np.clip(value, 0, 1) * 255 + 0.5).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(image, (3, *image.shape[1:])).transpose(1, 2, 0))


def _downsample(light: np.ndarray, k: int) -> np.ndarray:
    """Means of k x k pixels, added in a fixed order so that every machine rounds alike."""
    if k == 1:
        return light
    parts = [light[:, i::k, j::k] for i in range(k) for j in range(k)]
    return sum(parts[1:], parts[0]) * np.float32(1 / (k * k))


def _mix_channels(response: np.ndarray, light: np.ndarray) -> np.ndarray:
    """response @ light over the channels, added in a fixed order, which a BLAS does not promise."""
    return np.stack([sum(row[c] * light[c] for c in range(len(light))) for row in response])
