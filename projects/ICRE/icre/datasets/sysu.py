"""SYSU-MM01 (Wu et al., ICCV 2017): layout, split, protocols, published counts, permutation.

fast-reid's own `SYSU_mm` is visible-only and ignores the identity split; this is another class
under another name.
"""

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from icre.datasets.base import Part, PathLabels, VisibleInfraredSet, register_set
from icre.datasets.files import Item, identity_folders, list_images, read_ids
from icre.datasets.protocol import OFFICIAL, SEEDED, Protocol, Side
from icre.modality import INFRARED, VISIBLE
from icre.utils.errors import UserError
from icre.utils.matfile import read_variable

VISIBLE_CAMERAS, INFRARED_CAMERAS = (1, 2, 4, 5), (3, 6)
CAMERA_MODALITY = {
    camera: INFRARED if camera in INFRARED_CAMERAS else VISIBLE for camera in range(1, 7)
}
TEST_IDENTITIES = 96
# {(pid, camid): (trials, images) places in the sorted file list, from 0}
Permutation = Mapping[tuple[int, int], np.ndarray]
# LLCM's test paths end like SYSU-MM01's.
_PATH = re.compile(r"(?<!test_vis/)(?<!test_nir/)(?:^|(?<=/))cam(?P<cam>[1-6])/(?P<pid>\d+)/[^/]+$")


def _protocol(cameras: tuple[int, ...], shots: int) -> Protocol:
    # The AGW family samples one image, so no published table has a seeded multi-shot gallery.
    return Protocol(
        "sysu",
        Side(INFRARED, INFRARED_CAMERAS),
        Side(VISIBLE, cameras),
        draws=(OFFICIAL, SEEDED) if shots == 1 else (OFFICIAL,),
        shots=shots,
        excluded="same-location",
    )


# (identities, images) of cameras 1 to 6, from the authors' rand_perm_cam.mat
_PER_CAMERA = {
    "train": ((194, 4721), (195, 5753), (293, 5929), (283, 4821), (294, 4989), (200, 4000)),
    "test": ((56, 1374), (56, 1565), (93, 1883), (94, 1918), (95, 1918), (96, 1920)),
}


@register_set
class SYSUMM01(VisibleInfraredSet):
    """SYSU-MM01: six cameras, of which 3 and 6 are infrared.

    Reads `<root>/SYSU-MM01/cam1..cam6/<id:04d>/*.jpg` and `exp/{train,val,test}_id.txt`; camids
    are 1..6. See `VisibleInfraredSet`.
    """

    dataset_dir = "SYSU-MM01"
    dataset_name = "sysumm01"
    layout = "sysu"
    origin = (
        "unpack SYSU-MM01 there (the set needs a signed agreement), set DATASETS.ROOT, or "
        "render a demo tree with tools/make_demo_data.py"
    )
    folder_modality = {f"cam{camera}": modality for camera, modality in CAMERA_MODALITY.items()}
    train_folders = test_folders = tuple(folder_modality)
    protocols = {
        "sysu-all-single": _protocol(VISIBLE_CAMERAS, 1),
        "sysu-all-multi": _protocol(VISIBLE_CAMERAS, 10),
        "sysu-indoor-single": _protocol((1, 2), 1),
        "sysu-indoor-multi": _protocol((1, 2), 10),
    }
    # The training set of papers (train and val) is 22,258 visible and 11,909 infrared images.
    published = {
        ("train", None, None): (296, 30_213),
        ("train", VISIBLE, None): (None, 20_284),
        ("train", INFRARED, None): (None, 9_929),
        ("val", None, None): (99, 3_954),
        ("val", VISIBLE, None): (None, 1_974),
        ("val", INFRARED, None): (None, 1_980),
        ("test", None, None): (96, 10_578),
        ("test", VISIBLE, None): (None, 6_775),
        ("test", INFRARED, None): (None, 3_803),
        **{
            (role, CAMERA_MODALITY[camera], camera): counts
            for role, cameras in _PER_CAMERA.items()
            for camera, counts in enumerate(cameras, start=1)
        },
    }

    @classmethod
    def parse_path(cls, path: str) -> PathLabels | None:
        """cam<k>/<id>/<file>."""
        match = _PATH.search(path)
        if match is None:
            return None
        camera = int(match["cam"])
        return PathLabels(cls.layout, int(match["pid"]), camera, CAMERA_MODALITY[camera])

    @classmethod
    def parts(cls, folder: Path, split: int | None = None) -> list[Part]:
        """The train, val and test identities, each with all cameras."""
        lists = {role: folder / "exp" / f"{role}_id.txt" for role in ("train", "val", "test")}
        return [Part(role, partial(_read, folder, ids), ids) for role, ids in lists.items()]

    @property
    def permutation_file(self) -> Path:
        """The official gallery sampling; it comes with the evaluation code and may be absent."""
        return self.permutation_below(self.folder)

    @classmethod
    def permutation_below(cls, folder: Path) -> Path:
        """exp/rand_perm_cam.mat in the set's folder."""
        return folder / "exp" / "rand_perm_cam.mat"

    @classmethod
    def examine(cls, folder: Path, test: list[Item]) -> tuple[list[str], list[str]]:
        """Compare the permutation file with the test images: (errors, warnings)."""
        file = cls.permutation_below(folder)
        if not file.is_file():
            return [], [
                f"{file} is missing: it comes with the SYSU-MM01 authors' evaluation code, not "
                "with the images; without it only the seeded draw can be scored"
            ]
        try:
            permutation = read_permutation(file)
        except UserError as error:
            return [str(error)], []
        return [
            f"{folder / f'cam{camera}' / f'{pid:04d}'} holds {found} images, but {file.name} draws "
            f"from {listed}"
            for pid, camera, listed, found in permutation_mismatches(
                permutation, [(pid, camera) for _, pid, camera in test]
            )
        ], []


