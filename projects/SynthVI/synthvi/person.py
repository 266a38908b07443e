"""Identities: everything about a person that stays the same in all cameras.

The traits of a `Person` are geometry (build, cut, pattern, print, hair, hat, shoes, bag) and show
in both modalities. Its `palette` holds the material of each part: a material's `rgb` shows in
visible light only, its `nir` in infrared only, and neither predicts the other.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from synthvi.materials import Cloth, Material, Weave

PLAIN = Weave()
SKIRTS = ("skirt", "long skirt")


@dataclass(frozen=True)
class Build:
    """`height` in metres, `lean` in radians, the others as factors on the average."""

    height: float
    girth: float
    shoulders: float
    hips: float
    belly: float
    bust: float
    lean: float


@dataclass(frozen=True)
class Hair:
    """Hair `style` (a key of identities.HAIR) and whether there is a beard."""

    style: str
    beard: bool


@dataclass(frozen=True)
class Hat:
    """`kind` of hat (a key of identities.HATS), its weave, and whether a scarf is worn."""

    kind: str
    weave: Weave
    scarf: bool


@dataclass(frozen=True)
class Top:
    """Cut of the upper garment.

    Attributes:
        kind: key of identities.TOPS.
        hem: height of the lower edge in body heights.
        sleeve: length in arm segments, 0 to 2.
        ease: distance of the cloth from the body in body heights.
        flare: how much wider it becomes below the hips.
        opening: half-angle in radians of an open front; 0 is closed.
        tail: how far the layer below shows under the hem, in body heights.
    """

    kind: str
    hem: float
    sleeve: float
    ease: float
    flare: float
    opening: float
    tail: float


@dataclass(frozen=True)
class Fabric:
    """Weaves of the upper garment and of the layer under it."""

    top: Weave
    inner: Weave


@dataclass(frozen=True)
class Accent:
    """Where the upper garment shows its accent material.

    Attributes:
        yoke: above this height, in body heights; 1 is nowhere.
        sleeves: "none", "all", "stripe" or "cuff".
        hem_band: in a band at the hem.
        print: shape on the chest, a key of identities.PRINTS.
        back: whether the print is on the back too.
    """

    yoke: float
    sleeves: str
    hem_band: bool
    print: str
    back: bool


@dataclass(frozen=True)
class Bottom:
    """Cut of the lower garment.

    Attributes:
        kind: key of identities.BOTTOMS.
        edge: height of the lower edge in body heights.
        ease: distance of the cloth from the leg at the thigh and at the edge, in body heights.
        pockets: on the seat.
        belt: whether a belt shows.
        seam: a stripe along the outer seam.
    """

    kind: str
    edge: float
    ease: tuple[float, float]
    pockets: bool
    belt: bool
    seam: bool


@dataclass(frozen=True)
class Shoes:
    """Heights of `boot` and `sock` (0: none) in body heights; a light `sole`; `tights`."""

    boot: float
    sole: bool
    sock: float
    tights: bool


@dataclass(frozen=True)
class Bag:
    """`kind` of bag (a key of identities.BAGS), `size` (1: average), `side` (-1 right, 1 left)."""

    kind: str
    size: float
    side: int
    weave: Weave


@dataclass(frozen=True)
class Gait:
    """Amplitudes in radians: `stride` of the legs and `swing` of the arms."""

    stride: float
    swing: float


@dataclass(frozen=True)
class Person:
    """An identity: traits of geometry, a gait, and `palette`, part -> material."""

    build: Build
    hair: Hair
    hat: Hat
    top: Top
    fabric: Fabric
    accent: Accent
    bottom: Bottom
    bottom_weave: Weave
    shoes: Shoes
    bag: Bag
    gait: Gait
    palette: Mapping[str, Material]

    def cloth(self, part: str, weave: Weave = PLAIN) -> Cloth:
        """Cloth of a part of the palette, with the part `<part> second` as second material."""
        base = self.palette[part]
        return Cloth(base, self.palette.get(f"{part} second", base), weave)


def as_thermal(person: Person) -> Person:
    """The same person for a thermal camera: `nir` becomes emitted warmth in place of reflectance.

    Skin is warmest; clothes keep part of the differences of their `nir`, like thick and thin cloth.
    """
    return replace(
        person,
        palette={
            part: Material(stuff.rgb, 0.85 if part == "skin" else 0.12 + 0.55 * stuff.nir)
            for part, stuff in person.palette.items()
        },
    )
