"""Features of a test set, of any origin, checked before anything is computed from them."""

import math
import sys
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from icre.datasets.paths import check_columns, parse_path
from icre.datasets.protocol import ANY, DEFAULTS
from icre.evaluation import matlab
from icre.modality import NAMES
from icre.utils.errors import UserError
from icre.utils.files import replaced
from icre.utils.unpack import unpacking_limit

_COLUMNS = ("features", "pids", "camids", "modalities", "paths")
_LONGEST_NAME = 200  # characters
_DATASET = "dataset"  # in a file where it is not empty


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """One row per image; immutable, and right by construction.

    Columns may be lists, arrays or tensors on any device.

    Args:
        features: (N, D) real numbers, kept as float32; need not be normalised, must be finite and
            not all zero. Rows of very small or large numbers are scaled, which changes no cosine.
        pids, camids, modalities: (N,) integers; modalities are those of `icre.modality`.
        paths: N posix paths relative to the data set's root, each once: they say of which data set
            the images are, and so which protocols are for them. None: numbers are written.
        dataset: name of the data set where paths cannot say it, as a table's; then the columns are
            not compared with them. Without paths it is "any".

    Raises:
        UserError: one line that names the first offending row, its path and what is wrong. Where
            the paths are in the layout of SYSU-MM01, RegDB or LLCM, the other columns must agree
            with them (RegDB: one pid per folder, as its labels are not its folder numbers).

    >>> import icre
    >>> paths = ["cam1/0005/0001.jpg", "cam3/0005/0001.jpg"]
    >>> data = icre.FeatureSet([[1, 0], [0.6, 0.8]], [5, 5], [1, 3], [0, 1], paths)
    >>> len(data), data.layout
    (2, 'sysu')
    """

    features: np.ndarray
    pids: np.ndarray
    camids: np.ndarray
    modalities: np.ndarray
    paths: np.ndarray = None  # type: ignore[assignment]  # an array once it is made
    dataset: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", _real_numbers("features", self.features))
        if self.paths is None:
            rows = len(self.features) if self.features.ndim else 0
            names = [f"{row:09d}" for row in range(rows)]
            object.__setattr__(self, "paths", np.array(names, dtype=np.str_))
            object.__setattr__(self, "dataset", self.dataset or ANY)
        object.__setattr__(self, "paths", _text("paths", self.paths))
        for name in _COLUMNS[1:4]:
            object.__setattr__(self, name, _integers(name, getattr(self, name)))
        self._check_shapes()
        self._check_paths()
        self._check_modalities()
        self._check_values()
        if self.dataset in DEFAULTS:
            raise UserError(
                f"dataset {self.dataset!r} is a published one, which paths say: leave it empty"
            )
        if not self.dataset:
            check_columns(self.paths, self.pids, self.camids, self.modalities)

    def __len__(self) -> int:
        return len(self.paths)

    @cached_property
    def layout(self) -> str | None:
        """`dataset`; where it is empty "sysu", "regdb" or "llcm" by the paths; None: unknown."""
        labels = None if self.dataset else parse_path(str(self.paths[0]))
        return labels.layout if labels else self.dataset or None

    def take(self, rows: np.ndarray) -> Self:
        """The given rows (indices or a mask), in that order."""
        columns = {name: getattr(self, name)[rows] for name in _COLUMNS}
        return type(self)(**columns, dataset=self.dataset)

    def ordered(self) -> Self:
        """The rows by identity, camera and path: the order of gallery sampling, and of ties."""
        return self.take(np.lexsort((self.paths, self.camids, self.pids)))

    @classmethod
    def of(cls, source: Any, **columns: Any) -> Self:
        """What `score` and `compare` take as features, as a set.

        Args:
            source: a FeatureSet; a path, see `load`; or an array or tensor (N, D).
            columns: pids, camids, modalities and, where they are known, paths of an array.

        Raises:
            UserError: columns are missing, or given twice.
        """
        given = {name: value for name, value in columns.items() if value is not None}
        if not isinstance(source, (str, Path, FeatureSet)):
            missing = [name for name in _COLUMNS[1:4] if name not in given]
            if missing:
                raise UserError(
                    f"features are given as {type(source).__name__}, without {missing[0]}: give "
                    "icre.FeatureSet(features, pids, camids, modalities), a feature file or a run "
                    "folder; icre.score takes these columns, each (N,), beside the features too"
                )
            return cls(source, **given)
        if given:
            raise UserError(
                f"{next(iter(given))} are given twice: the features' "
                f"{type(source).__name__ if isinstance(source, FeatureSet) else 'file'} has them"
            )
        return source if isinstance(source, cls) else cls.load(source)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: str | Path, test_ids: str | Path | None = None) -> Self:
        """Read features.

        Args:
            path: an `.npz` with this class's fields as arrays; a folder with `features.npz` (a
                run); or a folder of `*_cam<k>.mat`, as SYSU-MM01's authors ask for.
            test_ids: SYSU-MM01's `test_id.txt` or `test_id.mat`; identities not in it are dropped.

        Raises:
            UserError: one line that begins with the path.
        """
        path = Path(path)
        if path.is_dir() and (path / "features.npz").is_file():
            path = path / "features.npz"
        columns = matlab.read_sysu_features(path) if path.is_dir() else _read_npz(path)
        try:
            loaded = cls(**columns)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
        if test_ids is not None:
            return loaded.take(np.isin(loaded.pids, matlab.read_ids(test_ids)))
        if path.is_dir():
            matlab.check_test_only(path, loaded.pids)
        return loaded

    def save(self, path: str | Path) -> None:
        """Write an `.npz` that `load` reads; an interrupted save leaves the old file."""
        if Path(path).suffix != ".npz":
            raise UserError(f"{path}: features are saved as .npz, name the file so")
        with replaced(path) as temporary:
            columns = {name: getattr(self, name) for name in _COLUMNS}
            if self.dataset:
                columns[_DATASET] = np.array(self.dataset)
            np.savez_compressed(temporary, **columns)

    def _row(self, row: int) -> str:
        return f"row {row} ({self.paths[row]})"

    def _check_shapes(self) -> None:
        if self.features.ndim != 2 or 0 in self.features.shape:
            raise UserError(f"features must be (N, D), not {self.features.shape}")
        for name in _COLUMNS[1:]:
            if getattr(self, name).shape != (len(self.features),):
                raise UserError(
                    f"{name} has shape {getattr(self, name).shape}, but there are "
                    f"{len(self.features)} feature rows"
                )

    def _check_paths(self) -> None:
        seen: dict[str, int] = {}
        for row, path in enumerate(self.paths.tolist()):
            if not path or path.startswith("/") or "\\" in path or path[1:2] == ":":
                raise UserError(
                    f"row {row}: path '{path}' must be relative, with '/' between folders"
                )
            if path in seen:
                raise UserError(f"{self._row(row)} has the same path as row {seen[path]}")
            seen[path] = row

    def _check_modalities(self) -> None:
        wrong = np.flatnonzero((self.modalities < 0) | (self.modalities >= len(NAMES)))
        if wrong.size:
            allowed = ", ".join(f"{number} {name}" for number, name in enumerate(NAMES))
            raise UserError(
                f"modality of {self._row(wrong[0])} is {self.modalities[wrong[0]]}, "
                f"not one of {allowed}"
            )

    def _check_values(self) -> None:
        broken = np.flatnonzero(~np.isfinite(self.features).all(axis=1))
        if broken.size:
            raise UserError(f"features of {self._row(broken[0])} hold NaN or infinity")
        zero = np.flatnonzero(~self.features.any(axis=1))
        if zero.size:
            raise UserError(f"features of {self._row(zero[0])} are all zero")


