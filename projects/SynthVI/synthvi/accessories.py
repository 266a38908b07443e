"""Solids of hats and bags."""

from typing import NamedTuple

import numpy as np

from synthvi import portable_math
from synthvi.outfit import shade_of
from synthvi.person import Person
from synthvi.solids import Limb, Patch, Solid, Stack, Surface, plain, uniform


def hat(person: Person, placement: dict, turn: float, axis: float) -> list[Solid]:
    """Solids of the hat that a person wears, none for most.

    Args:
        person: who wears it.
        placement: `centre` and `turn` of the head, as in solids.Stack.
        turn: yaw of the head in radians.
        axis: forward shift of the head.
    """
    kind, cloth = person.hat.kind, person.cloth("hat", person.hat.weave)
    if kind == "none":
        return []
    if kind == "hood":
        return [_hood(person, placement)]
    bulk = 1.35 if person.hair.style == "afro" else 1.14
    low, high = {"cap": (0.957, 1.018), "beanie": (0.950, 1.034), "brim": (0.962, 1.035)}[kind]
    u = np.linspace(0, 1, 8)
    dome = (1 - u**2.6) ** 0.5
    crown = Stack(
        low + (high - low) * u,
        0.047 * bulk * dome,
        0.058 * bulk * dome,
        Surface(cloth),
        bias=0.004,
        **placement,
    )
    second = uniform(cloth.second)
    middle = np.array([0.0, low + 0.006, axis])
    if kind == "cap":
        rim = low + np.array([-0.005, 0.0, 0.003])
        ahead = {"centre": (0.05 * np.sin(turn), axis + 0.05 * np.cos(turn)), "turn": turn}
        return [
            crown,
            Stack(
                rim, np.array([0.04, 0.042, 0.038]), np.array([0.05, 0.052, 0.046]), second, **ahead
            ),
        ]
    if kind == "beanie":
        bobble = [middle + np.array([0, height, 0]) for height in (0.082, 0.085)]
        return [crown, Limb(*bobble, (0.017, 0.017), second)]
    rim = np.array([low - 0.006, low, low + 0.010])
    return [crown, Stack(rim, np.full(3, 0.1), np.full(3, 0.105), second, **placement)]


def _hood(person: Person, placement: dict) -> Stack:
    """A hood over the head, open around the face."""
    u = np.sin(np.linspace(-0.5 * np.pi, 0.5 * np.pi, 12))
    bow = np.maximum(1 - u * u, 0.02) ** 0.4
    heights = 0.925 + 0.10 * u

    def around_face(p: Patch) -> np.ndarray:
        face = portable_math.hypot(p.angle * 0.062, (p.y - 0.932) * 0.72) - 0.046
        return p.inside(np.maximum(face, 0.84 - p.y))

    return Stack(
        heights,
        0.062 * bow,
        0.074 * bow,
        Surface(person.cloth("top", person.fabric.top), cut=around_face),
        bias=0.006,
        **placement,
    )


class Wearer(NamedTuple):
    """Where a bag hangs: largest half-width (`wide`) and half-depth (`deep`) of the trunk, and the
    points (3,) `shoulder` and `hand` on the side of the bag."""

    person: Person
    wide: float
    deep: float
    shoulder: np.ndarray
    hand: np.ndarray


def bag(wearer: Wearer) -> list[Solid]:
    """Solids of the bag that a person carries, none for some."""
    make = BAGS.get(wearer.person.bag.kind)
    return make(wearer) if make else []


def _rounded(low: float, high: float, a: float, b: float) -> tuple:
    """Heights, half-widths and half-depths of a box with rounded edges."""
    ends = np.array([0.0, 0.12, 0.5, 0.85, 0.95, 1.0])
    narrow = np.array([0.82, 1.0, 1.02, 0.98, 0.8, 0.4])
    return low + (high - low) * ends, a * narrow, b * narrow


def _cloth(wearer: Wearer) -> Surface:
    return Surface(wearer.person.cloth("bag", wearer.person.bag.weave), rough=0.6)


def _strap(wearer: Wearer) -> Surface:
    return uniform(wearer.person.palette["strap"])


