"""What a body wears: surfaces of the garments, face and hair, and the solids of hats and bags."""

from typing import NamedTuple

import numpy as np

from .materials import Cloth, Material
from .person import Person
from .solids import Chain, Limb, Mask, Patch, Solid, Stack, Surface, plain, uniform

DARK = plain(Material((0.015, 0.012, 0.012), 0.06))
CHEST = 0.72


def _darker(material: Material, share: float = 0.6) -> Cloth:
    return plain(Material(tuple(share * c for c in material.rgb), share * material.nir))


def top_surface(person: Person, radius: float) -> Surface:
    """The upper garment around the trunk, `radius` its half-width: front, logo, straps, hem."""
    top, bag = person.top, person.bag
    over: list[tuple[Mask, Cloth]] = []
    if top.yoke < 1:
        over.append((lambda p: p.inside(p.y - top.yoke), top.accent))
    if top.hem_band:
        over.append((lambda p: p.inside(top.hem + 0.035 - p.y), top.accent))
    if top.logo != "none" and not top.opening:
        over.append((LOGOS[top.logo], plain(top.logo_material)))
    if top.kind == "hoodie":
        over.append((_pouch, _darker(top.cloth.base, 0.7)))
    if top.opening:
        over.append((lambda p: _front(p, top.opening + 0.09, radius), _darker(top.cloth.base)))
        over.append((lambda p: _front(p, top.opening, radius), top.inner))
    elif top.kind in ("shirt", "jacket", "coat"):
        over.append((lambda p: p.inside(0.006 - np.abs(p.tau) * radius), _darker(top.cloth.base)))
    bare = top.kind in ("tank", "tee", "dress")
    collar = plain(person.body.skin) if bare else _darker(top.cloth.base, 0.8)
    over.append((lambda p: p.inside(p.y - 0.832 + 0.02 * np.cos(p.tau)), collar))
    if bag.kind == "cross":
        over.append((lambda p: _sash(p, radius, bag.side), plain(bag.strap)))
    if bag.kind == "backpack":
        over.append((lambda p: _braces(p, radius), plain(bag.strap)))
    return Surface(top.cloth, tuple(over))


LOGOS: dict[str, Mask] = {
    "disc": lambda p: p.inside(0.042 - np.hypot(p.s, p.y - CHEST)),
    "bar": lambda p: p.inside(np.minimum(0.075 - np.abs(p.s), 0.022 - np.abs(p.y - CHEST))),
    "panel": lambda p: p.inside(np.minimum(0.05 - np.abs(p.s), 0.06 - np.abs(p.y - CHEST + 0.02))),
}


def _front(patch: Patch, angle: float, radius: float) -> np.ndarray:
    """The gap of an open jacket: a V that is widest at the hem."""
    wide = angle * (0.55 + 0.9 * np.maximum(0.8 - patch.y, 0))
    return patch.inside((wide - np.abs(patch.tau)) * radius)


def _pouch(patch: Patch) -> np.ndarray:
    return patch.inside(np.minimum(0.085 - np.abs(patch.s), 0.035 - np.abs(patch.y - 0.56)))


def _sash(patch: Patch, radius: float, side: int) -> np.ndarray:
    """A strap from one shoulder to the other hip: a plane through the trunk, seen on both sides."""
    slope = -0.30 / 0.16 * side
    line = 0.83 + slope * (radius * np.sin(patch.tau) + side * 0.06)
    return patch.inside(0.012 - np.abs(patch.y - line) / np.hypot(1, slope))


def _braces(patch: Patch, radius: float) -> np.ndarray:
    off_centre = np.abs(np.abs(radius * np.sin(patch.tau)) - 0.058)
    front = np.minimum(np.cos(patch.tau) * radius, patch.y - 0.66)
    return patch.inside(np.minimum(0.013 - off_centre, front))


def hip_surface(person: Person) -> Surface:
    """Trousers or skirt around the hips, with a belt where there is one."""
    bottom = person.bottom
    if bottom.kind == "dress":
        return uniform(bottom.legs)
    over = []
    if bottom.belt is not None:
        over.append((lambda p: p.inside(0.016 - np.abs(p.y - 0.575)), plain(bottom.belt)))
    return Surface(bottom.cloth, tuple(over))