def _array(values: Any) -> np.ndarray:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        values = values.float() if values.is_floating_point() else values  # NumPy has no bfloat16
    return np.asarray(values)


def _integers(name: str, values: np.ndarray) -> np.ndarray:
    values = _array(values)
    if values.dtype.kind not in "iu":
        raise UserError(f"{name} must be integers, not {values.dtype}")
    if values.dtype.kind == "u" and values.size and values.max() > np.iinfo(np.int64).max:
        raise UserError(f"{name} hold {values.max()} ({values.dtype}), which no int64 can hold")
    return values.astype(np.int64)


def _text(name: str, values: np.ndarray) -> np.ndarray:
    values = np.asarray(values)
    if values.dtype.kind not in "UT":
        raise UserError(f"{name} must be text, not {values.dtype}")
    values = np.ascontiguousarray(values.astype(np.str_, copy=False))
    if values.size and values.itemsize:
        code_points = values.view(np.dtype(np.uint32).newbyteorder(values.dtype.byteorder))
        if code_points.max() > sys.maxunicode:  # which Python would take, and fail to print
            raise UserError(f"{name} hold characters that do not exist")
    return values


def _real_numbers(name: str, values: np.ndarray) -> np.ndarray:
    """As float32, with rows far from 1 multiplied by a power of two.

    Squares of numbers below 1e-23 are 0 in float32, those above 1e19 infinite, and torch's
    `normalize` divides by 1e-12 at least. A power of two changes no bit of what is normalised.
    """
    values = _array(values)
    if values.dtype.kind not in "fiu":
        raise UserError(f"{name} must be real numbers, not {values.dtype}")
    if values.ndim == 2 and values.size:
        largest = np.maximum(
            values.max(axis=1).astype(np.float64), -values.min(axis=1).astype(np.float64)
        )
        far = np.isfinite(largest) & (largest > 0) & ((largest < 2**-20) | (largest > 2**20))
        if far.any():
            values = values.astype(np.float64)
            exponents = np.frexp(largest[far])[1]
            values[far] = np.ldexp(values[far], -exponents[:, None])
    return values.astype(np.float32, copy=False)


