"""Gallery sampling: which images are in the gallery in each trial.

Two samplings are in use for SYSU-MM01 and differ by sampling noise, about half a point of Rank-1:
`official` reads the authors' rand_perm_cam.mat; `seeded` is the AGW family's (Ye et al., TPAMI
2021) and the only one of LLCM.
"""

import random
from collections.abc import Sequence

import numpy as np

from icre.datasets.sysu import Permutation, permutation_mismatches
from icre.evaluation.features import FeatureSet
from icre.modality import INFRARED, VISIBLE
from icre.utils.errors import UserError

TRIALS = 10


def seeded(data: FeatureSet, rows: np.ndarray) -> list[np.ndarray]:
    """One image per identity and camera, in each of ten trials.

    Args:
        data: in the order of `FeatureSet.ordered`, which is the order of the sampling.
        rows: ascending indices to sample from.

    Returns:
        Ten ascending index arrays. Trial t is `random.seed(t)`, then `random.choice` of the sorted
        files for each identity, for each camera, both ascending.
    """
    groups = list(_groups(data, rows).values())
    samples = []
    for trial in range(TRIALS):
        generator = random.Random(trial)
        samples.append(np.array([generator.choice(group) for group in groups]))
    return samples


def mixed(
    data: FeatureSet, rows: np.ndarray, single: bool, infrared: int | None = None
) -> list[np.ndarray]:
    """Galleries of both modalities, in each of ten trials.

    Args:
        data, rows: as in `seeded`.
        single: one image per identity, camera and modality: each modality's images are those of
            `seeded` on it alone, so they are the gallery of the protocol across modalities.
        infrared: percentage of infrared images, 1 to 99; images of the modality that has too many
            are left out by `random.Random(trial).sample`. None: as many as there are.

    Raises:
        UserError: no image of a modality would be left.
    """
    parts = [rows[data.modalities[rows] == modality] for modality in (VISIBLE, INFRARED)]
    visible, infrareds = (seeded(data, part) if single else [part] * TRIALS for part in parts)
    samples = []
    for trial, sides in enumerate(zip(visible, infrareds)):
        kept = sides if infrared is None else _thinned(*sides, infrared, trial)
        samples.append(np.sort(np.concatenate(kept)))
    return samples


def _thinned(
    visible: np.ndarray, infrared: np.ndarray, percentage: int, trial: int
) -> Sequence[np.ndarray]:
    """Both sides, the one that has too many reduced to fit the other."""
    generator = random.Random(trial)
    wanted = {
        "visible": min(len(visible), round(len(infrared) * (100 - percentage) / percentage)),
        "infrared": min(len(infrared), round(len(visible) * percentage / (100 - percentage))),
    }
    for name, count in wanted.items():
        if not count:
            raise UserError(
                f"of {len(visible)} visible and {len(infrared)} infrared images no {name} one "
                f"would be left in a gallery with {percentage} % infrared: name another share"
            )
    return [
        np.array(generator.sample(side.tolist(), count))
        for side, count in zip((visible, infrared), wanted.values())
    ]


def official(
    data: FeatureSet, rows: np.ndarray, permutation: Permutation, shots: int | None
) -> list[np.ndarray]:
    """The first `shots` images of each trial's permutation, per identity and camera.

    Args:
        data, rows: as in `seeded`.
        permutation: from `icre.datasets.sysu.read_permutation`; it must fit (`check_permutation`).
        shots: images per identity and camera; where there are fewer, all of them.

    Raises:
        UserError: the permutation does not have one number of trials.
    """
    groups = _groups(data, rows)
    counts = {len(permutation[key]) for key in groups}
    if len(counts) != 1:
        raise UserError(f"the permutation has {sorted(counts)} trials, not one number of them")
    return [
        np.sort(
            np.concatenate(
                [group[permutation[key][trial, :shots]] for key, group in groups.items()]
            )
        )
        for trial in range(counts.pop())
    ]


def _groups(data: FeatureSet, rows: np.ndarray) -> dict[tuple[int, int], np.ndarray]:
    """{(pid, camid): its rows, in file order}, by identity and then camera."""
    keys = np.stack([data.pids[rows], data.camids[rows]], axis=1)
    starts = np.flatnonzero(np.any(np.diff(keys, axis=0), axis=1)) + 1
    return {
        (int(data.pids[group[0]]), int(data.camids[group[0]])): group
        for group in np.split(rows, starts)
    }


def check_permutation(data: FeatureSet, permutation: Permutation) -> None:
    """Compare the images of each identity and camera with the permutation's.

    Raises:
        UserError: names the first identity and camera whose numbers of images differ.
    """
    images = list(zip(data.pids.tolist(), data.camids.tolist()))
    for pid, camera, listed, found in permutation_mismatches(permutation, images):
        raise UserError(
            f"identity {pid} in camera {camera}: the permutation lists {listed} images, the "
            f"features have {found}"
        )
