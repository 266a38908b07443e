"""Draws identities: how often what is worn, and how the members of a family differ."""

from dataclasses import replace

import numpy as np
from . import materials
from .levels import Level
from .materials import Material
from .person import Accent, Bag, Bottom, Build, Fabric, Gait, Hair, Hat, Person, Shoes, Top

# kind: (share, hem (low, high) as height on the body, sleeve in arm lengths 0..2, ease, share open)
TOPS = {
    "tank": (0.05, (0.47, 0.53), 0.0, 0.001, 0.0),
    "tee": (0.20, (0.44, 0.52), 0.55, 0.006, 0.0),
    "polo": (0.08, (0.45, 0.50), 0.6, 0.005, 0.0),
    "shirt": (0.14, (0.43, 0.50), 1.93, 0.006, 0.3),
    "sweater": (0.12, (0.47, 0.53), 1.93, 0.012, 0.0),
    "hoodie": (0.12, (0.45, 0.50), 1.93, 0.016, 0.35),
    "jacket": (0.12, (0.47, 0.54), 1.93, 0.017, 0.6),
    "vest": (0.05, (0.47, 0.53), 1.93, 0.020, 0.5),
    "coat": (0.08, (0.24, 0.38), 1.93, 0.017, 0.45),
    "dress": (0.07, (0.22, 0.36), 0.4, 0.004, 0.0),
}
# kind: (share, (shortest, longest) lower edge as height on the body, ease at thigh, at the edge)
BOTTOMS = {
    "slim": (0.24, (0.045, 0.07), 0.002, 0.004),
    "straight": (0.26, (0.035, 0.05), 0.006, 0.013),
    "wide": (0.12, (0.03, 0.05), 0.011, 0.034),
    "cropped": (0.08, (0.11, 0.18), 0.005, 0.012),
    "shorts": (0.13, (0.27, 0.37), 0.010, 0.020),
    "skirt": (0.11, (0.29, 0.40), 0.010, 0.045),
    "long skirt": (0.06, (0.09, 0.18), 0.010, 0.055),
}
HAIR = {
    "bald": 0.05,
    "short": 0.34,
    "side": 0.10,
    "bob": 0.13,
    "long": 0.16,
    "tail": 0.11,
    "bun": 0.07,
    "afro": 0.04,
}
HATS = {"none": 0.72, "cap": 0.10, "beanie": 0.09, "brim": 0.05, "hood": 0.04}
BAGS = {
    "none": 0.34,
    "backpack": 0.22,
    "cross": 0.14,
    "handbag": 0.10,
    "tote": 0.11,
    "case": 0.05,
    "waist": 0.04,
}
PRINTS = {
    "none": 0.5,
    "disc": 0.1,
    "bar": 0.1,
    "panel": 0.1,
    "lines": 0.1,
    "cross": 0.05,
    "band": 0.05,
}
TOP_PATTERNS = {
    "hoops": 0.24,
    "thin hoops": 0.16,
    "stripes": 0.1,
    "pinstripes": 0.06,
    "checks": 0.12,
    "panes": 0.08,
    "tiles": 0.05,
    "diagonal": 0.04,
    "diamonds": 0.04,
    "zigzag": 0.03,
    "dots": 0.05,
    "blotches": 0.06,
}
BOTTOM_PATTERNS = {
    "stripes": 0.2,
    "pinstripes": 0.2,
    "checks": 0.2,
    "panes": 0.1,
    "hoops": 0.15,
    "dots": 0.08,
    "blotches": 0.1,
}
BAG_PATTERNS = {"hoops": 0.5, "stripes": 0.25, "tiles": 0.15, "dots": 0.1}
PLAINER = {"bottom": 0.4, "bag": 0.45, "hat": 0.4, "inner": 0.5}  # of a top's share of patterns


# Traits by which members of a family differ, and when two values are told apart at a glance.
TRAITS = {
    "build": lambda b: (round(b.girth * 4), round(b.shoulders * 5)),
    "hair": lambda h: h.style,
    "hat": lambda h: (h.kind, h.scarf),
    "top": lambda t: t.kind,
    "fabric": lambda f: f.top.pattern,
    "accent": lambda a: (a.print, a.sleeves, a.yoke < 1),
    "bottom": lambda b: b.kind,
    "bottom_weave": lambda w: w.pattern,
    "shoes": lambda s: (s.boot > 0.06, s.tights),
    "bag": lambda b: b.kind,
}
CUT = ("top", "fabric", "accent", "bottom", "bottom_weave", "bag")


