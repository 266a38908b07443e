"""Solids of the head: skull, face, hair, hat."""

from collections.abc import Callable

import numpy as np

from synthvi import accessories, outfit
from synthvi.person import Person
from synthvi.solids import Limb, Solid, Stack, Surface, plain, uniform

CHIN, CROWN = 0.866, 0.998
WIDE, LONG = 0.045, 0.057
FORWARD = 0.012  # of the axis of the head in front of that of the neck


def egg(low: float, high: float, width: float, length: float, jaw: float = 0.0) -> tuple:
    """Heights, half-widths and half-depths of an egg; `jaw` narrows its lower end."""
    u = np.sin(np.linspace(-0.5 * np.pi, 0.5 * np.pi, 13))
    bow = np.maximum(1 - u * u, 0) ** 0.45 * (1 + jaw * np.minimum(u, 0))
    return (low + high) / 2 + (high - low) / 2 * u, width * bow, length * bow


def head_solids(person: Person, turn: float) -> list[Solid]:
    """Head, nose, ears, hair and hat, turned by `turn` radians relative to the trunk."""
    axis = FORWARD + person.build.lean * 0.45
    placement = {"centre": (0.0, axis), "turn": turn}

    def at(lateral: float, height: float, forward: float) -> np.ndarray:
        sin, cos = np.sin(turn), np.cos(turn)
        return np.array(
            [lateral * cos + forward * sin, height, axis + forward * cos - lateral * sin]
        )

    skin = uniform(person.palette["skin"], 0.0)
    parts: list[Solid] = [
        Stack(*egg(CHIN, CROWN, WIDE, LONG, jaw=0.24), outfit.face_surface(person), **placement),
        Limb(at(0, 0.940, 0.054), at(0, 0.921, 0.064), (0.005, 0.009), skin),
    ]
    if person.hair.style not in ("bob", "long", "afro"):
        parts += [
            Limb(
                at(side * 0.045, 0.947, -0.004), at(side * 0.045, 0.925, 0.0), (0.010, 0.007), skin
            )
            for side in (-1, 1)
        ]
    return parts + _hair(person, placement, at) + accessories.hat(person, placement, turn, axis)


def _hair(
    person: Person, placement: dict, at: Callable[[float, float, float], np.ndarray]
) -> list[Solid]:
    style, cloth = person.hair.style, plain(person.palette["hair"])
    if style == "bald" or person.hat.kind == "hood":
        return []
    surface = Surface(cloth, rough=1.2)
    wide, long, top, low, fringe = STYLES[style]
    heights, a, b = egg(CHIN, top, WIDE * wide, LONG * long)
    if style in ("long", "bob"):
        cheek = int(np.argmax(a))
        heights = np.concatenate([np.linspace(low, heights[cheek] - 0.02, 4), heights[cheek:]])
        full = np.array([0.55, 0.85, 0.98, 1.0]) if style == "long" else np.array([0.9, 1, 1, 1])
        a, b = (np.concatenate([half[cheek] * full, half[cheek:]]) for half in (a, b))
    parts: list[Solid] = [
        Stack(
            heights,
            a,
            b,
            Surface(cloth, cut=outfit.hairline(low, fringe), rough=1.2),
            bias=0.003,
            **placement,
        )
    ]
    if style in ("long", "bob"):
        back = {**placement, "centre": (0.0, placement["centre"][1] - 0.008)}
        parts.append(Stack(heights, a, b * 0.95, surface, bias=-0.11, **back))
    if style == "tail":
        parts += [
            Limb(at(0, 0.962, -0.058), at(0, 0.945, -0.078), (0.016, 0.02), surface),
            Limb(at(0, 0.945, -0.078), at(0, 0.84, -0.082), (0.022, 0.024, 0.008), surface),
        ]
    if style == "bun":
        parts.append(Limb(at(0, 0.995, -0.03), at(0, 1.002, -0.038), (0.03, 0.03), surface))
    return parts


# style: half-width and half-depth as factors on those of the head, heights of the top, of the
# lowest hair and of the edge on the forehead
STYLES = {
    "short": (1.10, 1.08, 1.008, 0.893, 0.976),
    "side": (1.12, 1.13, 1.022, 0.905, 0.968),
    "bob": (1.30, 1.20, 1.012, 0.858, 0.968),
    "long": (1.22, 1.16, 1.010, 0.745, 0.972),
    "tail": (1.07, 1.07, 1.005, 0.893, 0.978),
    "bun": (1.07, 1.07, 1.005, 0.893, 0.978),
    "afro": (1.60, 1.38, 1.050, 0.895, 0.974),
}
