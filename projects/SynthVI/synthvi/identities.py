"""Sampling of identities: how often each trait occurs, and how the members of a family differ."""

from dataclasses import replace

import numpy as np

from synthvi import materials
from synthvi.levels import Level
from synthvi.materials import Material
from synthvi.person import Accent, Bag, Bottom, Build, Fabric, Gait, Hair, Hat, Person, Shoes, Top

# kind: (share, range of the hem, sleeve, ease, share with an open front), see person.Top
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
# kind: (share, range of the edge, ease at the thigh, ease at the edge), see person.Bottom
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
PATTERN_FACTORS = {"bottom": 0.4, "bag": 0.45, "hat": 0.4, "inner": 0.5}  # on the share of tops

# Traits in which members of a family differ -> what of the trait can be recognised in an image.
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
CUT_TRAITS = ("top", "fabric", "accent", "bottom", "bottom_weave", "bag")


def sample_person(seed: int, pid: int, level: Level) -> Person:
    """The identity `pid` of the world `seed`: the same arguments give the same person.

    In a level with families, `level.family` consecutive identities have a common ancestor. In turn,
    a member has the ancestor's colours and another cut, the ancestor's cut and other colours, or
    both of the ancestor; in addition, `level.changes` traits of each member are changed. So neither
    colour nor cut alone identifies anybody, and any two members differ in traits that both
    modalities show.
    """
    independent = sample_independent_person(np.random.default_rng([seed, 11, pid]), level)
    if level.family == 1:
        return independent
    family, member = divmod(pid - 1, level.family)
    rng = np.random.default_rng([seed, 13, pid])
    person = sample_independent_person(np.random.default_rng([seed, 17, family]), level)
    if member % 3 == 0:
        person = replace(person, **{trait: getattr(independent, trait) for trait in CUT_TRAITS})
    elif member % 3 == 1:
        person = replace(person, palette=independent.palette)
    for trait in rng.permutation(list(TRAITS))[: level.changes]:
        person = _with_other_value(person, str(trait), rng, level)
    return replace(person, gait=independent.gait)


def _with_other_value(person: Person, trait: str, rng: np.random.Generator, level: Level) -> Person:
    """The person with another, recognisably different value of a trait."""
    appearance = TRAITS[trait]
    while True:
        value = getattr(sample_independent_person(rng, level), trait)
        if appearance(value) != appearance(getattr(person, trait)):
            return replace(person, **{trait: value})


def sample_independent_person(rng: np.random.Generator, level: Level) -> Person:
    """Sample a person whose traits are independent of each other."""
    top = _sample_top(rng)
    weaves = {part: level.patterned * share for part, share in PATTERN_FACTORS.items()}
    return Person(
        build=_sample_build(rng),
        hair=_sample_hair(rng),
        hat=Hat(
            _choose(rng, HATS),
            materials.sample_weave(rng, {"thin hoops": 1.0}, weaves["hat"], (0.03, 0.04)),
            bool(rng.random() < 0.1),
        ),
        top=top,
        fabric=Fabric(
            materials.sample_weave(rng, TOP_PATTERNS, level.patterned, (0.055, 0.12)),
            materials.sample_weave(rng, TOP_PATTERNS, weaves["inner"]),
        ),
        accent=_sample_accent(rng),
        bottom=_sample_bottom(rng),
        bottom_weave=materials.sample_weave(rng, BOTTOM_PATTERNS, weaves["bottom"], (0.05, 0.11)),
        shoes=_sample_shoes(rng),
        bag=Bag(
            _choose(rng, BAGS),
            float(rng.uniform(0.75, 1.3)),
            int(rng.choice((-1, 1))),
            materials.sample_weave(rng, BAG_PATTERNS, weaves["bag"], (0.05, 0.08)),
        ),
        gait=Gait(float(rng.uniform(0.32, 0.5)), float(rng.uniform(0.15, 0.5))),
        palette=_sample_palette(rng, level),
    )


def _choose(rng: np.random.Generator, shares: dict[str, float]) -> str:
    weights = np.array(list(shares.values()))
    return list(shares)[rng.choice(len(weights), p=weights / weights.sum())]


def _sample_hair(rng: np.random.Generator) -> Hair:
    style = _choose(rng, HAIR)
    return Hair(style, bool(rng.random() < 0.25) and style in ("bald", "short", "side", "afro"))