def _name(value: np.ndarray) -> str:
    if value.shape != () or value.dtype.kind != "U" or not 0 < value.itemsize <= 4 * _LONGEST_NAME:
        raise ValueError(f"array '{_DATASET}' is no name of a data set")
    return str(value)


def _read_npz(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"{path}: no such file; features are an .npz or a folder of *_cam<k>.mat")
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(archive, unpacking_limit(path.stat().st_size))
            columns: dict[str, Any] = {
                name: _read_array(archive, members[name]) for name in _COLUMNS
            }
            if _DATASET in members:
                columns[_DATASET] = _name(_read_array(archive, members[_DATASET]))
            return columns
    except Exception as error:  # NumPy, zipfile and zlib each raise their own on a damaged file
        raise UserError(f"{path}: not a feature .npz ({error})") from None


def _members(archive: zipfile.ZipFile, limit: int) -> dict[str, zipfile.ZipInfo]:
    """The members of an .npz by the names of their arrays, by the archive's directory alone.

    Raises:
        ValueError: a column is missing or there twice, or all unpack to more than `limit` bytes.
    """
    members: dict[str, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        name = member.filename.removesuffix(".npy")
        if name in members:
            raise ValueError(f"array '{name}' is in it twice")
        members[name] = member
    missing = [name for name in _COLUMNS if name not in members]
    if missing:
        raise ValueError(f"no array '{missing[0]}', it holds {', '.join(members)}")
    size = sum(members[name].file_size for name in (*_COLUMNS, _DATASET) if name in members)
    if size > limit:
        raise ValueError(f"it unpacks to {size} bytes; {limit} are the most for its size")
    return members


def _read_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """An array, after a check that its header declares what the member holds."""
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if read_header is None:
            raise ValueError(f"{member.filename} has an unknown version of NumPy's format")
        shape, _, dtype = read_header(file)
        declared = math.prod(shape) * dtype.itemsize
        if declared != member.file_size - file.tell() and not dtype.hasobject:
            raise ValueError(f"{member.filename} declares {declared} bytes and holds others")
    with archive.open(member) as file:
        return np.lib.format.read_array(file, allow_pickle=False)
