"""An identity: everything about a person that stays the same from camera to camera.

It has two halves. `Person`'s traits are geometry: build, cut, pattern, print, hair, hat, shoes and
bag; they show in both modalities. Its `palette` says what each part is made of: a material's `rgb`
shows in visible light only, its `nir` in infrared only, and neither predicts the other.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from .materials import Cloth, Material, Weave

SKIRTS = ("skirt", "long skirt")


@dataclass(frozen=True)
class Build:
    """`height` in metres; the others scale widths (1 = average); `lean` in radians."""

    height: float
    girth: float
    shoulders: float
    hips: float
    belly: float
    bust: float
    lean: float


@dataclass(frozen=True)
class Hair:
    """Style (a key of people.HAIR) and beard."""

    style: str
    beard: bool


@dataclass(frozen=True)
class Hat:
    """Hat (a key of HATS), its weave, and a scarf."""

    kind: str
    weave: Weave
    scarf: bool


@dataclass(frozen=True)
class Top:
    """Cut of the upper garment; `hem` is a height on the body, `opening` an angle (0 = closed),
    `tail` how far the layer below shows under the hem."""

    kind: str
    hem: float
    sleeve: float
    ease: float
    flare: float
    opening: float
    tail: float


@dataclass(frozen=True)
class Fabric:
    """Weaves of the upper garment and of what is worn below it."""

    top: Weave
    inner: Weave


@dataclass(frozen=True)
class Accent:
    """Where the top's accent material shows: above the height `yoke`, on the sleeves (`sleeves`:
    "none", "all", "stripe", "cuff"), in a band at the hem, and as a `print` (a key of PRINTS) on
    the chest, on the back too where `back` holds."""

    yoke: float
    sleeves: str
    hem_band: bool
    print: str
    back: bool


@dataclass(frozen=True)
class Bottom:
    """Cut of the lower garment: `edge` is a height; `pockets`, `belt`, a stripe along the seam."""

    kind: str
    edge: float
    ease: tuple[float, float]
    pockets: bool
    belt: bool
    seam: bool


@dataclass(frozen=True)
class Shoes:
    """Height of the `boot`, of a light `sole`, of the `sock` (0: none), and tights or bare legs."""

    boot: float
    sole: bool
    sock: float
    tights: bool


@dataclass(frozen=True)
class Bag:
    """A bag (a key of BAGS) of `size` (1 = average), worn on `side` (-1 right, 1 left)."""

    kind: str
    size: float
    side: int
    weave: Weave


@dataclass(frozen=True)
class Gait:
    """Amplitudes in radians of the legs' `stride` and the arms' `swing`."""

    stride: float
    swing: float


@dataclass(frozen=True)
class Person:
    """One identity: nine traits of geometry and a gait, and `palette`: part -> material."""

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

    def cloth(self, part: str, weave: Weave = Weave()) -> Cloth:
        """The cloth of a part of the palette; its second material is `<part> second` there."""
        base = self.palette[part]
        return Cloth(base, self.palette.get(f"{part} second", base), weave)


def as_thermal(person: Person) -> Person:
    """The same person for a long-wave camera: materials show their warmth instead of reflectance.

    Skin is warm; clothes keep part of the differences of their `nir`, as thick and thin cloth do.
    """
    return replace(
        person,
        palette={
            part: Material(stuff.rgb, 0.85 if part == "skin" else 0.12 + 0.55 * stuff.nir)
            for part, stuff in person.palette.items()
        },
    )
