"""Render one image: a person at a moment in front of a camera."""

from dataclasses import dataclass

import numpy as np

from synthvi.body import Pose, sample_pose, solids
from synthvi.camera import Camera, expose, sample_lighting
from synthvi.identities import sample_independent_person
from synthvi.levels import Level
from synthvi.materials import GARMENT_COLOURS, Cloth, Weave, sample_contrasting, sample_material
from synthvi.person import Person, as_thermal
from synthvi.raster import Canvas, View
from synthvi.shading import ground_shadow, reflected_light

DIRECTIONS = 8
BOX_FILL = 0.875  # share of the image height that a person of 1.70 m fills
PASSER_BY_SHARE = 0.35  # of occlusions


@dataclass(frozen=True)
class Moment:
    """What is the same in all cameras that see a moment.

    Attributes:
        pose: of the person.
        yaw: walking direction in radians, as in raster.View.
        scale: factor on the size of the person in the bounding box.
        shift: (x, y) of the person in fractions of the bounding box.
    """

    pose: Pose
    yaw: float
    scale: float
    shift: tuple[float, float]


def sample_moment(rng: np.random.Generator, level: Level) -> Moment:
    """Sample a pose, one of eight walking directions with noise, and the error of the box."""
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
    """Render an image (height, width, 3) uint8; `rng` decides crop, light, occlusion and noise."""
    height, width = (camera.supersampling * n for n in camera.size)
    background = _crop(camera.panorama, height, width, rng)
    folds = _crop(camera.folds, height, width, rng)
    lighting = sample_lighting(camera, level, rng)
    canvas = Canvas(
        (height, width),
        _view(person, camera, moment, (height, width), rng),
        camera.spec.modality,
        folds,
    )
    body = solids(person, moment.pose)
    strength = lighting.background.astype(np.float32)[:, None, None]
    image = background * strength * ground_shadow(canvas, body, lighting.light)
    canvas.paint(body)
    if rng.random() < level.occluded:
        _occlude(canvas, camera, level, rng)
    image = image * (1 - canvas.cover) + reflected_light(canvas, lighting.light)
    return expose(camera, image, lighting, level, rng)


def _crop(field: np.ndarray, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    top = int(rng.integers(field.shape[1] - height + 1))
    left = int(rng.integers(field.shape[2] - width + 1))
    return field[:, top : top + height, left : left + width]


def _view(
    person: Person, camera: Camera, moment: Moment, size: tuple[int, int], rng: np.random.Generator
) -> View:
    """The view, scaled so that the person fills the image as in the box of a detector."""
    height, width = size
    distance = camera.distance * float(rng.uniform(0.85, 1.2))
    unit = View(moment.yaw, camera.height, distance, 1.0, (0.0, 0.0))
    tall = float(unit.project(0.0, 1.0, 0.0)[1])
    stature = 0.6 + 0.4 * person.build.height / 1.7
    return View(
        moment.yaw,
        camera.height,
        distance,
        BOX_FILL * height * moment.scale * stature / tall,
        (width * (0.5 + moment.shift[0]), height * (0.945 + moment.shift[1])),
    )


def _occlude(canvas: Canvas, camera: Camera, level: Level, rng: np.random.Generator) -> None:
    """Paint an object in front of the person: a passer-by, a post, or a low wall."""
    height, width = canvas.cover.shape
    if rng.random() < PASSER_BY_SHARE:
        side = int(rng.choice((-1, 1)))
        passer = sample_independent_person(rng, level)
        passer = as_thermal(passer) if camera.spec.thermal else passer
        view = canvas.view
        canvas.depth -= 2.0
        canvas.set_view(
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
        canvas.set_view(view)
        return
    post = rng.random() < 0.5
    wide = width * (rng.uniform(0.06, 0.12) if post else rng.uniform(0.2, 0.5))
    left = rng.uniform(0, width - wide) if post else rng.choice((0.0, width - wide))
    _paint_barrier(
        canvas,
        float(left),
        float(wide),
        0.0 if post else height * float(rng.uniform(0.6, 0.85)),
        rng,
    )


def _paint_barrier(
    canvas: Canvas, left: float, wide: float, top: float, rng: np.random.Generator
) -> None:
    """Paint a round post or a low wall, `wide` pixels from `left` and from `top` downwards."""
    height, width = canvas.cover.shape
    x = np.arange(width, dtype=np.float32)[None, :] + 0.5
    y = np.arange(height, dtype=np.float32)[:, None] + 0.5
    inside = (
        np.clip(x - left + 0.5, 0, 1)
        * np.clip(left + wide - x + 0.5, 0, 1)
        * np.clip(y - top + 0.5, 0, 1)
    ).astype(np.float32)
    base = sample_material(rng, GARMENT_COLOURS)
    weave = Weave(str(rng.choice(["plain", "hoops", "tiles"])), 0.12)
    cloth = Cloth(base, sample_contrasting(rng, base, 0.3), weave)
    px = canvas.view.px
    colour = cloth.colour(canvas.modality, y / px + 0 * x, x / px + 0 * y, px)
    across = np.clip(2 * (x - left) / wide - 1, -1, 1).astype(np.float32)
    normal = (across, 0 * across, np.sqrt(1 - across * across))
    canvas.albedo += inside * (colour - canvas.albedo)
    for axis, part in enumerate(normal):
        canvas.normal[axis] += inside * (part - canvas.normal[axis])
    canvas.cover += inside * (1 - canvas.cover)
    canvas.depth[inside > 0.5] = 0.5
