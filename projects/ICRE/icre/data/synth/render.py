"""One image: a person at a moment, before a camera."""

from dataclasses import dataclass

import numpy as np

from icre.modality import INFRARED

from .body import Pose, sample_pose, solids
from .camera import Camera, expose
from .materials import GARMENT_COLOURS, draw_material
from .person import Person
from .raster import Canvas, View

DIRECTIONS = 8
OCCLUDED = 0.06  # share of images with something before the person


@dataclass(frozen=True)
class Moment:
    """What a camera does not decide: pose, walking direction `yaw`, and the jitter of the box
    (`scale` factor, `shift` (x, y) in fractions of the box)."""

    pose: Pose
    yaw: float
    scale: float
    shift: tuple[float, float]


def sample_moment(rng: np.random.Generator) -> Moment:
    """One of eight walking directions, a little off, at a random phase of the walk."""
    yaw = 2 * np.pi * rng.integers(DIRECTIONS) / DIRECTIONS + rng.normal(0, 0.1)
    return Moment(sample_pose(rng), float(yaw), float(rng.uniform(0.95, 1.04)),
                  (float(rng.normal(0, 0.025)), float(rng.normal(0, 0.01))))


def render(person: Person, camera: Camera, moment: Moment, rng: np.random.Generator) -> np.ndarray:
    """Image (height, width, 3) uint8 of the camera's size; `rng` decides scene crop and noise."""
    height, width = (camera.shrink * n for n in camera.size)
    rows, cols = camera.panorama.shape[1:]
    top = int(rng.integers(rows - height + 1))
    left = int(rng.integers(cols - width + 1))
    background = camera.panorama[:, top:top + height, left:left + width].copy()
    relief = (int(rng.integers(height)), int(rng.integers(width)))
    folds = camera.folds[relief[0]:relief[0] + height, relief[1]:relief[1] + width]
    tall = 0.55 + 0.45 * person.body.height / 1.7
    view = View(moment.yaw, camera.pitch, camera.perspective, 0.875 * height * moment.scale * tall,
                (width * (0.5 + moment.shift[0]), height * (0.95 + moment.shift[1])))
    canvas = Canvas(background, view, camera.light, camera.modality, folds)
    _ground_shadow(canvas)
    canvas.paint(solids(person, moment.pose, moment.yaw))
    if rng.random() < OCCLUDED:
        _occlude(canvas.image, camera, rng)
    gain = float(np.exp(rng.normal(0, 0.16 if camera.modality == INFRARED else 0.1)))
    return expose(camera, canvas.image, gain, rng)


def _ground_shadow(canvas: Canvas) -> None:
    """A soft dark ellipse where the feet meet the ground, drawn out away from the light."""
    lx, _, _ = canvas.light.direction
    x, y = canvas.x[None, :], canvas.y[:, None]
    contact = np.exp(-(x / 0.15) ** 2 - ((y - 0.005) / 0.03) ** 2)
    cast = np.exp(-((x + 0.22 * lx) / (0.12 + 0.2 * abs(lx))) ** 2 - ((y - 0.02) / 0.035) ** 2)
    canvas.image *= (1 - 0.5 * contact) * (1 - 0.4 * abs(lx) * cast)


def _occlude(image: np.ndarray, camera: Camera, rng: np.random.Generator) -> None:
    """Something between camera and person: a post, or a low thing at one side."""
    height, width = image.shape[1:]
    stuff = draw_material(rng, GARMENT_COLOURS).values(camera.modality) * 0.8
    post = rng.random() < 0.5
    wide = int(width * (rng.uniform(0.06, 0.12) if post else rng.uniform(0.2, 0.45)))
    left = int(rng.integers(-wide // 2, width - wide // 2)) if post else int(
        rng.choice((0, width - wide)))
    top = 0 if post else int(height * rng.uniform(0.62, 0.85))
    left = max(left, 0)
    x = np.linspace(-1, 1, wide, dtype=np.float32)[:width - left]
    image[:, top:, left:left + wide] = stuff * (0.55 + 0.45 * np.sqrt(1 - 0.9 * x * x))
