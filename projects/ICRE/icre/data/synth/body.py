"""A walking body: joints of a pose, and the solids that a person shows in it."""

from dataclasses import dataclass

import numpy as np

from . import outfit
from .person import Person
from .solids import Chain, Limb, Solid, Stack, Surface, plain, uniform

HEIGHTS = np.array([0.16, 0.40, 0.46, 0.51, 0.56, 0.62, 0.70, 0.76, 0.80, 0.825, 0.85])
LATERAL = np.array([0.086, 0.088, 0.092, 0.096, 0.089, 0.083, 0.093, 0.102, 0.103, 0.084, 0.036])
FORWARD = np.array([0.066, 0.068, 0.071, 0.074, 0.068, 0.062, 0.069, 0.071, 0.063, 0.047, 0.034])
HIP, SHOULDER = 0.49, 0.79
THIGH, SHIN, UPPER_ARM, FOREARM = 0.225, 0.225, 0.165, 0.14


@dataclass(frozen=True)
class Pose:
    """What changes from step to step: walking `phase` (radians), `stride` and `swing` factors (0
    stands still), `head_turn` and `elbow` bend (radians)."""

    phase: float
    stride: float
    swing: float
    head_turn: float
    elbow: float


@dataclass(frozen=True)
class Joints:
    """Points of each side, (2, 3) arrays: row 0 right, 1 left; (lateral, height, forward)."""

    hip: np.ndarray
    knee: np.ndarray
    ankle: np.ndarray
    toe: np.ndarray
    shoulder: np.ndarray
    elbow: np.ndarray
    hand: np.ndarray


def sample_pose(rng: np.random.Generator) -> Pose:
    """A moment of a walk; one time in six the person stands."""
    moving = 0.15 if rng.random() < 1 / 6 else 1.0
    return Pose(float(rng.uniform(0, 2 * np.pi)), moving * float(rng.uniform(0.8, 1.1)),
                moving * float(rng.uniform(0.7, 1.2)), float(rng.normal(0, 0.25)),
                float(rng.uniform(0.15, 0.5)))


def profile(person: Person) -> tuple[np.ndarray, np.ndarray]:
    """Half-widths of the trunk at HEIGHTS, sideways and front to back, in body heights."""
    body = person.body
    upper = np.clip((HEIGHTS - 0.60) / 0.12, 0, 1) * (HEIGHTS < 0.84)
    lower = np.clip((0.62 - HEIGHTS) / 0.08, 0, 1)
    waist = np.exp(-((HEIGHTS - 0.60) / 0.06) ** 2)
    shape = body.girth * (1 + (body.shoulders - 1) * upper + (body.hips - 1) * lower)
    swell = 1 + (body.belly - 1) * waist
    return LATERAL * shape * (0.5 + 0.5 * swell), FORWARD * shape * swell


def joints(person: Person, pose: Pose) -> Joints:
    """Forward kinematics of a walk: legs swing in opposition, arms against legs, feet reach ground.

    Source: the usual sagittal gait sketch; hips follow a sine, the knee bends in the swing phase.
    """
    side = np.array([-1.0, 1.0])
    phase = pose.phase + np.array([0.0, np.pi])
    thigh = person.stride * pose.stride * np.sin(phase)
    flex = 0.08 + 1.9 * person.stride * pose.stride * np.maximum(np.cos(phase), 0) ** 1.5
    hip = _point(side * 0.050 * person.body.girth * person.body.hips, HIP, 0.0)
    knee = hip + _swing(thigh, THIGH)
    ankle = knee + _swing(thigh - flex, SHIN)
    foot = thigh - flex + np.where(np.cos(phase) > 0, 0.25, 0.05)
    toe = ankle + 0.08 * _point(0 * side, np.sin(foot), np.cos(foot)) - [0.0, 0.022, 0.0]
    drop = float(ankle[:, 1].min()) - 0.036
    arm = -person.swing * pose.swing * np.sin(phase) * np.where(side == person.bag.side, 0.6, 1.0)
    width = 0.098 * person.body.girth * person.body.shoulders
    shoulder = _point(side * width, SHOULDER, person.body.lean * (SHOULDER - 0.5))
    spread = _point(side * (0.010 + 0.02 * person.body.girth), 0.0, 0.0)
    elbow = shoulder + _swing(arm, UPPER_ARM) + spread
    hand = elbow + _swing(arm + pose.elbow, FOREARM) + 0.3 * spread
    down = np.array([0.0, drop, 0.0])
    return Joints(hip - down, knee - down, ankle - down, toe - down, shoulder - down,
                  elbow - down, hand - down)


