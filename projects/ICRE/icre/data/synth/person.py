"""An identity: everything about a person that stays the same from camera to camera.

Each attribute is drawn on its own, so no single cue names a person. What survives into infrared is
shape: build, hair style, hat, cut, pattern, bag. What does not is colour (see `materials`).
"""

from dataclasses import dataclass, fields, is_dataclass, replace

import numpy as np

from . import materials
from .materials import Cloth, Material

# kind: (share, hem (low, high) as height on the body, sleeve in arm lengths 0..2, ease, share open)
TOPS = {
    "tank": (0.07, (0.46, 0.52), 0.0, 0.000, 0.0),
    "tee": (0.20, (0.44, 0.52), 0.55, 0.006, 0.0),
    "shirt": (0.15, (0.43, 0.52), 1.9, 0.006, 0.25),
    "sweater": (0.15, (0.46, 0.53), 1.9, 0.013, 0.0),
    "hoodie": (0.14, (0.44, 0.51), 1.9, 0.016, 0.3),
    "jacket": (0.13, (0.47, 0.55), 1.9, 0.018, 0.7),
    "coat": (0.10, (0.22, 0.36), 1.9, 0.016, 0.45),
    "dress": (0.06, (0.20, 0.36), 0.3, 0.004, 0.0),
}
# kind: (share, (shortest, longest) lower edge as height on the body, ease at thigh, at the edge)
BOTTOMS = {
    "slim": (0.20, (0.05, 0.07), 0.003, 0.004),
    "straight": (0.24, (0.04, 0.05), 0.008, 0.014),
    "wide": (0.12, (0.035, 0.05), 0.012, 0.036),
    "cropped": (0.10, (0.12, 0.18), 0.006, 0.014),
    "shorts": (0.14, (0.26, 0.36), 0.012, 0.024),
    "skirt": (0.12, (0.28, 0.38), 0.012, 0.05),
    "long skirt": (0.08, (0.09, 0.18), 0.012, 0.06),
}
HAIR = {"bald": 0.06, "short": 0.36, "bob": 0.14, "long": 0.16, "tail": 0.12, "bun": 0.09,
        "afro": 0.07}
HATS = {"none": 0.68, "cap": 0.12, "beanie": 0.11, "brim": 0.09}
BAGS = {"none": 0.30, "backpack": 0.26, "cross": 0.18, "handbag": 0.14, "tote": 0.12}
LOGOS = {"none": 0.55, "disc": 0.15, "bar": 0.15, "panel": 0.15}
TOP_PATTERNS = {"plain": 0.24, "hoops": 0.2, "thin hoops": 0.1, "stripes": 0.11, "checks": 0.1,
                "tiles": 0.07, "diagonal": 0.06, "dots": 0.07}
BOTTOM_PATTERNS = {"plain": 0.5, "hoops": 0.18, "stripes": 0.15, "checks": 0.07, "dots": 0.05}
BAG_PATTERNS = {"plain": 0.6, "hoops": 0.2, "stripes": 0.1, "tiles": 0.1}


@dataclass(frozen=True)
class Body:
    """Build: `height` in metres; the others scale widths (1 = average); `lean` in radians."""

    height: float
    girth: float
    shoulders: float
    hips: float
    belly: float
    lean: float
    skin: Material


@dataclass(frozen=True)
class Head:
    """Hair style (a key of HAIR), hat (a key of HATS), beard and scarf."""

    style: str
    hair: Material
    beard: bool
    hat: str
    hat_cloth: Cloth
    scarf: Material | None


@dataclass(frozen=True)
class Top:
    """Upper garment; `hem` and `yoke` are heights on the body, `opening` an angle (0 = closed).

    Above `yoke` and on the sleeves where `contrast_sleeves` holds, the cloth is `accent`.
    """

    kind: str
    cloth: Cloth
    accent: Cloth
    inner: Cloth
    hem: float
    sleeve: float
    ease: float
    flare: float
    opening: float
    yoke: float
    contrast_sleeves: bool
    hem_band: bool
    logo: str
    logo_material: Material


@dataclass(frozen=True)
class Bottom:
    """Lower garment and shoes: `edge` and `boot` are heights, `legs` what shows below the edge."""

    kind: str
    cloth: Cloth
    edge: float
    ease: tuple[float, float]
    side_stripe: Material | None
    belt: Material | None
    legs: Material
    shoes: Material
    boot: float


@dataclass(frozen=True)
class Bag:
    """A bag (a key of BAGS) of `size` (1 = average), worn on `side` (-1 right, 1 left)."""

    kind: str
    cloth: Cloth
    strap: Material
    size: float
    side: int


@dataclass(frozen=True)
class Person:
    """One identity; `stride` and `swing` are the gait's amplitudes in radians."""

    body: Body
    head: Head
    top: Top
    bottom: Bottom
    bag: Bag
    stride: float
    swing: float