def sample_person(seed: int, pid: int, level: Level) -> Person:
    """The identity number `pid` of the world `seed`: always the same for the same arguments.

    Where the level has families, `level.family` identities in a row have a common ancestor. In
    turn a member keeps the ancestor's colours but not the cut; keeps the cut but for a few traits,
    in colours of its own; or keeps both but for those few traits. So neither colour nor cut alone
    names anybody, and every two members differ in traits that both modalities show.
    """
    own = draw_person(np.random.default_rng([seed, 11, pid]), level)
    if level.family == 1:
        return own
    family, member = divmod(pid - 1, level.family)
    rng = np.random.default_rng([seed, 13, pid])
    person = draw_person(np.random.default_rng([seed, 17, family]), level)
    if member % 3 == 0:
        person = replace(person, **{trait: getattr(own, trait) for trait in CUT})
    elif member % 3 == 1:
        person = replace(person, palette=own.palette)
    for trait in rng.permutation(list(TRAITS))[: level.changes]:
        person = _changed(person, str(trait), rng, level)
    return replace(person, gait=own.gait)


def _changed(person: Person, trait: str, rng: np.random.Generator, level: Level) -> Person:
    """The person with another value of a trait, one that looks different."""
    tell = TRAITS[trait]
    while True:
        value = getattr(draw_person(rng, level), trait)
        if tell(value) != tell(getattr(person, trait)):
            return replace(person, **{trait: value})


def draw_person(rng: np.random.Generator, level: Level) -> Person:
    """A person whose every trait is drawn on its own."""
    top = _draw_top(rng)
    weaves = {part: level.patterned * share for part, share in PLAINER.items()}
    return Person(
        build=_draw_build(rng),
        hair=_draw_hair(rng),
        hat=Hat(
            _pick(rng, HATS),
            materials.draw_weave(rng, {"thin hoops": 1.0}, weaves["hat"], (0.03, 0.04)),
            bool(rng.random() < 0.1),
        ),
        top=top,
        fabric=Fabric(
            materials.draw_weave(rng, TOP_PATTERNS, level.patterned, (0.055, 0.12)),
            materials.draw_weave(rng, TOP_PATTERNS, weaves["inner"]),
        ),
        accent=_draw_accent(rng),
        bottom=_draw_bottom(rng),
        bottom_weave=materials.draw_weave(rng, BOTTOM_PATTERNS, weaves["bottom"], (0.05, 0.11)),
        shoes=_draw_shoes(rng),
        bag=Bag(
            _pick(rng, BAGS),
            float(rng.uniform(0.75, 1.3)),
            int(rng.choice((-1, 1))),
            materials.draw_weave(rng, BAG_PATTERNS, weaves["bag"], (0.05, 0.08)),
        ),
        gait=Gait(float(rng.uniform(0.32, 0.5)), float(rng.uniform(0.15, 0.5))),
        palette=_draw_palette(rng, level),
    )


def _pick(rng: np.random.Generator, shares: dict[str, float]) -> str:
    weights = np.array(list(shares.values()))
    return list(shares)[rng.choice(len(weights), p=weights / weights.sum())]


def _draw_hair(rng: np.random.Generator) -> Hair:
    style = _pick(rng, HAIR)
    return Hair(style, bool(rng.random() < 0.25) and style in ("bald", "short", "side", "afro"))


def _draw_build(rng: np.random.Generator) -> Build:
    return Build(
        height=float(np.clip(rng.normal(1.7, 0.1), 1.48, 1.95)),
        girth=float(np.clip(rng.normal(1.02, 0.13), 0.82, 1.42)),
        shoulders=float(rng.uniform(0.88, 1.12)),
        hips=float(rng.uniform(0.9, 1.18)),
        belly=float(np.clip(rng.normal(1.0, 0.14), 0.82, 1.5)),
        bust=float(max(rng.normal(0.2, 0.6), 0)),
        lean=float(rng.normal(0.03, 0.03)),
    )