def _point(lateral: np.ndarray, height: np.ndarray | float,
           forward: np.ndarray | float) -> np.ndarray:
    return np.stack(np.broadcast_arrays(lateral, height, forward), axis=1).astype(float)


def _swing(angle: np.ndarray, length: float) -> np.ndarray:
    """A segment hanging down, swung forward by `angle` (2,) -> (2, 3)."""
    return length * _point(np.zeros(2), -np.cos(angle), np.sin(angle))


def solids(person: Person, pose: Pose, yaw: float) -> list[Solid]:
    """All solids of a person in a pose, with the painting order that a `yaw` asks for."""
    j = joints(person, pose)
    shape = profile(person)
    parts = [*_trunk(person, shape), *_head(person, pose, yaw)]
    for side in (0, 1):
        parts += _leg(person, j, side, yaw) + _arm(person, j, side, yaw)
    side = (person.bag.side + 1) // 2
    return parts + outfit.bag(outfit.Wearer(person, float(shape[0].max()), float(shape[1].max()),
                                            j.shoulder[side], j.hand[side], yaw))


def depth(point: np.ndarray, yaw: float) -> float:
    """How much nearer to the camera than the body's axis a point is, in body heights."""
    return float(point[2] * np.cos(yaw) - point[0] * np.sin(yaw))


def _trunk(person: Person, shape: tuple[np.ndarray, np.ndarray]) -> list[Solid]:
    top, bottom, lean = person.top, person.bottom, person.body.lean
    heights = np.linspace(top.hem, 0.85, 14)
    flare = top.flare * np.maximum(0.50 - heights, 0) * 0.35
    ease = top.ease * (heights < 0.83) + flare
    a, b = (np.interp(heights, HEIGHTS, half) + ease for half in shape)
    parts = [Stack(0.0, heights, a, b, outfit.top_surface(person, float(a.max())), lean=lean)]
    skirt = "skirt" in bottom.kind
    low = bottom.edge if skirt else 0.455
    heights = np.linspace(low, 0.62, 8)
    spread = (bottom.ease[1] * np.clip((0.5 - heights) / (0.5 - low), 0, 1) if skirt else 0.0)
    a, b = (np.interp(heights, HEIGHTS, half) + bottom.ease[0] + spread for half in shape)
    parts.append(Stack(-5.0, heights, a, b, outfit.hip_surface(person), lean=lean))
    skin = uniform(person.body.skin)
    neck = np.array([[0.0, 0.81, lean * 0.3], [0.0, 0.89, lean * 0.4 + 0.006]])
    parts.append(Chain(-1.0, (Limb(neck[0], neck[1], (0.032, 0.028), skin),)))
    if person.head.scarf is not None:
        wrap = np.array([[0.815, 0.04], [0.83, 0.054], [0.86, 0.049], [0.872, 0.03]]).T
        parts.append(Stack(2.5, wrap[0], wrap[1], wrap[1], uniform(person.head.scarf), lean=lean))
    return parts


def _leg(person: Person, j: Joints, side: int, yaw: float) -> list[Solid]:
    """A bare leg in its shoe, then cloth drawn over thigh and shin as far down as it reaches."""
    bottom, girth = person.bottom, person.body.girth
    order = -10.0 + 5.0 * depth(j.ankle[side] * 0.5 + j.hip[side], yaw)
    hip, knee, ankle = 0.050 * girth, 0.035 * girth, 0.025 * (0.6 + 0.4 * girth)
    legs = outfit.leg_surfaces(person)
    heel = j.ankle[side] + np.array([0.0, -0.014, -0.014])
    bare = (Limb(j.hip[side], j.knee[side], (hip, knee), legs.thigh),
            Limb(j.knee[side], j.ankle[side], (knee, ankle), legs.shin))
    foot = Limb(heel, j.toe[side], (0.024, 0.016), uniform(bottom.shoes))
    covered = HIP - bottom.edge if legs.cloth else 0.0
    if not covered:
        return [Chain(order, (*bare, foot))]
    grow = (bottom.ease[1] - bottom.ease[0]) / covered
    at_knee = knee + bottom.ease[0] + grow * THIGH
    cloth = _clothed(j.hip[side], j.knee[side], (hip + bottom.ease[0], at_knee), legs, covered)
    below = covered - THIGH
    if below <= 0:
        return [Chain(order, (*bare, foot, cloth))]
    at_ankle = ankle + bottom.ease[0] + grow * (THIGH + SHIN)
    shin = _clothed(j.knee[side], j.ankle[side], (at_knee, at_ankle), legs, below)
    return [Chain(order, (bare[1], foot, cloth, shin))]


