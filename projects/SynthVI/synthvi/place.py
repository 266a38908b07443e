"""Places: rooms and streets as flat panels; every camera of a place sees the same geometry."""

from dataclasses import dataclass

import numpy as np

from synthvi.materials import Cloth, Material, Weave, srgb_to_linear

INDOOR_PLACES = 3  # places 1 to 3 are rooms, the others streets

# name: sRGB and near-infrared reflectance. Leaves are dark green and bright infrared.
BUILDING_MATERIALS = {
    "plaster": ((206, 200, 188), 0.55),
    "paint": ((150, 166, 172), 0.45),
    "cream": ((212, 200, 170), 0.50),
    "brick": ((138, 88, 72), 0.42),
    "concrete": ((142, 140, 136), 0.40),
    "stone": ((168, 160, 146), 0.45),
    "asphalt": ((84, 84, 88), 0.16),
    "linoleum": ((124, 128, 118), 0.38),
    "marble": ((190, 186, 178), 0.50),
    "wood": ((140, 100, 66), 0.55),
    "dark wood": ((84, 58, 42), 0.40),
    "steel": ((150, 154, 160), 0.35),
    "glass": ((104, 120, 132), 0.12),
    "bright glass": ((226, 232, 236), 0.50),
    "paper": ((228, 226, 218), 0.70),
    "cork": ((172, 132, 90), 0.50),
    "leaves": ((58, 78, 42), 0.62),
    "grass": ((86, 104, 58), 0.55),
    "bark": ((88, 74, 62), 0.30),
    "red": ((160, 48, 44), 0.50),
    "blue": ((54, 74, 122), 0.30),
    "black": ((36, 36, 40), 0.10),
}


PLAIN = Weave()


@dataclass(frozen=True)
class Panel:
    """A flat object.

    Attributes:
        box: left, top, right, bottom in fractions of the panorama.
        cloth: its material and pattern.
        grain: how mottled it is.
        oval: whether it is an ellipse in place of a rectangle.
    """

    box: tuple[float, float, float, float]
    cloth: Cloth
    grain: float = 0.05
    oval: bool = False


@dataclass(frozen=True)
class Place:
    """What is behind the person.

    Attributes:
        indoor: whether it is a room.
        wall: above the horizon.
        floor: below the horizon.
        horizon: where wall and floor meet, as a fraction of the panorama's height.
        depth: distance of the wall from the person in body heights.
        panels: painted over wall and floor in this order.
        seed: of the stains.
    """

    indoor: bool
    wall: Cloth
    floor: Cloth
    horizon: float
    depth: float
    panels: tuple[Panel, ...]
    seed: tuple[int, int, int]


def sample_place(seed: int, number: int) -> Place:
    """Sample the place `number` of the world `seed`."""
    rng = np.random.default_rng([seed, 23, number])
    indoor = number <= INDOOR_PLACES
    horizon = float(rng.uniform(0.42, 0.66))
    walls, floors = (
        (("plaster", "paint", "cream"), ("linoleum", "marble", "stone"))
        if indoor
        else (("brick", "concrete", "stone"), ("asphalt", "concrete", "stone"))
    )
    wall = _cloth(rng, rng.choice(walls), Weave("plain" if indoor else "tiles", 0.06), 0.93)
    floor = _cloth(
        rng,
        rng.choice(floors),
        Weave(str(rng.choice(["panes", "tiles", "hoops"])), float(rng.uniform(0.16, 0.32))),
        0.85,
    )
    make = _room if indoor else _street
    return Place(
        indoor,
        wall,
        floor,
        horizon,
        float(rng.uniform(1.5, 3.0 if indoor else 6.0)),
        tuple(make(rng, horizon)),
        (seed, 43, number),
    )


def _cloth(rng: np.random.Generator, name: str, weave: Weave = PLAIN, share: float = 0.9) -> Cloth:
    """Sample a cloth of a building material; its second is `share` times as bright as its base."""
    srgb, nir = BUILDING_MATERIALS[str(name)]
    base = Material(
        srgb_to_linear(np.array(srgb) * rng.uniform(0.75, 1.12) + rng.normal(0, 4, 3)),
        float(np.clip(nir * rng.uniform(0.75, 1.25), 0.05, 0.9)),
    )
    return Cloth(base, base.scaled(share), weave)


