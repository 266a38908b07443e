"""Small random feature sets in the three layouts, with uneven numbers of images."""

from dataclasses import replace

import numpy as np

from icre.datasets.paths import parse_path
from icre.evaluation.features import FeatureSet


def small_features(
    layout: str, seed: int = 0, identities: int = 7, dimensions: int = 8
) -> FeatureSet:
    """A test set of `identities` people whose features differ a little by camera and image.

    "any": that of RegDB without its paths.
    """
    if layout == "any":
        return replace(small_features("regdb", seed, identities, dimensions), paths=None)
    generator = np.random.default_rng(seed)
    folders = {
        "sysu": [f"cam{camera}/{{:04d}}" for camera in range(1, 7)],
        "regdb": ["Visible/{}", "Thermal/{}"],
        "llcm": [
            f"test_{tree}/cam{camera}/{{:04d}}" for tree in ("vis", "nir") for camera in (1, 2, 4)
        ],
    }[layout]
    paths = [
        f"{folder.format(pid)}/{image:04d}.jpg"
        for folder in folders
        for pid in range(1, identities + 1)
        # Some identities miss some cameras, as in the real sets, but each is seen in both halves.
        if generator.random() < 0.8 or folder in (folders[0], folders[-1])
        for image in range(1, generator.integers(2, 14))
    ]
    return from_paths(paths, seed, dimensions)


def from_paths(paths: list[str], seed: int = 0, dimensions: int = 8) -> FeatureSet:
    """Random features of these images, near to their identity's; columns read from the paths."""
    generator = np.random.default_rng(seed)
    places = [parse_path(path) for path in paths]
    pids = np.array([place.pid for place in places])
    centres = generator.normal(size=(pids.max() + 1, dimensions))
    return FeatureSet(
        features=centres[pids] + generator.normal(size=(len(paths), dimensions)),
        pids=pids,
        camids=np.array([place.camid for place in places]),
        modalities=np.array([place.modality for place in places]),
        paths=np.array(paths),
    )
