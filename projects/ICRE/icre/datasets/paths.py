"""Identity, camera and modality of an image from its path in a published layout."""

import numpy as np

from icre.datasets.base import SETS, PathLabels
from icre.datasets.files import is_image
from icre.utils.errors import UserError


def parse_path(path: str) -> PathLabels | None:
    """Read a posix path below (or with) a data set's root; None if it is in no known layout.

    Paths are read from their end, so a root folder with "cam" or digits in its name has no effect.
    """
    for data in SETS.values():
        labels = data.parse_path(path)
        if labels is not None:
            return labels
    return None


def check_columns(
    paths: np.ndarray, pids: np.ndarray, camids: np.ndarray, modalities: np.ndarray
) -> None:
    """Compare identity, camera and modality of every row with its path.

    Args:
        paths, pids, camids, modalities: (N,). Nothing is compared if the first path is in no known
            layout. Where labels are not folder numbers (RegDB), one pid per folder is required.

    Raises:
        UserError: names the first row that disagrees.
    """
    first = parse_path(str(paths[0]))
    if first is None:
        return
    data = SETS[first.layout]
    pid_of: dict[int, int] = {}
    columns = (paths.tolist(), pids.tolist(), camids.tolist(), modalities.tolist())
    for row, (path, pid, camid, modality) in enumerate(zip(*columns)):
        labels, where = data.parse_path(path), f"row {row} ({path})"
        if labels is None:
            raise UserError(f"{where} is not in the layout of row 0, {first.layout}")
        if not is_image(path.rsplit("/", 1)[-1]):
            raise UserError(f"{where} is not an image file")
        expected = labels.pid if data.pid_is_folder else pid_of.setdefault(labels.pid, pid)
        for column, value, said in (
            ("pid", pid, expected), ("camid", camid, labels.camid),
            ("modality", modality, labels.modality),
        ):  # fmt: skip
            if value != said:
                raise UserError(f"{column} of {where} is {value}, but its path says {said}")
    owners: dict[int, int] = {}
    for folder, pid in pid_of.items():
        if owners.setdefault(pid, folder) != folder:
            raise UserError(f"folders {owners[pid]} and {folder} have the same pid, {pid}")