def _room(rng: np.random.Generator, horizon: float) -> list[Panel]:
    """Wainscot, doors, windows, boards, pillars, benches, bins."""
    panels = []
    if rng.random() < 0.6:
        top = horizon - rng.uniform(0.1, 0.22)
        low = _cloth(rng, rng.choice(["paint", "wood", "stone"]))
        panels.append(Panel((0, top, 1, horizon), low))
    left = rng.uniform(0, 0.08)
    while left < 0.95:
        make = _FURNITURE[rng.choice(len(_FURNITURE), p=[0.3, 0.22, 0.22, 0.16, 0.1])]
        wide = float(rng.uniform(0.7, 1.2))
        panels += make(rng, left, wide, horizon)
        left += 0.09 * wide + rng.uniform(0.03, 0.12)
    skirting = _cloth(rng, rng.choice(["dark wood", "stone"]))
    panels.append(Panel((0, horizon - 0.02, 1, horizon), skirting))
    for _ in range(rng.integers(1, 4)):
        at, bottom = rng.uniform(0, 0.95), horizon + rng.uniform(0.03, 0.08)
        top, right = bottom - rng.uniform(0.1, 0.16), at + rng.uniform(0.03, 0.1)
        panels.append(
            Panel(
                (at, top, right, bottom),
                _cloth(rng, rng.choice(["steel", "black", "wood", "blue"])),
            )
        )
    return panels


def _door(rng: np.random.Generator, left: float, wide: float, horizon: float) -> list[Panel]:
    top, right = horizon - rng.uniform(0.42, 0.5), left + 0.075 * wide
    leaf = _cloth(rng, rng.choice(["wood", "dark wood", "paint", "blue"]))
    inset = Cloth(leaf.second, leaf.second)
    panels = [
        Panel((left - 0.006, top - 0.015, right + 0.006, horizon), _cloth(rng, "dark wood")),
        Panel((left, top, right, horizon), leaf),
    ]
    for low, high in ((0.08, 0.45), (0.55, 0.92)):
        span = horizon - top
        box = (left + 0.01, top + low * span, right - 0.01, top + high * span)
        panels.append(Panel(box, inset))
    handle = (right - 0.008, (top + horizon) / 2, right - 0.004, (top + horizon) / 2 + 0.015)
    return [*panels, Panel(handle, _cloth(rng, "steel"))]


def _window(rng: np.random.Generator, left: float, wide: float, horizon: float) -> list[Panel]:
    top = horizon - rng.uniform(0.36, 0.48)
    right, bottom = left + 0.09 * wide, top + rng.uniform(0.2, 0.28)
    glass = _cloth(rng, rng.choice(["glass", "bright glass"]))
    frame = Panel((left - 0.005, top - 0.01, right + 0.005, bottom + 0.015), _cloth(rng, "paper"))
    half = (left + right) / 2
    return [
        frame,
        Panel((left, top, half - 0.003, bottom), glass),
        Panel((half + 0.003, top, right, bottom), glass),
    ]


def _board(rng: np.random.Generator, left: float, wide: float, horizon: float) -> list[Panel]:
    top = horizon - rng.uniform(0.32, 0.42)
    right, bottom = left + 0.08 * wide, top + rng.uniform(0.12, 0.2)
    panels = [Panel((left, top, right, bottom), _cloth(rng, rng.choice(["cork", "blue", "paper"])))]
    for _ in range(rng.integers(2, 6)):
        x, y = rng.uniform(left, right - 0.02), rng.uniform(top, bottom - 0.04)
        panels.append(
            Panel(
                (x, y, x + 0.016, y + 0.045),
                _cloth(rng, rng.choice(["paper", "paper", "red", "cream"])),
            )
        )
    return panels