def _read(folder: Path, ids: Path) -> list[Item]:
    pids = sorted(read_ids(ids))
    folders = {camera: identity_folders(folder / f"cam{camera}") for camera in CAMERA_MODALITY}
    return [
        (path, pid, camera)
        for camera, by_pid in folders.items()
        for pid in pids
        if pid in by_pid
        for path in list_images(by_pid[pid])
    ]


def read_permutation(path: str | Path) -> Permutation:
    """Read `rand_perm_cam.mat`: {(pid, camid): (trials, images)}.

    The integers are places in the sorted file list of that identity and camera, from 0.

    Raises:
        UserError: names the file, and the identity and camera whose rows are no permutations.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(
            f"{path}: no such file; rand_perm_cam.mat comes with the SYSU-MM01 authors' "
            "evaluation code, not with the images"
        )
    permutation = {}
    for camera, cells in enumerate(matlab_variable(path, "rand_perm_cam").ravel(), start=1):
        for pid, rows in enumerate(np.asarray(cells).ravel(), start=1):
            if np.size(rows) == 0:
                continue
            where = f"{path}: identity {pid} in camera {camera}"
            rows = matlab_integers(np.asarray(rows), where) - 1
            if rows.ndim != 2 or (np.sort(rows, axis=1) != np.arange(rows.shape[-1])).any():
                raise UserError(f"{where} has no permutations")
            permutation[pid, camera] = rows
    return permutation


def permutation_mismatches(
    permutation: Permutation, images: list[tuple[int, int]]
) -> list[tuple[int, int, int, int]]:
    """Identities and cameras with other numbers of images than the permutation lists.

    A permutation may list more identities than there are images of (the official one lists those
    of training too), and may leave out an infrared camera, which is never in the gallery.

    Args:
        permutation: see `read_permutation`.
        images: (pid, camid) of each test image.

    Returns:
        (pid, camid, images in the permutation, images found), ascending.
    """
    pids, counts = {pid for pid, _ in images}, dict.fromkeys(images, 0)
    for key in images:
        counts[key] += 1
    cameras = {camera for _, camera in permutation} | set(VISIBLE_CAMERAS)
    keys = {key for key in permutation if key[0] in pids}
    keys |= {key for key in counts if key[1] in cameras}
    rows = [
        (*key, permutation[key].shape[1] if key in permutation else 0, counts.get(key, 0))
        for key in sorted(keys)
    ]
    return [row for row in rows if row[2] != row[3]]


def matlab_variable(path: Path, name: str) -> np.ndarray:
    """A variable of a MATLAB v5 file; a UserError names the file that is damaged or lacks it."""
    try:
        variable = read_variable(path, name)
    except ValueError as error:
        if is_hdf5(path):
            raise UserError(
                f"{path} is a MATLAB v7.3 file (HDF5): save it as save(NAME, '-v7'), or restore "
                "the authors' file"
            ) from None
        raise UserError(f"{path}: not a readable MATLAB file ({error})") from None
    if variable is None:
        raise UserError(f"{path}: no variable '{name}'")
    return variable


def is_hdf5(path: Path) -> bool:
    """Whether a file is HDF5, as MATLAB writes it: its signature lies behind 0 or 512 bytes."""
    with open(path, "rb") as file:
        head = file.read(520)
    return b"\x89HDF\r\n\x1a\n" in (head[:8], head[512:])


def matlab_integers(values: np.ndarray, what: str) -> np.ndarray:
    """MATLAB's numbers as int64; UserError if they are no integers."""
    if values.dtype == object or not (np.abs(values) < 2**53).all() or (values % 1).any():
        raise UserError(f"{what} must be integers")
    return values.astype(np.int64)