class Legs(NamedTuple):
    """Surfaces of a leg: bare `thigh` and `shin` (boots on it), and the `cloth` of trousers with
    its side `stripes`; `cloth` is None under a skirt."""

    thigh: Surface
    shin: Surface
    cloth: Cloth | None
    stripes: tuple[tuple[Mask, Cloth], ...]


def leg_surfaces(person: Person) -> Legs:
    """What a leg shows; heights run from the hip or knee downwards, in body heights."""
    bottom = person.bottom
    stripes = ()
    if bottom.side_stripe is not None:
        stripes = ((lambda p: p.inside(0.014 - np.abs(np.abs(p.tau) - np.pi / 2) * 0.05),
                    plain(bottom.side_stripe)),)
    boots = (lambda p: p.inside(p.y - (0.225 - bottom.boot)), plain(bottom.shoes))
    bare = plain(bottom.legs)
    trousers = "skirt" not in bottom.kind and bottom.kind != "dress"
    return Legs(Surface(bare), Surface(bare, (boots,)), bottom.cloth if trousers else None, stripes)


def sleeve_surfaces(person: Person, upper: float, fore: float) -> tuple[Surface, Surface]:
    """Upper arm and forearm: cloth down to the sleeve's end, then skin."""
    top, skin = person.top, plain(person.body.skin)
    contrast = top.contrast_sleeves or (top.yoke < 1 and top.sleeve > 1)
    cloth = top.accent if contrast else top.cloth
    first, second = min(top.sleeve, 1) * upper * 1.1, (top.sleeve - 1) * fore
    return (Surface(cloth, ((lambda p: p.inside(p.y - first), skin),)),
            Surface(cloth, ((lambda p: p.inside(p.y - second), skin),)))


def face_surface(person: Person) -> Surface:
    """Skin with eyes, mouth and, on some, a beard."""
    over: list[tuple[Mask, Cloth]] = []
    if person.head.beard:
        over.append((lambda p: p.inside(np.minimum(0.916 - p.y, (1.5 - np.abs(p.tau)) * 0.05)),
                     plain(person.head.hair)))
    over.append((_eyes, DARK))
    over.append((lambda p: p.inside(np.minimum(0.013 - np.abs(p.s), 0.004 - np.abs(p.y - 0.903))),
                 _darker(person.body.skin, 0.4)))
    return Surface(plain(person.body.skin), tuple(over))


def _eyes(patch: Patch) -> np.ndarray:
    return patch.inside(0.008 - np.hypot((np.abs(patch.tau) - 0.42) * 0.045, patch.y - 0.940))


def hairline(low: float) -> Mask:
    """Hair everywhere but on the face: forehead above, ears at the sides, down to `low` behind."""
    def mask(patch: Patch) -> np.ndarray:
        front = np.clip((1.75 - np.abs(patch.tau)) / 0.6, 0, 1)
        return patch.inside(patch.y - (low + (0.972 - low) * front))
    return mask


def hat(person: Person, place: dict, turn: float, back: np.ndarray) -> list[Solid]:
    """Cap (with a visor), beanie or brimmed hat; none for most people."""
    kind, cloth = person.head.hat, person.head.hat_cloth
    if kind == "none":
        return []
    bulk = 1.35 if person.head.style == "afro" else 1.12
    low, high = {"cap": (0.956, 1.016), "beanie": (0.948, 1.03), "brim": (0.962, 1.035)}[kind]
    u = np.linspace(0, 1, 7)
    dome = (1 - u ** 2.6) ** 0.5
    heights = low + (high - low) * u
    crown = Stack(4.0, heights, 0.047 * bulk * dome, 0.058 * bulk * dome, Surface(cloth), **place)
    ahead = np.array([np.sin(-turn), 0.0, np.cos(turn)])
    axis = back + [0.0, low + 0.004, 0.012]
    second = uniform(cloth.second)
    if kind == "cap":
        front = axis + 0.098 * ahead - [0, 0.008, 0]
        visor = Limb(axis + 0.04 * ahead, front, (0.012, 0.009), second)
        return [crown, Chain(4.1, (visor,))]
    if kind == "beanie":
        return [crown, Chain(4.1, (Limb(axis + [0, 0.085, 0], axis + [0, 0.087, 0], (0.018, 0.018),
                                        second),))]
    rim = np.array([low - 0.006, low, low + 0.008])
    return [crown, Stack(4.1, rim, np.full(3, 0.1), np.full(3, 0.105), second, **place)]