def _draw_top(rng: np.random.Generator) -> Top:
    kind = _pick(rng, {name: row[0] for name, row in TOPS.items()})
    _, hem, sleeve, ease, share_open = TOPS[kind]
    layered = kind in ("hoodie", "jacket", "vest", "sweater") and rng.random() < 0.3
    return Top(
        kind=kind,
        hem=float(rng.uniform(*hem)),
        sleeve=float(sleeve and np.clip(sleeve + rng.uniform(-0.25, 0.2), 0.2, 1.97)),
        ease=ease * float(rng.uniform(0.7, 1.5)),
        flare=float(rng.uniform(0.1, 0.6)) if kind in ("coat", "dress") else 0.0,
        opening=float(rng.uniform(0.3, 0.75)) if rng.random() < share_open else 0.0,
        tail=float(rng.uniform(0.03, 0.06)) if layered else 0.0,
    )


def _draw_accent(rng: np.random.Generator) -> Accent:
    return Accent(
        yoke=float(rng.uniform(0.66, 0.74)) if rng.random() < 0.15 else 1.0,
        sleeves=str(rng.choice(["none", "all", "stripe", "cuff"], p=[0.66, 0.14, 0.1, 0.1])),
        hem_band=bool(rng.random() < 0.12),
        print=_pick(rng, PRINTS),
        back=bool(rng.random() < 0.5),
    )


def _draw_bottom(rng: np.random.Generator) -> Bottom:
    kind = _pick(rng, {name: row[0] for name, row in BOTTOMS.items()})
    _, edge, thigh, cuff = BOTTOMS[kind]
    return Bottom(
        kind,
        float(rng.uniform(*edge)),
        (thigh, cuff * float(rng.uniform(0.8, 1.25))),
        pockets=bool(rng.random() < 0.6),
        belt=bool(rng.random() < 0.25),
        seam=bool(rng.random() < 0.15),
    )


def _draw_shoes(rng: np.random.Generator) -> Shoes:
    return Shoes(
        boot=float(rng.uniform(0.09, 0.22)) if rng.random() < 0.2 else 0.03,
        sole=bool(rng.random() < 0.5),
        sock=float(rng.uniform(0.03, 0.14)) if rng.random() < 0.4 else 0.0,
        tights=bool(rng.random() < 0.45),
    )


def _draw_palette(rng: np.random.Generator, level: Level) -> dict[str, Material]:
    """A material for each part of a person and what it wears."""
    draw, draw_second = materials.draw_material, materials.draw_contrast
    palette = {
        "skin": draw(rng, materials.SKIN_COLOURS, 4.0, (0.42, 0.6)),
        "hair": draw(rng, materials.HAIR_COLOURS, 5.0, (0.05, 0.5)),
        "shoes": draw(rng, materials.LEATHER_COLOURS),
        "tights": draw(rng, materials.NEUTRALS),
        "sock": draw(rng, materials.NEUTRALS),
        "scarf": draw(rng, materials.GARMENT_COLOURS),
        "strap": draw(rng, materials.LEATHER_COLOURS),
        "belt": draw(rng, materials.LEATHER_COLOURS),
    }
    for part, colours in (
        ("top", materials.TOP_COLOURS),
        ("inner", materials.TOP_COLOURS),
        ("bottom", materials.BOTTOM_COLOURS),
        ("bag", materials.LEATHER_COLOURS),
        ("hat", materials.TOP_COLOURS),
    ):
        palette[part] = draw(rng, colours)
        palette[f"{part} second"] = draw_second(rng, palette[part], level.contrast)
    palette["accent"] = draw_second(rng, palette["top"], level.contrast)
    palette["seam"] = draw_second(rng, palette["bottom"], level.contrast)
    return palette if level.colours == 1 else _toned(palette, level.colours)


def _toned(palette: dict[str, Material], keep: float) -> dict[str, Material]:
    """The palette with every material but skin and hair drawn towards one of two tones."""
    toned = {
        part: palette[part] if part in ("skin", "hair") else materials.toned(palette[part], keep)
        for part in palette
    }
    for part, other in [
        (p, p.removesuffix(" second")) for p in palette if p.endswith(" second")
    ] + [("accent", "top"), ("seam", "bottom")]:
        toned[part] = materials.toned(palette[part], keep, beside=palette[other])
    return toned
