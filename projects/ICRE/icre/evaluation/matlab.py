"""What SYSU-MM01's authors exchange as MATLAB files: features, permutations, identity lists."""

import re
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np

from icre.datasets import tree
from icre.datasets.layout import parse
from icre.utils.errors import UserError
from icre.utils.matfile import read_variable

TEST_IDENTITIES = 96
Permutation = Mapping[tuple[int, int], np.ndarray]


def read_sysu_features(folder: Path) -> dict[str, np.ndarray]:
    """Read `*_cam1.mat` .. `*_cam6.mat` (MATLAB v5 or v7.3) as the columns of a FeatureSet.

    Each holds a cell array `feature`; row i of `feature{id}` is the i-th image of identity `id` in
    that camera, in sorted order, and identities without images are empty cells. The format has no
    file names, so paths are made as `cam<k>/<id:04d>/<i:04d>.jpg`.
    """
    features, paths = [], []
    for camera, file in _camera_files(folder).items():
        for pid, rows in enumerate(_read_cells(file, "feature"), start=1):
            rows = rows.reshape(1, -1) if rows.ndim == 1 else rows
            if rows.size == 0:
                continue
            if features and rows.shape[1] != features[0].shape[1]:
                raise UserError(
                    f"{file}: feature{{{pid}}} has {rows.shape[1]} columns, "
                    f"the first identity has {features[0].shape[1]}"
                )
            features.append(rows)
            paths += [f"cam{camera}/{pid:04d}/{image:04d}.jpg" for image in range(1, len(rows) + 1)]
    if not features:
        raise UserError(f"{folder}: every cell of every camera is empty")
    places = [parse(path) for path in paths]
    return {
        "features": np.concatenate(features),
        "paths": np.array(paths),
        "pids": np.array([place.pid for place in places]),
        "camids": np.array([place.camid for place in places]),
        "modalities": np.array([place.modality for place in places]),
    }


def check_test_only(folder: Path, pids: np.ndarray) -> None:
    """Refuse a dump of more identities than SYSU-MM01 tests on: its numbers would be others."""
    count = len(np.unique(pids))
    if count > TEST_IDENTITIES:
        raise UserError(
            f"{folder}: holds {count} identities, SYSU-MM01's test set has {TEST_IDENTITIES}; "
            "name the test identities (--test-ids exp/test_id.txt)"
        )


def read_ids(path: str | Path) -> np.ndarray:
    """Read an identity list, (I,) integers: `test_id.txt` (comma-separated) or `test_id.mat`."""
    path = Path(path)
    if path.suffix == ".mat":
        if not path.is_file():
            raise UserError(f"{path}: no such identity list")
        return _integers(_variable(path, "id"), f"{path}: 'id'").ravel()
    return np.array(tree.read_ids(path))


def read_permutation(path: str | Path) -> Permutation:
    """Read `rand_perm_cam.mat`: {(pid, camid): (trials, images)}.

    The integers are places in the sorted file list of that identity and camera, from 0.

    Raises:
        UserError: one line that names the file, and the identity and camera
            whose rows are no permutations.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(
            f"{path}: no such file; rand_perm_cam.mat comes with the SYSU-MM01 authors' "
            "evaluation code, not with the images"
        )
    permutation = {}
    for camera, cells in enumerate(_variable(path, "rand_perm_cam").ravel(), start=1):
        for pid, rows in enumerate(np.asarray(cells).ravel(), start=1):
            if np.size(rows) == 0:
                continue
            where = f"{path}: identity {pid} in camera {camera}"
            rows = _integers(np.asarray(rows), where) - 1
            if rows.ndim != 2 or (np.sort(rows, axis=1) != np.arange(rows.shape[-1])).any():
                raise UserError(f"{where} has no permutations")
            permutation[pid, camera] = rows
    return permutation


def _camera_files(folder: Path) -> dict[int, Path]:
    found: dict[int, Path] = {}
    for file in sorted(folder.iterdir()):
        match = re.fullmatch(r"[^.].*_cam([1-6])\.mat", file.name)
        if match is None:
            continue
        camera = int(match[1])
        if camera in found:
            names = f"{found[camera].name} and {file.name}"
            raise UserError(f"{folder}: both {names} are camera {camera}")
        found[camera] = file
    missing = [f"*_cam{camera}.mat" for camera in range(1, 7) if camera not in found]
    if missing:
        raise UserError(f"{folder}: no features.npz, and {', '.join(missing)} missing")
    return dict(sorted(found.items()))


def _variable(path: Path, name: str) -> np.ndarray:
    try:
        variable = read_variable(path, name)
    except ValueError as error:
        raise UserError(f"{path}: not a readable MATLAB file ({error})") from None
    if variable is None:
        raise UserError(f"{path}: no variable '{name}'")
    return variable


def _integers(values: np.ndarray, what: str) -> np.ndarray:
    """MATLAB's numbers as int64; UserError where they are no integers."""
    if values.dtype == object or not (np.abs(values) < 2**53).all() or (values % 1).any():
        raise UserError(f"{what} must be integers")
    return values.astype(np.int64)


def _read_cells(path: Path, name: str) -> list[np.ndarray]:
    """The cells of a cell array, as (rows, columns) arrays, from either MATLAB format."""
    if not h5py.is_hdf5(path):
        cells = _variable(path, name)
        if cells.dtype != object:
            raise UserError(f"{path}: '{name}' is no cell array")
        return [np.asarray(cell) for cell in cells.ravel()]
    try:
        return _read_cells_v73(path, name)
    except UserError:
        raise
    except Exception as error:  # h5py raises a dozen kinds on a damaged file
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: not a readable MATLAB file ({reason})") from None


def _read_cells_v73(path: Path, name: str) -> list[np.ndarray]:
    with h5py.File(path, "r") as file:
        if name not in file:
            raise UserError(f"{path}: no variable '{name}'")
        if file[name].dtype != h5py.ref_dtype:
            raise UserError(f"{path}: '{name}' is no cell array")
        # v7.3 stores arrays transposed, and an empty cell as its dimensions with a mark.
        cells = [file[reference] for reference in file[name][()].ravel()]
        return [np.empty((0, 0)) if "MATLAB_empty" in cell.attrs else cell[()].T for cell in cells]
