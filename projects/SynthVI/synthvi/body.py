"""A walking body: the joints of a pose, and all solids of a person in it."""

from dataclasses import dataclass

import numpy as np

from synthvi import accessories, head, outfit
from synthvi.person import SKIRTS, Person
from synthvi.solids import Limb, Solid, Stack, Surface, uniform

# The trunk from crotch to neck in body heights, after common anthropometric tables: height,
# half-width, half-depth, forward shift of the axis.
_TRUNK = [
    (0.44, 0.086, 0.064, -0.006),
    (0.48, 0.094, 0.07, -0.009),
    (0.515, 0.096, 0.073, -0.01),
    (0.55, 0.092, 0.069, -0.006),
    (0.585, 0.084, 0.063, 0),
    (0.62, 0.079, 0.06, 0.004),
    (0.66, 0.082, 0.063, 0.005),
    (0.7, 0.089, 0.068, 0.006),
    (0.74, 0.096, 0.071, 0.005),
    (0.775, 0.103, 0.068, 0),
    (0.8, 0.104, 0.06, -0.004),
    (0.82, 0.094, 0.05, -0.004),
    (0.837, 0.066, 0.042, -0.002),
    (0.86, 0.036, 0.034, 0),
]
HEIGHTS, LATERAL, FORWARD, AXIS = np.array(_TRUNK).T.copy()
HIP, SHOULDER, HANG_BELOW = 0.510, 0.784, 0.5  # below the last, a coat or skirt hangs freely
THIGH, SHIN, UPPER_ARM, FOREARM = 0.238, 0.236, 0.165, 0.142
ANKLE = 0.036


@dataclass(frozen=True)
class Pose:
    """A moment of a walk.

    Attributes:
        phase: of the step, in radians.
        stride: factor on the stride of the gait; 0 stands still.
        swing: factor on the swing of the arms.
        head_turn: yaw of the head relative to the trunk, in radians.
        elbow: bend of the elbows in radians.
        raised: arm that is raised, as with a phone: -1 right, 1 left, 0 none.
    """

    phase: float
    stride: float
    swing: float
    head_turn: float
    elbow: float
    raised: int = 0


@dataclass(frozen=True)
class Joints:
    """Points (lateral, height, forward) of each side, as arrays (2, 3): row 0 right, row 1 left."""

    hip: np.ndarray
    knee: np.ndarray
    ankle: np.ndarray
    toe: np.ndarray
    shoulder: np.ndarray
    elbow: np.ndarray
    hand: np.ndarray


def sample_pose(rng: np.random.Generator) -> Pose:
    """Sample a pose; one in six persons stands, one in eight raises an arm."""
    moving = 0.12 if rng.random() < 1 / 6 else 1.0
    return Pose(
        float(rng.uniform(0, 2 * np.pi)),
        moving * float(rng.uniform(0.8, 1.1)),
        moving * float(rng.uniform(0.7, 1.2)),
        float(rng.normal(0, 0.3)),
        float(rng.uniform(0.15, 0.5)),
        int(rng.choice((-1, 1))) if rng.random() < 1 / 8 else 0,
    )


def joints(person: Person, pose: Pose) -> Joints:
    """Forward kinematics of a walk; the lower foot stands on the ground.

    Legs swing in opposition to each other and arms to legs. The hip angle is a sine, and the knee
    bends in the swing phase, as in common descriptions of gait.
    """
    side, build = np.array([-1.0, 1.0]), person.build
    phase = pose.phase + np.array([0.0, np.pi])
    reach = person.gait.stride * pose.stride * _stride_limit(person)
    thigh = reach * np.sin(phase) + 0.03
    flex = 0.06 + 1.9 * reach * np.maximum(np.cos(phase), 0) ** 1.5
    hip = _points(side * 0.050 * (0.6 + 0.4 * build.girth) * build.hips, HIP, AXIS[2])
    knee = hip + _segment(thigh, THIGH)
    ankle = knee + _segment(thigh - flex, SHIN)
    foot = np.clip(thigh - flex + np.where(np.cos(phase) > 0, 0.25, 0.05), -0.9, 0.5)
    toe = ankle + 0.092 * _points(0.15 * side, np.sin(foot), np.cos(foot)) - [0.0, 0.020, 0.0]
    load = np.where(side == person.bag.side, 0.5, 1.0) if person.bag.kind != "none" else 1.0
    arm = 0.08 - person.gait.swing * pose.swing * np.sin(phase) * load
    wide = 0.101 * (0.4 + 0.6 * build.girth) * build.shoulders
    twist = -0.10 * reach * side * np.sin(pose.phase)
    shoulder = _points(side * wide, SHOULDER, build.lean * (SHOULDER - 0.5) + AXIS[10] + twist)
    spread = _points(side * (0.016 + 0.024 * build.girth), 0.0, 0.0)
    lifted = side == pose.raised
    elbow = shoulder + _segment(np.where(lifted, 0.35, arm), UPPER_ARM) + spread
    hand = (
        elbow
        + _segment(np.where(lifted, 2.35, arm + pose.elbow), FOREARM)
        + np.where(lifted[:, None], -1.4, 0.3) * spread
    )
    down = np.array([0.0, float(ankle[:, 1].min()) - ANKLE, 0.0])
    return Joints(
        hip - down,
        knee - down,
        ankle - down,
        toe - down,
        shoulder - down,
        elbow - down,
        hand - down,
    )