def sample_person(seed: int, pid: int) -> Person:
    """The identity number `pid` of the world `seed`: always the same for the same two numbers."""
    rng = np.random.default_rng([seed, 11, pid])
    body = _sample_body(rng)
    top = _sample_top(rng)
    head, bottom, bag = _sample_head(rng), _sample_bottom(rng, body.skin, top), _sample_bag(rng)
    stride = float(rng.uniform(0.3, 0.5)) * (0.5 if bottom.kind == "long skirt" else 1.0)
    return Person(body, head, top, bottom, bag, stride, swing=float(rng.uniform(0.15, 0.55)))


def as_thermal(person: Person) -> Person:
    """The same person for a long-wave camera: materials show their warmth instead of reflectance.

    Skin is warm; clothes keep part of the differences of their `nir`, as thick and thin cloth do.
    """
    skin = person.body.skin

    def warm(item: object) -> object:
        if isinstance(item, Material):
            return Material(item.rgb, 0.85 if item == skin else 0.12 + 0.55 * item.nir)
        if is_dataclass(item):
            return replace(item, **{f.name: warm(getattr(item, f.name)) for f in fields(item)})
        return item

    return warm(person)


def _pick(rng: np.random.Generator, shares: dict[str, float]) -> str:
    weights = np.array(list(shares.values()))
    return list(shares)[rng.choice(len(weights), p=weights / weights.sum())]


def _garment(rng: np.random.Generator) -> Material:
    return materials.draw_material(rng, materials.GARMENT_COLOURS)


def _sample_body(rng: np.random.Generator) -> Body:
    return Body(
        height=float(np.clip(rng.normal(1.7, 0.1), 1.48, 1.95)),
        girth=float(np.clip(rng.normal(1.03, 0.13), 0.82, 1.4)),
        shoulders=float(rng.uniform(0.88, 1.14)),
        hips=float(rng.uniform(0.9, 1.2)),
        belly=float(np.clip(rng.normal(1.0, 0.12), 0.85, 1.4)),
        lean=float(rng.normal(0.02, 0.03)),
        skin=materials.draw_material(rng, materials.SKIN_COLOURS, 6.0, (0.4, 0.6)),
    )


def _sample_head(rng: np.random.Generator) -> Head:
    return Head(
        style=_pick(rng, HAIR),
        hair=materials.draw_material(rng, materials.HAIR_COLOURS, 6.0, (0.05, 0.55)),
        beard=bool(rng.random() < 0.15),
        hat=_pick(rng, HATS),
        hat_cloth=materials.draw_cloth(rng, {"plain": 0.7, "thin hoops": 0.3}, (0.03, 0.04)),
        scarf=_garment(rng) if rng.random() < 0.12 else None,
    )


def _sample_top(rng: np.random.Generator) -> Top:
    kind = _pick(rng, {name: row[0] for name, row in TOPS.items()})
    _, hem, sleeve, ease, share_open = TOPS[kind]
    cloth = materials.draw_cloth(rng, TOP_PATTERNS)
    accent = Cloth(materials.draw_contrast(rng, cloth.base), cloth.base)
    return Top(
        kind=kind, cloth=cloth, accent=accent,
        inner=materials.draw_cloth(rng, {"plain": 0.6, "hoops": 0.4}),
        hem=float(rng.uniform(*hem)),
        sleeve=float(sleeve and np.clip(sleeve + rng.uniform(-0.25, 0.25), 0.2, 1.95)),
        ease=ease * float(rng.uniform(0.7, 1.6)),
        flare=float(rng.uniform(0.0, 0.5)) if kind in ("coat", "dress") else 0.0,
        opening=float(rng.uniform(0.3, 0.75)) if rng.random() < share_open else 0.0,
        yoke=float(rng.uniform(0.66, 0.74)) if rng.random() < 0.16 else 1.0,
        contrast_sleeves=bool(rng.random() < 0.16),
        hem_band=bool(rng.random() < 0.15),
        logo=_pick(rng, LOGOS), logo_material=materials.draw_contrast(rng, cloth.base),
    )


def _sample_bottom(rng: np.random.Generator, skin: Material, top: Top) -> Bottom:
    kind = _pick(rng, {name: row[0] for name, row in BOTTOMS.items()})
    kind = "dress" if top.kind == "dress" else kind
    _, edge, thigh, cuff = BOTTOMS.get(kind, BOTTOMS["shorts"])
    cloth = materials.draw_cloth(rng, BOTTOM_PATTERNS, (0.07, 0.13))
    bare = rng.random() < 0.6
    return Bottom(
        kind=kind, cloth=cloth, edge=float(rng.uniform(*edge)),
        ease=(thigh, cuff * float(rng.uniform(0.8, 1.25))),
        side_stripe=materials.draw_contrast(rng, cloth.base) if rng.random() < 0.18 else None,
        belt=materials.draw_contrast(rng, cloth.base) if rng.random() < 0.25 else None,
        legs=skin if bare else _garment(rng),
        shoes=_garment(rng),
        boot=float(rng.uniform(0.1, 0.24)) if rng.random() < 0.25 else 0.03,
    )


def _sample_bag(rng: np.random.Generator) -> Bag:
    cloth = materials.draw_cloth(rng, BAG_PATTERNS, (0.05, 0.08))
    return Bag(_pick(rng, BAGS), cloth, _garment(rng), size=float(rng.uniform(0.75, 1.3)),
               side=int(rng.choice((-1, 1))))
