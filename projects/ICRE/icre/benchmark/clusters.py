"""Unit features in clusters, as a re-identification model gives them: one cluster per identity."""

import numpy as np


def clustered(
    count: int, dimensions: int, images: int = 20, ratio: float = 1.5, seed: int = 0
) -> np.ndarray:
    """Features of `count` images in random order.

    An identity's centre is standard normal; an image is its identity's centre plus normal noise,
    then L2-normalised. Identities are drawn with equal chances, so their sizes vary about `images`.

    Args:
        images: mean images per identity.
        ratio: standard deviation within an identity over that between centres, per dimension.

    Returns:
        (count, dimensions) float32.
    """
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((max(1, count // images), dimensions), dtype=np.float32)
    features = generator.standard_normal((count, dimensions), dtype=np.float32)
    features *= ratio
    features += centres[generator.integers(len(centres), size=count)]
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return features
