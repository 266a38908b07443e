"""Features and identity lists as MATLAB files, as SYSU-MM01's authors exchange them."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from icre.datasets import files
from icre.datasets.sysu import CAMERA_MODALITY, TEST_IDENTITIES, matlab_integers, matlab_variable
from icre.utils.errors import UserError, first_line
from icre.utils.matfile import MOST_CELLS
from icre.utils.unpack import unpacking_limit

_HDF5_FILTERS = {1, 2, 3}  # gzip, shuffle, checksum: others could be loaded from other files


def read_sysu_features(folder: Path) -> dict[str, np.ndarray]:
    """Read `*_cam1.mat` .. `*_cam6.mat` (MATLAB v5 or v7.3) as the columns of a FeatureSet.

    Each holds a cell array `feature`; row i of `feature{id}` is the i-th image of identity `id` in
    that camera, in sorted order, and identities without images are empty cells. The format has no
    file names, so paths are made as `cam<k>/<id:04d>/<i:04d>.jpg`.
    """
    features: list[np.ndarray] = []
    paths: list[str] = []
    labels: list[tuple[int, int, int]] = []
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
            labels += [(pid, camera, CAMERA_MODALITY[camera])] * len(rows)
    if not features:
        raise UserError(f"{folder}: every cell of every camera is empty")
    columns = dict(zip(("pids", "camids", "modalities"), np.array(labels).T))
    return {"features": np.concatenate(features), "paths": np.array(paths), **columns}


def check_test_only(folder: Path, pids: np.ndarray) -> None:
    """Refuse features of more identities than SYSU-MM01 tests on."""
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
        return matlab_integers(matlab_variable(path, "id"), f"{path}: 'id'").ravel()
    return np.array(files.read_ids(path))


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


def _read_cells(path: Path, name: str) -> list[np.ndarray]:
    """The cells of a cell array, as (rows, columns) arrays, from either MATLAB format."""
    import h5py  # slow to import, and only for v7.3

    if not path.is_file():
        raise UserError(f"{path}: it is no regular file")
    if not h5py.is_hdf5(path):
        cells = matlab_variable(path, name)
        if cells.dtype != object:
            raise UserError(f"{path}: '{name}' is no cell array")
        return [np.asarray(cell) for cell in cells.ravel()]
    try:
        with h5py.File(path, "r") as file:
            return _hdf5_cells(file, name, unpacking_limit(path.stat().st_size))
    except Exception as error:  # h5py raises a dozen kinds on a damaged file
        message = f"{path}: not a readable MATLAB file ({first_line(error)})"
        raise UserError(message) from None


def _hdf5_cells(file: Any, name: str, limit: int) -> list[np.ndarray]:
    """The cells of an opened MATLAB v7.3 file.

    Raises:
        ValueError: there is no such variable, it is none of numbers, holds more than `limit` bytes,
            or has data in another file.
    """
    import h5py

    if name not in file:
        raise ValueError(f"no variable '{name}'")
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"'{name}' is a link, perhaps to another file")
    variable = file[name]
    if getattr(variable, "dtype", None) != h5py.ref_dtype:
        raise ValueError(f"'{name}' is no cell array")
    _require_inside(variable, name, limit)
    if variable.size > MOST_CELLS:
        raise ValueError(f"'{name}' has {variable.size} cells; at most {MOST_CELLS} are read")
    found = []
    # v7.3 stores arrays transposed, and an empty cell as its dimensions with a mark.
    for place, reference in enumerate(variable[()].ravel(), start=1):
        cell = file[reference]
        if "MATLAB_empty" in cell.attrs:
            found.append(np.empty((0, 0)))
            continue
        what = f"{name}{{{place}}}"
        limit -= _require_inside(cell, what, limit)
        if cell.dtype.kind not in "fiu":
            raise ValueError(f"{what} holds {cell.dtype}, no numbers")
        found.append(cell[()].T)
    return found


def _require_inside(data: Any, what: str, limit: int) -> int:
    """Bytes of an HDF5 data set; a ValueError unless it lies in its own file, and is not too big.

    HDF5 may store a data set's numbers in any file of the disk, and lets a few bytes declare any
    shape.
    """
    if not hasattr(data, "is_virtual"):
        raise ValueError(f"{what} is no array")
    if data.is_virtual or data.external:
        raise ValueError(f"{what} has its data in another file")
    pieces = data.id.get_create_plist()
    filters = {pieces.get_filter(place)[0] for place in range(pieces.get_nfilters())}
    if filters - _HDF5_FILTERS:
        raise ValueError(f"{what} is packed by another filter than MATLAB's")
    chunk = int(np.prod(data.chunks or (0,), dtype=object)) * data.dtype.itemsize
    size = max(data.size * data.dtype.itemsize, chunk)
    if size > limit:
        raise ValueError(f"{what} declares {size} bytes; {limit} are the most for this file")
    return size