def _stride_limit(person: Person) -> float:
    """Factor on the stride: a long skirt allows small steps only."""
    return 0.55 if person.bottom.kind == "long skirt" and person.top.kind != "dress" else 1.0


def _points(
    lateral: np.ndarray, height: np.ndarray | float, forward: np.ndarray | float
) -> np.ndarray:
    return np.stack(np.broadcast_arrays(lateral, height, forward), axis=1).astype(float)


def _segment(angle: np.ndarray, length: float) -> np.ndarray:
    """A segment hanging down, turned forward by `angle` (2,) -> (2, 3)."""
    return length * _points(np.zeros(2), -np.cos(angle), np.sin(angle))


def trunk_profile(person: Person) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Half-width, half-depth and forward shift of the trunk's axis at HEIGHTS."""
    build = person.build
    upper = np.clip((HEIGHTS - 0.60) / 0.12, 0, 1) * (HEIGHTS < 0.83)
    lower = np.clip((0.62 - HEIGHTS) / 0.08, 0, 1)
    waist = np.exp(-(((HEIGHTS - 0.60) / 0.06) ** 2))
    bust = build.bust * np.exp(-(((HEIGHTS - 0.735) / 0.03) ** 2))
    shape = build.girth * (1 + (build.shoulders - 1) * upper + (build.hips - 1) * lower)
    swell = 1 + (build.belly - 1) * waist
    axis = AXIS + 0.009 * bust + 0.04 * (build.belly - 1) * waist + build.lean * (HEIGHTS - 0.5)
    return LATERAL * shape * (0.5 + 0.5 * swell), FORWARD * shape * swell + 0.008 * bust, axis


def solids(person: Person, pose: Pose) -> list[Solid]:
    """All solids of a person in a pose."""
    j = joints(person, pose)
    shape = trunk_profile(person)
    parts = [*_trunk(person, shape, j), *head.head_solids(person, pose.head_turn)]
    for side in (0, 1):
        parts += _leg(person, j, side) + _arm(person, j, side)
    side = (person.bag.side + 1) // 2
    return parts + accessories.bag(
        accessories.Wearer(
            person, float(shape[0].max()), float(shape[1].max()), j.shoulder[side], j.hand[side]
        )
    )


def _trunk(person: Person, shape: tuple[np.ndarray, ...], j: Joints) -> list[Solid]:
    top, bottom = person.top, person.bottom
    parts = [_garment(person, shape, j, top.hem, 0.852, top.ease, top.flare * 0.35, 0.028)]
    if top.tail:
        inner = Surface(person.cloth("inner", person.fabric.inner))
        parts.append(
            _tube(
                shape,
                j,
                np.linspace(top.hem - top.tail, top.hem + 0.03, 4),
                top.ease * 0.5,
                0.2,
                inner,
                0.018,
            )
        )
    if top.kind != "dress":
        skirt = bottom.kind in SKIRTS
        heights = np.linspace(bottom.edge if skirt else 0.462, 0.62, 9)
        flare = bottom.ease[1] / (HANG_BELOW - bottom.edge) if skirt else 0.0
        parts.append(
            _tube(shape, j, heights, bottom.ease[0], flare, outfit.hip_surface(person), 0.004)
        )
    lean = person.build.lean * 0.35
    parts.append(
        Limb(
            np.array([0.0, 0.815, lean - 0.006]),
            np.array([0.0, 0.895, lean + 0.006]),
            (0.034, 0.029, 0.028),
            uniform(person.palette["skin"], 0.0),
        )
    )
    if person.hat.scarf:
        heights = np.array([0.822, 0.832, 0.850, 0.864, 0.872])
        radii = np.array([0.040, 0.052, 0.050, 0.042, 0.020])
        parts.append(
            Stack(
                heights,
                radii,
                radii,
                uniform(person.palette["scarf"], 1.0),
                centre=(0.0, lean + 0.006),
                bias=0.035,
            )
        )
    return parts


def _garment(
    person: Person,
    shape: tuple[np.ndarray, ...],
    j: Joints,
    hem: float,
    neck: float,
    ease: float,
    flare: float,
    bias: float,
) -> Stack:
    """The upper garment from `hem` to `neck`."""
    surface = outfit.top_surface(person, float(shape[0].max()) + ease)
    return _tube(shape, j, np.linspace(hem, neck, 18), ease, flare, surface, bias)


