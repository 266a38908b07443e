"""One image: a person at a moment, before a camera."""

from dataclasses import dataclass

import numpy as np
from .body import Pose, sample_pose, solids
from .camera import Camera, expose, sample_hour
from .levels import Level
from .materials import GARMENT_COLOURS, Cloth, Weave, draw_contrast, draw_material
from .people import draw_person
from .person import Person, as_thermal
from .raster import Canvas, View
from .shade import ground_shadow, lit

DIRECTIONS = 8
FILLS = 0.875  # share of the box's height that a person of 1.70 m fills
PASSERS = 0.35  # share of occlusions that are another person


@dataclass(frozen=True)
class Moment:
    """What a camera does not decide: pose, walking direction `yaw`, and the jitter of the box
    (`scale` factor, `shift` (x, y) in fractions of the box)."""

    pose: Pose
    yaw: float
    scale: float
    shift: tuple[float, float]


def sample_moment(rng: np.random.Generator, level: Level) -> Moment:
    """One of eight walking directions, a little off, at a random phase of the walk."""
    yaw = 2 * np.pi * rng.integers(DIRECTIONS) / DIRECTIONS + rng.normal(0, 0.1)
    k = level.jitter
    return Moment(
        sample_pose(rng),
        float(yaw),
        float(1 + k * rng.uniform(-0.05, 0.04)),
        (float(k * rng.normal(0, 0.03)), float(k * rng.normal(0, 0.010))),
    )


def render(
    person: Person, camera: Camera, moment: Moment, level: Level, rng: np.random.Generator
) -> np.ndarray:
    """Image (height, width, 3) uint8 of the camera's size; `rng` decides crop, light and noise."""
    height, width = (camera.shrink * n for n in camera.size)
    background = _crop(camera.panorama, height, width, rng)
    folds = _crop(camera.folds, height, width, rng)
    hour = sample_hour(camera, level, rng)
    canvas = Canvas(
        (height, width),
        _view(person, camera, moment, (height, width), rng),
        camera.spec.modality,
        folds,
    )
    body = solids(person, moment.pose)
    around = hour.around.astype(np.float32)[:, None, None]
    image = background * around * ground_shadow(canvas, body, hour.light)
    canvas.paint(body)
    if rng.random() < level.occluded:
        _occlude(canvas, camera, level, rng)
    image = image * (1 - canvas.cover) + lit(canvas, hour.light)
    return expose(camera, image, hour, level, rng)


def _crop(field: np.ndarray, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    top = int(rng.integers(field.shape[1] - height + 1))
    left = int(rng.integers(field.shape[2] - width + 1))
    return field[:, top : top + height, left : left + width]


def _view(
    person: Person, camera: Camera, moment: Moment, size: tuple[int, int], rng: np.random.Generator
) -> View:
    """The camera's view, scaled so that the person fills the box as a detector cuts it."""
    height, width = size
    distance = camera.distance * float(rng.uniform(0.85, 1.2))
    unit = View(moment.yaw, camera.height, distance, 1.0, (0.0, 0.0))
    tall = float(unit.project(0.0, 1.0, 0.0)[1])
    grown = 0.6 + 0.4 * person.build.height / 1.7
    return View(
        moment.yaw,
        camera.height,
        distance,
        FILLS * height * moment.scale * grown / tall,
        (width * (0.5 + moment.shift[0]), height * (0.945 + moment.shift[1])),
    )


def _occlude(canvas: Canvas, camera: Camera, level: Level, rng: np.random.Generator) -> None:
    """Something nearer than the person: a passer-by half in the box, a post, or a low thing."""
    height, width = canvas.cover.shape
    if rng.random() < PASSERS:
        side = int(rng.choice((-1, 1)))
        passer = draw_person(rng, level)
        passer = as_thermal(passer) if camera.spec.thermal else passer
        view = canvas.view
        canvas.depth -= 2.0
        canvas.look_from(
            View(
                float(rng.uniform(0, 2 * np.pi)),
                view.height,
                view.distance,
                1.12 * view.px,
                (
                    view.foot[0] + side * width * rng.uniform(0.42, 0.6),
                    view.foot[1] + 0.05 * height,
                ),
            )
        )
        canvas.paint(solids(passer, sample_pose(rng)))
        canvas.look_from(view)
        return
    post = rng.random() < 0.5
    wide = width * (rng.uniform(0.06, 0.12) if post else rng.uniform(0.2, 0.5))
    left = rng.uniform(0, width - wide) if post else rng.choice((0.0, width - wide))
    _slab(
        canvas,
        float(left),
        float(wide),
        0.0 if post else height * float(rng.uniform(0.6, 0.85)),
        rng,
    )


def _slab(canvas: Canvas, left: float, wide: float, top: float, rng: np.random.Generator) -> None:
    """A round post or a low wall, painted over the drawn surfaces."""
    height, width = canvas.cover.shape
    x = np.arange(width, dtype=np.float32)[None, :] + 0.5
    y = np.arange(height, dtype=np.float32)[:, None] + 0.5
    inside = (
        np.clip(x - left + 0.5, 0, 1)
        * np.clip(left + wide - x + 0.5, 0, 1)
        * np.clip(y - top + 0.5, 0, 1)
    ).astype(np.float32)
    base = draw_material(rng, GARMENT_COLOURS)
    weave = Weave(str(rng.choice(["plain", "hoops", "tiles"])), 0.12)
    cloth = Cloth(base, draw_contrast(rng, base, 0.3), weave)
    px = canvas.view.px
    colour = cloth.colour(canvas.modality, y / px + 0 * x, x / px + 0 * y, px)
    across = np.clip(2 * (x - left) / wide - 1, -1, 1).astype(np.float32)
    normal = (across, 0 * across, np.sqrt(1 - across * across))
    canvas.albedo += inside * (colour - canvas.albedo)
    for axis, part in enumerate(normal):
        canvas.normal[axis] += inside * (part - canvas.normal[axis])
    canvas.cover += inside * (1 - canvas.cover)
    canvas.depth[inside > 0.5] = 0.5
