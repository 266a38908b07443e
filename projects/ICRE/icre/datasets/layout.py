"""What a path says about its image in the three data sets: identity, camera and modality.

Paths are read from their end, so a root folder with "cam" or digits in its name changes nothing.
"""

import re
from typing import NamedTuple

import numpy as np

from icre.datasets.tree import is_image
from icre.modality import INFRARED, SYSU_INFRARED_CAMERAS, VISIBLE
from icre.utils.errors import UserError

_TREE_MODALITY = {
    "test_vis": VISIBLE,
    "vis": VISIBLE,
    "test_nir": INFRARED,
    "nir": INFRARED,
    "Visible": VISIBLE,
    "Thermal": INFRARED,
}
# LLCM stands first: the end of its test paths looks like SYSU-MM01's.
_PATTERNS = (
    ("llcm", re.compile(r"(?:^|/)(?P<tree>test_vis|test_nir)/cam(?P<cam>\d+)/(?P<pid>\d+)/[^/]+$")),
    ("llcm", re.compile(r"(?:^|/)(?P<tree>vis|nir)/(?P<pid>\d+)/[^/]*_c(?P<cam>\d+)_[^/]*$")),
    ("sysu", re.compile(r"(?:^|/)cam(?P<cam>[1-6])/(?P<pid>\d+)/[^/]+$")),
    ("regdb", re.compile(r"(?:^|/)(?P<tree>Visible|Thermal)/(?P<pid>\d+)/[^/]+$")),
)


class Place(NamedTuple):
    """Where an image lies: "sysu", "regdb" or "llcm"; the folder's identity; camera; modality."""

    layout: str
    pid: int
    camid: int
    modality: int


def parse(path: str) -> Place | None:
    """Read a posix path below (or with) a data set's root; None where it is in no known layout.

    RegDB's camera is 1 for Visible and 2 for Thermal; LLCM's training images carry the camera in
    the file name.
    """
    for layout, pattern in _PATTERNS:
        match = pattern.search(path)
        if match is None:
            continue
        if layout == "sysu":
            camid = int(match["cam"])
            modality = INFRARED if camid in SYSU_INFRARED_CAMERAS else VISIBLE
        else:
            modality = _TREE_MODALITY[match["tree"]]
            camid = int(match["cam"]) if layout == "llcm" else 1 + (modality == INFRARED)
        return Place(layout, int(match["pid"]), camid, modality)
    return None


def check_columns(
    paths: np.ndarray, pids: np.ndarray, camids: np.ndarray, modalities: np.ndarray
) -> None:
    """Compare identity, camera and modality of every row with what its path says.

    Args:
        paths, pids, camids, modalities: (N,). Where the first path is in no known layout, nothing
            is compared. RegDB needs one pid per folder and no more, as its labels are not its
            folder numbers.

    Raises:
        UserError: names the first row that disagrees.
    """
    first = parse(str(paths[0]))
    if first is None:
        return
    pid_of: dict[int, int] = {}
    columns = (paths.tolist(), pids.tolist(), camids.tolist(), modalities.tolist())
    for row, (path, pid, camid, modality) in enumerate(zip(*columns)):
        place, where = parse(path), f"row {row} ({path})"
        if place is None or place.layout != first.layout:
            raise UserError(f"{where} is not in the layout of row 0, {first.layout}")
        _check_image(path, where)
        wanted = pid_of.setdefault(place.pid, pid) if first.layout == "regdb" else place.pid
        _check_equal("pid", where, pid, wanted)
        _check_equal("camid", where, camid, place.camid)
        _check_equal("modality", where, modality, place.modality)
    owners: dict[int, int] = {}
    for folder, pid in pid_of.items():
        if owners.setdefault(pid, folder) != folder:
            raise UserError(f"folders {owners[pid]} and {folder} have the same pid, {pid}")


def _check_image(path: str, where: str) -> None:
    if not is_image(path.rsplit("/", 1)[-1]):
        raise UserError(f"{where} is not an image file")


def _check_equal(column: str, where: str, value: int, said: int) -> None:
    if value != said:
        raise UserError(f"{column} of {where} is {value}, but its path says {said}")