def _sample_build(rng: np.random.Generator) -> Build:
    return Build(
        height=float(np.clip(rng.normal(1.7, 0.1), 1.48, 1.95)),
        girth=float(np.clip(rng.normal(1.02, 0.13), 0.82, 1.42)),
        shoulders=float(rng.uniform(0.88, 1.12)),
        hips=float(rng.uniform(0.9, 1.18)),
        belly=float(np.clip(rng.normal(1.0, 0.14), 0.82, 1.5)),
        bust=float(max(rng.normal(0.2, 0.6), 0)),
        lean=float(rng.normal(0.03, 0.03)),
    )


def _sample_top(rng: np.random.Generator) -> Top:
    kind = _choose(rng, {name: row[0] for name, row in TOPS.items()})
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


def _sample_accent(rng: np.random.Generator) -> Accent:
    return Accent(
        yoke=float(rng.uniform(0.66, 0.74)) if rng.random() < 0.15 else 1.0,
        sleeves=str(rng.choice(["none", "all", "stripe", "cuff"], p=[0.66, 0.14, 0.1, 0.1])),
        hem_band=bool(rng.random() < 0.12),
        print=_choose(rng, PRINTS),
        back=bool(rng.random() < 0.5),
    )


def _sample_bottom(rng: np.random.Generator) -> Bottom:
    kind = _choose(rng, {name: row[0] for name, row in BOTTOMS.items()})
    _, edge, thigh, cuff = BOTTOMS[kind]
    return Bottom(
        kind,
        float(rng.uniform(*edge)),
        (thigh, cuff * float(rng.uniform(0.8, 1.25))),
        pockets=bool(rng.random() < 0.6),
        belt=bool(rng.random() < 0.25),
        seam=bool(rng.random() < 0.15),
    )


def _sample_shoes(rng: np.random.Generator) -> Shoes:
    return Shoes(
        boot=float(rng.uniform(0.09, 0.22)) if rng.random() < 0.2 else 0.03,
        sole=bool(rng.random() < 0.5),
        sock=float(rng.uniform(0.03, 0.14)) if rng.random() < 0.4 else 0.0,
        tights=bool(rng.random() < 0.45),
    )


def _sample_palette(rng: np.random.Generator, level: Level) -> dict[str, Material]:
    """Sample a material for each part of a person and of what is worn."""
    sample, sample_second = materials.sample_material, materials.sample_contrasting
    palette = {
        "skin": sample(rng, materials.SKIN_COLOURS, 4.0, (0.42, 0.6)),
        "hair": sample(rng, materials.HAIR_COLOURS, 5.0, (0.05, 0.5)),
        "shoes": sample(rng, materials.LEATHER_COLOURS),
        "tights": sample(rng, materials.NEUTRALS),
        "sock": sample(rng, materials.NEUTRALS),
        "scarf": sample(rng, materials.GARMENT_COLOURS),
        "strap": sample(rng, materials.LEATHER_COLOURS),
        "belt": sample(rng, materials.LEATHER_COLOURS),
    }
    for part, colours in (
        ("top", materials.TOP_COLOURS),
        ("inner", materials.TOP_COLOURS),
        ("bottom", materials.BOTTOM_COLOURS),
        ("bag", materials.LEATHER_COLOURS),
        ("hat", materials.TOP_COLOURS),
    ):
        palette[part] = sample(rng, colours)
        palette[f"{part} second"] = sample_second(rng, palette[part], level.contrast)
    palette["accent"] = sample_second(rng, palette["top"], level.contrast)
    palette["seam"] = sample_second(rng, palette["bottom"], level.contrast)
    return palette if level.colours == 1 else _pull_to_tones(palette, level.colours)


def _pull_to_tones(palette: dict[str, Material], keep: float) -> dict[str, Material]:
    """The palette with all materials but skin and hair moved towards one of two tones."""
    toned = {
        part: palette[part]
        if part in ("skin", "hair")
        else materials.pull_to_tones(palette[part], keep)
        for part in palette
    }
    for part, other in [
        (p, p.removesuffix(" second")) for p in palette if p.endswith(" second")
    ] + [("accent", "top"), ("seam", "bottom")]:
        toned[part] = materials.pull_to_tones(palette[part], keep, beside=palette[other])
    return toned
