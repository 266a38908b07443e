"""Surfaces of a person: garments with prints and openings, legs, sleeves, face and hairline."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from synthvi import portable_math
from synthvi.materials import Cloth, Material
from synthvi.person import SKIRTS, Person
from synthvi.solids import Mask, Patch, Surface, plain

DARK = plain(Material((0.012, 0.010, 0.010), 0.05))
WHITE = Material((0.62, 0.62, 0.60), 0.55)
CHEST = 0.725
OPENABLE = ("shirt", "hoodie", "jacket", "vest", "coat")
BARE_NECK = ("tank", "tee", "dress")


def shade_of(material: Material, share: float) -> Cloth:
    """Plain cloth of the same material, darker or lighter: seams, pockets, linings."""
    return plain(material.scaled(share))


def top_surface(person: Person, radius: float) -> Surface:
    """Surface of the upper garment around the trunk; `radius` is its half-width."""
    top, accent, base = person.top, person.accent, person.palette["top"]
    mark = plain(person.palette["accent"])
    over: list[tuple[Mask, Cloth]] = []
    if accent.yoke < 1:
        over.append((lambda p: p.inside(p.y - accent.yoke), mark))
    if accent.hem_band:
        over.append((lambda p: p.inside(top.hem + 0.035 - p.y), mark))
    if accent.print != "none":
        over += _prints(person, radius, mark)
    if top.kind == "hoodie":
        over.append((_pouch, shade_of(base, 0.72)))
    if top.kind == "vest":
        over.append(
            (lambda p: p.inside(0.004 - np.abs((p.y * 18) % 1 - 0.5) / 18), shade_of(base, 0.6))
        )
    over += _front_of(person, radius) + _neckline(person)
    if person.bag.kind == "cross":
        over.append((lambda p: _sash(p, radius, person.bag.side), plain(person.palette["strap"])))
    if person.bag.kind == "backpack":
        over.append((lambda p: _braces(p, radius), plain(person.palette["strap"])))
    return Surface(person.cloth("top", person.fabric.top), tuple(over))


PRINTS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "disc": lambda s, y: 0.042 - portable_math.hypot(s, y - CHEST),
    "bar": lambda s, y: np.minimum(0.07 - np.abs(s), 0.02 - np.abs(y - CHEST)),
    "panel": lambda s, y: np.minimum(0.05 - np.abs(s), 0.06 - np.abs(y - CHEST + 0.02)),
    "lines": lambda s, y: np.minimum(
        np.minimum(0.055 - np.abs(s), 0.045 - np.abs(y - CHEST)),
        0.009 - np.abs((y - CHEST + 0.045) % 0.036 - 0.018),
    ),
    "cross": lambda s, y: np.minimum(
        0.05 - np.maximum(np.abs(s), np.abs(y - CHEST)),
        0.014 - np.minimum(np.abs(s), np.abs(y - CHEST)),
    ),
    "band": lambda s, y: 0.032 - np.abs(y - 0.69) + 0 * s,
}


def _prints(person: Person, radius: float, mark: Cloth) -> list[tuple[Mask, Cloth]]:
    """The print on the chest, unless an open front would cut it, and on the back if it has one."""
    shape = PRINTS[person.accent.print]
    over: list[tuple[Mask, Cloth]] = []
    if not person.top.opening:
        over.append((lambda p: p.inside(shape(p.angle * radius, p.y)), mark))
    if person.accent.back:
        over.append(
            (lambda p: p.inside(shape((p.angle - np.sign(p.angle) * np.pi) * radius, p.y)), mark)
        )
    return over


def _front_of(person: Person, radius: float) -> list[tuple[Mask, Cloth]]:
    """An open front that shows the layer below, or a closed one with its buttons or zip."""
    top, base = person.top, person.palette["top"]
    if top.opening:
        return [
            (lambda p: _gap(p, top.opening + 0.1, radius), shade_of(base, 0.6)),
            (lambda p: _gap(p, top.opening, radius), person.cloth("inner", person.fabric.inner)),
        ]
    if top.kind in OPENABLE:
        return [(lambda p: p.inside(0.005 - np.abs(p.angle) * radius), shade_of(base, 0.5))]
    if top.kind == "polo":
        return [
            (
                lambda p: p.inside(np.minimum(0.007 - np.abs(p.angle) * radius, p.y - 0.755)),
                shade_of(base, 0.6),
            )
        ]
    return []


def _neckline(person: Person) -> list[tuple[Mask, Cloth]]:
    """Collar, lapels or a bare neck."""
    base, kind = person.palette["top"], person.top.kind
    if kind in BARE_NECK:
        skin = plain(person.palette["skin"])
        deep = 0.035 if kind != "tee" else 0.016
        over = [(lambda p: p.inside(p.y - 0.835 + deep * portable_math.cos(p.angle)), skin)]
        if kind == "tank":
            over.append(
                (
                    lambda p: p.inside(
                        np.minimum(p.y - 0.765, 0.35 - np.abs(np.abs(p.angle) - np.pi / 2))
                    ),
                    skin,
                )
            )
        return over
    if kind in ("coat", "jacket", "shirt", "polo"):
        lapel = 0.09 if kind == "coat" else 0.035
        return [
            (
                lambda p: p.inside(
                    np.minimum(p.y - 0.815 + lapel * np.maximum(portable_math.cos(p.angle), 0), 1.0)
                ),
                shade_of(base, 1.35),
            )
        ]
    return [
        (lambda p: p.inside(p.y - 0.828 + 0.012 * portable_math.cos(p.angle)), shade_of(base, 0.7))
    ]


def _gap(patch: Patch, angle: float, radius: float) -> np.ndarray:
    """Opening of a jacket: a V that is widest at the hem."""
    wide = angle * (0.55 + 0.9 * np.maximum(0.8 - patch.y, 0))
    return patch.inside((wide - np.abs(patch.angle)) * radius)


def _pouch(patch: Patch) -> np.ndarray:
    return patch.inside(
        np.minimum(
            0.08 - 0.5 * np.maximum(patch.y - 0.56, 0) - np.abs(patch.arc),
            0.035 - np.abs(patch.y - 0.56),
        )
    )


def _sash(patch: Patch, radius: float, side: int) -> np.ndarray:
    """A strap from one shoulder to the other hip, on front and back."""
    slope = -0.30 / 0.16 * side
    line = 0.83 + slope * (radius * portable_math.sin(patch.angle) + side * 0.06)
    return patch.inside(0.011 - np.abs(patch.y - line) / np.hypot(1, slope))


def _braces(patch: Patch, radius: float) -> np.ndarray:
    off_centre = np.abs(np.abs(radius * portable_math.sin(patch.angle)) - 0.062)
    front = np.minimum(portable_math.cos(patch.angle) * radius, patch.y - 0.67)
    return patch.inside(np.minimum(0.014 - off_centre, front))


def hip_surface(person: Person) -> Surface:
    """Surface of trousers or skirt around the hips, with belt and pockets."""
    bottom, base = person.bottom, person.palette["bottom"]
    over: list[tuple[Mask, Cloth]] = []
    if bottom.pockets and bottom.kind not in SKIRTS:
        over.append((_seat_pockets, shade_of(base, 0.6)))
    if bottom.belt:
        over.append(
            (lambda p: p.inside(0.014 - np.abs(p.y - 0.585)), plain(person.palette["belt"]))
        )
    return Surface(person.cloth("bottom", person.bottom_weave), tuple(over))


def _seat_pockets(patch: Patch) -> np.ndarray:
    off = np.abs(np.pi - np.abs(patch.angle)) * 0.085 - 0.042
    frame = np.maximum(np.abs(off) - 0.024, np.abs(patch.y - 0.525) - 0.028)
    return patch.inside(0.004 - np.abs(frame))


class Legs(NamedTuple):
    """Surfaces of a leg: bare `thigh`, `shin` with sock and boot, and the `cloth` of trousers (None
    under a skirt) with its `stripes`."""

    thigh: Surface
    shin: Surface
    cloth: Cloth | None
    stripes: tuple[tuple[Mask, Cloth], ...]


def leg_surfaces(person: Person, shin: float) -> Legs:
    """Surfaces of a leg; lengths run down from hip and knee, `shin` is that of the shin."""
    bottom, shoes = person.bottom, person.shoes
    skirted = bottom.kind in SKIRTS or person.top.kind == "dress"
    stripes = ()
    if bottom.seam:
        stripes = (
            (
                lambda p: p.inside(0.012 - np.abs(np.abs(p.angle) - np.pi / 2) * 0.05),
                plain(person.palette["seam"]),
            ),
        )
    tights = shoes.tights and skirted
    bare = plain(person.palette["tights" if tights else "skin"])
    over: list[tuple[Mask, Cloth]] = []
    if shoes.sock and not tights:
        over.append((lambda p: p.inside(p.y - (shin - shoes.sock)), plain(person.palette["sock"])))
    over.append(
        (lambda p: p.inside(p.y - (shin + 0.005 - shoes.boot)), plain(person.palette["shoes"]))
    )
    return Legs(
        Surface(bare, rough=0.15),
        Surface(bare, tuple(over), rough=0.15),
        None if skirted else person.cloth("bottom", person.bottom_weave),
        stripes,
    )


def sleeve_surfaces(person: Person, upper: float, fore: float) -> tuple[Surface, Surface]:
    """Surfaces of upper arm and forearm of these lengths: the sleeve, then skin."""
    top, accent, skin = person.top, person.accent, plain(person.palette["skin"])
    mark = plain(person.palette["accent"])
    below = person.cloth("inner", person.fabric.inner)
    cloth = below if top.kind == "vest" else person.cloth("top", person.fabric.top)
    if accent.sleeves == "all" or (accent.yoke < 1 and top.sleeve > 1 and top.kind != "vest"):
        cloth = mark
    if top.sleeve == 0:
        return Surface(skin, rough=0.0), Surface(skin, rough=0.0)
    first, second = min(top.sleeve, 1) * upper * 1.15, (top.sleeve - 1) * fore
    over: list[tuple[Mask, Cloth]] = []
    if accent.sleeves == "stripe":
        over.append((lambda p: p.inside(0.011 - np.abs(np.abs(p.angle) - np.pi / 2) * 0.03), mark))
    cuff = [
        (lambda p, end=end: p.inside(p.y - end + 0.03), mark)
        if accent.sleeves == "cuff"
        else (lambda p, end=end: p.inside(p.y - end + 0.008), shade_of(cloth.base, 0.75))
        for end in (first, second)
    ]
    ends = [(lambda p, end=end: p.inside(p.y - end), skin) for end in (first, second)]
    short = top.sleeve <= 1
    upper_over = [*over, cuff[0], ends[0]] if short else over
    return (Surface(cloth, tuple(upper_over)), Surface(cloth, (*over, cuff[1], ends[1])))


def face_surface(person: Person) -> Surface:
    """Skin with brows, eyes, mouth and, on some, a beard."""
    skin, hair = person.palette["skin"], plain(person.palette["hair"])
    over: list[tuple[Mask, Cloth]] = []
    if person.hair.beard:
        over.append(
            (lambda p: p.inside(np.minimum(0.917 - p.y, (1.45 - np.abs(p.angle)) * 0.05)), hair)
        )
    over.append((lambda p: _pair(p, 0.42, 0.944, 0.011, 0.0035), DARK))
    over.append((lambda p: _pair(p, 0.44, 0.953, 0.014, 0.003), hair))
    over.append(
        (
            lambda p: p.inside(
                np.minimum(0.015 - np.abs(p.angle) * 0.048, 0.0035 - np.abs(p.y - 0.903))
            ),
            shade_of(skin, 0.5),
        )
    )
    return Surface(plain(skin), tuple(over), rough=0.0)


def _pair(patch: Patch, angle: float, y: float, wide: float, high: float) -> np.ndarray:
    """Coverage of two flat ellipses, one on either side of the face: eyes or brows."""
    off = (np.abs(patch.angle) - angle) * 0.048
    return patch.inside((1 - portable_math.hypot(off / wide, (patch.y - y) / high)) * high)


def hairline(low: float, fringe: float) -> Mask:
    """Mask of hair: above the height `fringe` in front, above `low` at sides and back."""

    def mask(patch: Patch) -> np.ndarray:
        front = np.clip((1.7 - np.abs(patch.angle)) / 0.5, 0, 1)
        return patch.inside(patch.y - (low + (fringe - low) * front))

    return mask
