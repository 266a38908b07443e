"""Which images stand in the gallery in each trial.

Two draws are in use for SYSU-MM01 and differ by sampling noise, about half a point of Rank-1:
`official` reads the authors' rand_perm_cam.mat; `seeded` is the AGW family's (Ye et al., TPAMI
2021) and the only one of LLCM.
"""

import random

import numpy as np

from icre.evaluation.features import FeatureSet
from icre.evaluation.matlab import Permutation
from icre.modality import SYSU_VISIBLE_CAMERAS
from icre.utils.errors import UserError

TRIALS = 10


def seeded(data: FeatureSet, rows: np.ndarray) -> list[np.ndarray]:
    """One image per identity and camera, in each of ten trials.

    Args:
        data: in the order of `FeatureSet.ordered`, which is the order of the draw.
        rows: the indices to draw from, ascending.

    Returns:
        Ten ascending index arrays. Trial t is `random.seed(t)`, then `random.choice` of the sorted
        files for each identity, for each camera, both ascending.
    """
    groups = list(_groups(data, rows).values())
    drawn = []
    for trial in range(TRIALS):
        generator = random.Random(trial)
        drawn.append(np.array([generator.choice(group) for group in groups]))
    return drawn


def official(
    data: FeatureSet, rows: np.ndarray, permutation: Permutation, shots: int
) -> list[np.ndarray]:
    """The first `shots` places of each trial's permutation, per identity and camera.

    Args:
        data, rows: as in `seeded`.
        permutation: as `read_permutation` returns it, and it must fit (`check_fit`).
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


def check_fit(data: FeatureSet, permutation: Permutation) -> None:
    """Compare the images of each identity and camera with the permutation's.

    A permutation may list more identities than the data hold (the official one lists those of
    training too), and may leave out a camera that only asks.

    Raises:
        UserError: names the first identity and camera whose numbers of images differ.
    """
    groups = _groups(data, np.arange(len(data)))
    pids = set(data.pids.tolist())
    cameras = {camera for _, camera in permutation} | set(SYSU_VISIBLE_CAMERAS)
    keys = {key for key in permutation if key[0] in pids}
    for key in sorted(keys | {key for key in groups if key[1] in cameras}):
        listed = permutation[key].shape[1] if key in permutation else 0
        if listed != len(groups.get(key, ())):
            raise UserError(
                f"identity {key[0]} in camera {key[1]}: the permutation lists {listed} images, "
                f"the features have {len(groups.get(key, ()))}"
            )
