"""How hard rendered data is: one table, all numbers of each named level."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Level:
    """What a level of difficulty fixes.

    Args:
        family: identities that are made from one common ancestor; 1: all are independent.
        changes: traits seen in both modalities that tell a member of a family from its ancestor.
        patterned: share of tops with a pattern; trousers, bags and hats have less, in proportion.
        contrast: share of second materials that are sure to stand out, in each modality apart.
        occluded: share of images with something or somebody before the person.
        dusk: share of outdoor visible images taken at dusk; as many again are in plain sun.
        noise: factor on the sensor's noise.
        blur: factor on the lens' and the walk's blur.
        jitter: factor on the errors of the person's box.
        colours: how far materials may lie from two tones, dark and light, in each modality apart: 1 as
            drawn, 0 uniforms. The less, the less colour or infrared brightness names anybody.
    """

    family: int
    changes: int
    patterned: float
    contrast: float
    occluded: float
    dusk: float
    noise: float
    blur: float
    jitter: float
    colours: float = 1.0


LEVELS: dict[str, Level] = {
    #                family changes patterned contrast occluded dusk noise blur jitter colours
    "uniform": Level(1, 0, 1.00, 1.00, 0.00, 0.00, 0.4, 0.5, 0.4, 0.2),
    "plain": Level(1, 0, 1.00, 1.00, 0.00, 0.00, 0.4, 0.5, 0.4),
    "muted": Level(1, 0, 0.85, 0.98, 0.03, 0.05, 0.6, 0.7, 0.6, 0.3),
    "easy": Level(1, 0, 0.85, 0.98, 0.03, 0.05, 0.6, 0.7, 0.6),
    "mild": Level(2, 6, 0.75, 0.95, 0.05, 0.12, 0.8, 0.8, 0.8),
    "standard": Level(4, 5, 0.62, 0.92, 0.10, 0.20, 1.0, 1.0, 1.0),
    "hard": Level(4, 3, 0.48, 0.85, 0.16, 0.30, 1.3, 1.2, 1.3),
    "extreme": Level(8, 2, 0.35, 0.75, 0.25, 0.40, 1.6, 1.5, 1.6),
}