def _backpack(wearer: Wearer) -> list[Solid]:
    person, size = wearer.person, wearer.person.bag.size
    behind = wearer.deep + person.top.ease + 0.026 * size
    dark = shade_of(person.palette["bag"], 0.55)
    second = plain(person.palette["bag second"])
    surface = Surface(
        person.cloth("bag", person.bag.weave),
        (
            (
                lambda p: p.inside(
                    np.minimum(
                        0.055 * size - np.abs(np.abs(p.angle) - np.pi) * 0.07,
                        0.03 * size - np.abs(p.y - 0.66),
                    )
                ),
                second,
            ),
            (lambda p: p.inside(0.004 - np.abs(p.y - 0.755)), dark),
        ),
        rough=0.5,
    )
    return [
        Stack(
            *_rounded(0.74 - 0.13 * size, 0.845, 0.086 * size, 0.055 * size),
            surface,
            centre=(0.0, -behind),
        )
    ]


def _cross(wearer: Wearer) -> list[Solid]:
    size, side = wearer.person.bag.size, wearer.person.bag.side
    return [
        Stack(
            *_rounded(0.55 - 0.10 * size, 0.56, 0.03, 0.08 * size),
            _cloth(wearer),
            centre=(side * (wearer.wide + 0.018), 0.02),
        )
    ]


def _tote(wearer: Wearer) -> list[Solid]:
    size, out = wearer.person.bag.size, wearer.person.bag.side * (wearer.wide + 0.05)
    joint = wearer.shoulder + np.array([0.0, 0.03, 0.0])
    straps = [
        Limb(joint, np.array([out, 0.61, forward]), (0.008, 0.008), _strap(wearer))
        for forward in (-0.05, 0.05)
    ]
    return [
        *straps,
        Stack(
            *_rounded(0.62 - 0.19 * size, 0.63, 0.026, 0.085 * size),
            _cloth(wearer),
            centre=(out, 0.0),
        ),
    ]


def _handbag(wearer: Wearer) -> list[Solid]:
    size = wearer.person.bag.size
    lateral, height, forward = wearer.hand - [0.0, 0.03, 0.0]
    top = float(height) - 0.05
    straps = [
        Limb(
            np.array([lateral, height, forward]),
            np.array([lateral, top, forward + f]),
            (0.006, 0.006),
            _strap(wearer),
        )
        for f in (-0.045, 0.045)
    ]
    return [
        *straps,
        Stack(
            *_rounded(top - 0.11 * size, top + 0.01, 0.032, 0.08 * size),
            _cloth(wearer),
            centre=(float(lateral), float(forward)),
        ),
    ]


def _case(wearer: Wearer) -> list[Solid]:
    """A wheeled case, pulled behind by its handle."""
    size, hand = wearer.person.bag.size, wearer.hand
    at = (float(hand[0]), float(hand[2]) - 0.17)
    top = 0.22 + 0.08 * size
    handle = Limb(
        hand - [0, 0.03, 0], np.array([at[0], top, at[1]]), (0.007, 0.007), _strap(wearer)
    )
    return [
        handle,
        Stack(*_rounded(0.02, top, 0.075 * size, 0.05 * size), _cloth(wearer), centre=at),
    ]


def _waist(wearer: Wearer) -> list[Solid]:
    """A belt bag: a strap around the waist and a pouch in front."""
    low = np.array([0.585, 0.59, 0.605, 0.61])
    belt = Stack(
        low,
        np.full(4, wearer.wide * 0.99),
        np.full(4, wearer.deep * 1.04),
        _strap(wearer),
        bias=0.035,
    )
    size = wearer.person.bag.size
    return [
        belt,
        Stack(
            *_rounded(0.56 - 0.01 * size, 0.615, 0.055 * size, 0.03 * size),
            _cloth(wearer),
            centre=(0.0, wearer.deep + 0.012),
            bias=0.035,
        ),
    ]


BAGS = {
    "backpack": _backpack,
    "cross": _cross,
    "tote": _tote,
    "handbag": _handbag,
    "case": _case,
    "waist": _waist,
}