def _clothed(start: np.ndarray, end: np.ndarray, radii: tuple[float, float], legs: outfit.Legs,
             length: float) -> Limb:
    """A trouser tube along a bone, open and cut straight after `length`."""
    bone = float(np.linalg.norm(end - start))
    cut = (lambda p: p.inside(length - p.y)) if length < bone else None
    return Limb(start, end, radii, Surface(legs.cloth, legs.stripes, cut))


def _arm(person: Person, j: Joints, side: int, yaw: float) -> list[Solid]:
    top, girth = person.top, 0.5 + 0.5 * person.body.girth
    near = depth(j.shoulder[side], yaw)
    order = 6.0 + near if near > -0.05 else -15.0 + near
    upper, fore = outfit.sleeve_surfaces(person, UPPER_ARM, FOREARM)
    loose = top.ease * 0.6
    wrist = 0.019 * girth + (loose if top.sleeve > 1.5 else 0.0)
    elbow = 0.026 * girth + (loose if top.sleeve > 0.9 else 0.0)
    grip = j.hand[side] + 0.28 * (j.hand[side] - j.elbow[side])
    return [Chain(order, (
        Limb(j.shoulder[side], j.elbow[side], (0.032 * girth + loose, elbow), upper),
        Limb(j.hand[side], grip, (0.018, 0.015), uniform(person.body.skin)),
        Limb(j.elbow[side], j.hand[side], (elbow, wrist), fore)))]


def egg(low: float, high: float, width: float, length: float, jaw: float = 0.0) -> tuple:
    """Heights and half-widths of an egg between two heights; `jaw` narrows its lower end."""
    u = np.sin(np.linspace(-0.5 * np.pi, 0.5 * np.pi, 11))
    bow = np.maximum(1 - u * u, 0) ** 0.45 * (1 + jaw * np.minimum(u, 0))
    return (low + high) / 2 + (high - low) / 2 * u, width * bow, length * bow


def _head(person: Person, pose: Pose, yaw: float) -> list[Solid]:
    lean = person.body.lean
    place = {"centre": (0.0, 0.012), "lean": lean, "turn": pose.head_turn}
    head = egg(0.868, 0.998, 0.046, 0.056, jaw=0.22)
    parts: list[Solid] = [Stack(2.0, *head, outfit.face_surface(person), **place)]
    parts += _hair(person, place, np.cos(yaw + pose.head_turn) > -0.2)
    back = np.array([0.0, 0.0, lean * 0.45])
    behind = 2.2 if np.cos(yaw + pose.head_turn) < 0 else -2.0
    hair = uniform(person.head.hair)
    if person.head.style == "tail":
        tail = Limb(back + [0, 0.955, -0.055], back + [0, 0.83, -0.085], (0.024, 0.014), hair)
        parts.append(Chain(behind, (tail,)))
    if person.head.style == "bun":
        bun = Limb(back + [0, 1.0, -0.022], back + [0, 1.006, -0.03], (0.03, 0.03), hair)
        parts.append(Chain(behind, (bun,)))
    return parts + outfit.hat(person, place, pose.head_turn, back)


def _hair(person: Person, place: dict, facing: bool) -> list[Solid]:
    style, cloth = person.head.style, plain(person.head.hair)
    if style == "bald":
        return []
    bulk = {"afro": 1.55, "long": 1.17, "bob": 1.25}.get(style, 1.1)
    top = 1.035 if style == "afro" else 1.008
    low = {"long": 0.74, "bob": 0.855, "afro": 0.90}.get(style, 0.885)
    heights, a, b = egg(0.868, top, 0.046 * bulk, 0.056 * min(bulk, 1.3))
    if style in ("long", "bob"):
        cheek = int(np.argmax(a))
        heights = np.concatenate([[low], heights[cheek:]])
        a, b = (np.concatenate([[half[cheek]], half[cheek:]]) for half in (a, b))
    front = Stack(3.0, heights, a, b, Surface(cloth, cut=outfit.hairline(low)), **place)
    if not facing:
        return [front]
    return [front, Stack(-2.0, heights, a, b, Surface(cloth), **place)]
