"""Levels of difficulty of rendered data: one table with all numbers of each level."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Level:
    """Settings of a level of difficulty.

    Attributes:
        family: number of identities derived from one common ancestor; 1 means all independent.
        changes: number of traits, visible in both modalities, in which a member of a family is
            changed.
        patterned: share of tops with a pattern; trousers, bags and hats have proportionally fewer.
        contrast: share of second materials that are made to differ clearly from the first, in
            each modality separately.
        occluded: share of images with an object or a passer-by in front of the person.
        dusk: share of outdoor visible images taken at dusk; the same share is taken in full sun.
        noise: factor on the sensor noise.
        blur: factor on lens and motion blur.
        jitter: factor on the errors of the bounding box.
        colours: share that is left of each material's distance to the nearer of two tones, dark
            and light, in each modality separately. 1 keeps the sampled materials, 0 gives uniforms;
            the smaller, the less colour or infrared brightness identifies a person.
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