class Wearer(NamedTuple):
    """Where a bag hangs: the person, the trunk's largest half-widths (`wide` sideways, `deep`
    forward), `shoulder` and `hand` (3,) on the bag's side, and the person's `yaw`."""

    person: Person
    wide: float
    deep: float
    shoulder: np.ndarray
    hand: np.ndarray
    yaw: float


def bag(wearer: Wearer) -> list[Solid]:
    """The solids of the bag that a person carries, none for some."""
    make = BAGS.get(wearer.person.bag.kind)
    return make(wearer) if make else []


def _rounded(low: float, high: float, a: float, b: float) -> tuple:
    ends = np.array([0.0, 0.1, 0.9, 1.0])
    narrow = np.array([0.85, 1.0, 1.0, 0.82])
    return low + (high - low) * ends, a * narrow, b * narrow


def _backpack(wearer: Wearer) -> list[Solid]:
    bag, size = wearer.person.bag, wearer.person.bag.size
    behind = wearer.deep + wearer.person.top.ease + 0.03 * size
    order = 5.0 if np.cos(wearer.yaw) < -0.3 else -0.5
    pocket = (lambda p: p.inside(0.005 - np.abs(p.y - 0.665)), _darker(bag.cloth.base))
    return [Stack(order, *_rounded(0.72 - 0.13 * size, 0.83, 0.085 * size, 0.055 * size),
                  Surface(bag.cloth, (pocket,)), centre=(0.0, -behind),
                  lean=wearer.person.body.lean)]


def _side_order(lateral: float, yaw: float) -> float:
    """Bags at a side hide behind the body when that side is turned away."""
    return 7.0 if -lateral * np.sin(yaw) > -0.05 else -16.0


def _cross(wearer: Wearer) -> list[Solid]:
    bag, size = wearer.person.bag, wearer.person.bag.size
    out = bag.side * (wearer.wide + 0.015)
    return [Stack(_side_order(out, wearer.yaw) - 2.0,
                  *_rounded(0.53 - 0.09 * size, 0.54, 0.028, 0.085 * size),
                  Surface(bag.cloth), centre=(out, 0.03))]


def _tote(wearer: Wearer) -> list[Solid]:
    bag, size = wearer.person.bag, wearer.person.bag.size
    out = bag.side * (wearer.wide + 0.045)
    order = _side_order(out, wearer.yaw)
    joint = wearer.shoulder + [0.0, 0.02, 0.0]
    ends = [np.array([out, 0.60, forward]) for forward in (-0.05, 0.05)]
    straps = tuple(Limb(joint, end, (0.008, 0.008), uniform(bag.strap)) for end in ends)
    return [Chain(order - 0.1, straps),
            Stack(order, *_rounded(0.60 - 0.19 * size, 0.61, 0.026, 0.085 * size),
                  Surface(bag.cloth), centre=(out, 0.0))]


def _handbag(wearer: Wearer) -> list[Solid]:
    bag, size = wearer.person.bag, wearer.person.bag.size
    lateral, height, forward = wearer.hand - [0.0, 0.02, 0.0]
    order, top = _side_order(float(lateral), wearer.yaw), float(height) - 0.05
    ends = [np.array([lateral, top, forward + f]) for f in (-0.045, 0.045)]
    straps = tuple(Limb(np.array([lateral, height, forward]), end, (0.007, 0.007),
                        uniform(bag.strap)) for end in ends)
    return [Chain(order - 0.1, straps),
            Stack(order, *_rounded(top - 0.11 * size, top, 0.03, 0.08 * size),
                  Surface(bag.cloth), centre=(float(lateral), float(forward)))]


BAGS = {"backpack": _backpack, "cross": _cross, "tote": _tote, "handbag": _handbag}