def _pillar(rng: np.random.Generator, left: float, wide: float, horizon: float) -> list[Panel]:
    right = left + 0.045 * wide
    kind = _cloth(rng, rng.choice(["concrete", "marble", "paint"]))
    return [
        Panel((left, 0.0, right, horizon + 0.03), kind, 0.08),
        Panel((right - 0.008, 0.0, right, horizon + 0.03), Cloth(kind.second, kind.second)),
    ]


def _shelf(rng: np.random.Generator, left: float, wide: float, horizon: float) -> list[Panel]:
    top, right = horizon - rng.uniform(0.3, 0.44), left + 0.07 * wide
    boards = _cloth(rng, rng.choice(["steel", "wood", "blue"]), Weave("hoops", 0.07), 0.55)
    return [Panel((left, top, right, horizon + 0.02), boards, 0.1)]


_FURNITURE = (_door, _window, _board, _pillar, _shelf)


def _street(rng: np.random.Generator, horizon: float) -> list[Panel]:
    """A facade with windows, hedge, trees, cars, posts; kerb and grass."""
    panels = []
    top = horizon - rng.uniform(0.28, 0.42)
    pitch = rng.uniform(0.08, 0.14)
    glass = _cloth(rng, "glass")
    for left in np.arange(rng.uniform(0, pitch), 1, pitch):
        for row in (top, top - 0.3):
            panels.append(
                Panel(
                    (left - 0.004, row - 0.01, left + 0.6 * pitch + 0.004, row + 0.19),
                    _cloth(rng, "stone"),
                )
            )
            panels.append(Panel((left, row, left + 0.6 * pitch, row + 0.17), glass))
    for _ in range(rng.integers(1, 3)):
        left = rng.uniform(-0.1, 0.9)
        panels.append(
            Panel(
                (
                    left,
                    horizon - rng.uniform(0.08, 0.2),
                    left + rng.uniform(0.15, 0.4),
                    horizon + 0.01,
                ),
                _cloth(rng, "leaves"),
                0.5,
            )
        )
    for _ in range(rng.integers(1, 4)):
        panels += _tree(rng, horizon) if rng.random() < 0.5 else _car(rng, horizon)
    strip = horizon + rng.uniform(0.0, 0.03)
    panels.append(
        Panel(
            (0, strip, 1, strip + rng.uniform(0.02, 0.06)),
            _cloth(rng, rng.choice(["grass", "stone", "concrete"])),
            0.2,
        )
    )
    for _ in range(rng.integers(2, 5)):
        left = rng.uniform(0, 1)
        panels.append(
            Panel(
                (left, horizon - rng.uniform(0.15, 0.6), left + 0.01, horizon + 0.05),
                _cloth(rng, rng.choice(["steel", "black", "concrete"])),
            )
        )
    return panels


def _tree(rng: np.random.Generator, horizon: float) -> list[Panel]:
    left, top = rng.uniform(0, 0.95), horizon - rng.uniform(0.35, 0.5)
    crown = _cloth(rng, "leaves")
    return [
        Panel((left, top, left + 0.02, horizon + 0.04), _cloth(rng, "bark"), 0.25),
        Panel((left - 0.07, top - 0.3, left + 0.09, top + 0.06), crown, 0.5, oval=True),
    ]


def _car(rng: np.random.Generator, horizon: float) -> list[Panel]:
    left, base = rng.uniform(0, 0.8), horizon + rng.uniform(0.02, 0.06)
    body = _cloth(rng, rng.choice(["red", "blue", "black", "paper", "steel"]))
    wheels = [
        Panel(
            (left + at, base - 0.035, left + at + 0.03, base + 0.02),
            _cloth(rng, "black"),
            oval=True,
        )
        for at in (0.03, 0.19)
    ]
    return [
        Panel((left + 0.05, base - 0.16, left + 0.2, base - 0.05), body),
        Panel((left + 0.06, base - 0.15, left + 0.19, base - 0.09), _cloth(rng, "glass")),
        Panel((left, base - 0.095, left + 0.25, base), body),
        *wheels,
    ]