def _tube(
    shape: tuple[np.ndarray, ...],
    j: Joints,
    heights: np.ndarray,
    ease: float,
    flare: float,
    surface: Surface,
    bias: float,
) -> Stack:
    """Cloth around the trunk; below HANG_BELOW it hangs, flares and follows the walking legs."""
    a, b, axis = (np.interp(heights, HEIGHTS, part) for part in shape)
    below = np.maximum(HANG_BELOW - heights, 0)
    ease = ease * (heights < 0.82) + flare * below
    front, back = (_leg_reach(j, heights, sign) for sign in (1, -1))
    hangs = below > 0.06
    centre = np.where(hangs, (front - back) / 2, axis)
    b = np.where(hangs, np.maximum((front + back) / 2, b * 0.9), b)
    a = np.where(below > 0, np.maximum(a, np.interp(HANG_BELOW, HEIGHTS, shape[0])), a)
    return Stack(heights, a + ease, b + ease, surface, axis=centre, bias=bias)


def _leg_reach(j: Joints, heights: np.ndarray, sign: int) -> np.ndarray:
    """How far the legs reach forward (`sign` 1) or backward (-1) at some heights."""
    reach = []
    for side in (0, 1):
        line = np.stack([j.ankle[side], j.knee[side], j.hip[side]])
        reach.append(np.interp(heights, line[:, 1], line[:, 2]))
    thick = np.interp(heights, [0.05, 0.28, 0.5], [0.03, 0.042, 0.062])
    return np.max([sign * r for r in reach], axis=0) + thick


def _leg(person: Person, j: Joints, side: int) -> list[Solid]:
    """A bare leg with its shoe, and the cloth over thigh and shin as far down as it reaches."""
    bottom, girth = person.bottom, 0.3 + 0.7 * person.build.girth
    thigh = tuple(girth * r for r in (0.056, 0.051, 0.044, 0.036))
    shin = tuple(0.3 * r + 0.7 * girth * r for r in (0.035, 0.038, 0.029, 0.021))
    legs = outfit.leg_surfaces(person, SHIN)
    parts: list[Solid] = [
        Limb(j.hip[side], j.knee[side], thigh, legs.thigh),
        Limb(j.knee[side], j.ankle[side], shin, legs.shin),
        *_foot(person, j, side),
    ]
    covered = HIP - bottom.edge if legs.cloth else 0.0
    if not covered:
        return parts
    grow = (bottom.ease[1] - bottom.ease[0]) / covered
    eases = bottom.ease[0] + grow * THIGH * np.linspace(0, 1, 4)
    parts[0] = _clothed(j.hip[side], j.knee[side], thigh + eases, legs, covered)
    if covered < THIGH:
        return [Limb(j.hip[side], j.knee[side], thigh, legs.thigh), *parts]
    below = eases[3] + grow * SHIN * np.linspace(0, 1, 4)
    return [*parts, _clothed(j.knee[side], j.ankle[side], shin + below, legs, covered - THIGH)]


def _foot(person: Person, j: Joints, side: int) -> list[Solid]:
    heel = j.ankle[side] + np.array([0.0, -0.012, -0.016])
    shoe = uniform(person.palette["shoes"], 0.2)
    parts: list[Solid] = [Limb(heel, j.toe[side], (0.023, 0.024, 0.019, 0.014), shoe)]
    if person.shoes.sole:
        under = np.array([0.0, -0.011, 0.0])
        parts.append(
            Limb(
                heel + under,
                j.toe[side] + under * 0.6,
                (0.019, 0.018, 0.013),
                uniform(outfit.WHITE, 0.0),
                bias=-0.004,
            )
        )
    return parts


def _clothed(
    start: np.ndarray, end: np.ndarray, radii: np.ndarray, legs: outfit.Legs, length: float
) -> Limb:
    """A trouser leg along a bone, cut off after `length`."""
    bone = float(np.linalg.norm(end - start))
    cut = (lambda p: p.inside(length - p.y)) if length < bone else None
    return Limb(start, end, tuple(radii), Surface(legs.cloth, legs.stripes, cut), bias=0.002)


def _arm(person: Person, j: Joints, side: int) -> list[Solid]:
    top, girth = person.top, 0.5 + 0.5 * person.build.girth
    upper, fore = outfit.sleeve_surfaces(person, UPPER_ARM, FOREARM)
    loose = min(top.ease, 0.016) * 0.7
    above = loose if top.sleeve > 0.0 else 0.0
    below = loose if top.sleeve > 1.0 else 0.0
    grip = j.hand[side] + 0.42 * (j.hand[side] - j.elbow[side])
    thick = tuple(girth * r + above for r in (0.033, 0.032, 0.026))
    thin = tuple(girth * r + below for r in (0.026, 0.025, 0.018))
    return [
        Limb(j.shoulder[side], j.elbow[side], thick, upper),
        Limb(j.elbow[side], j.hand[side], thin, fore),
        Limb(j.hand[side], grip, (0.015, 0.020, 0.012), uniform(person.palette["skin"], 0.0)),
    ]
