"""Arrays in files: written with size and checksum, and mapped after a check of their structure."""

import errno
import hashlib
import os
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from icre.utils.errors import UserError
from icre.utils.files import sha256_of

BLOCK = 65_536  # rows that are read at a time
FileInfo = dict[str, Any]  # {"bytes": size, "sha256": hexadecimal}
_NO_FILE = (errno.ELOOP, errno.ENOTDIR, errno.EISDIR)  # something else is in the place of a file


def require_unchanged(folder: Path, path: Path, sha256: str) -> None:
    """Compare a file with its checksum: all of it, and before a copy of it gets a new one.

    Args:
        folder: of the gallery.
        path: in it.
        sha256: when it was written.

    Raises:
        UserError: it differs, or is not there.
    """
    try:
        found = sha256_of(path)
    except FileNotFoundError:
        raise UserError(
            f"gallery {folder}: {path.relative_to(folder)} is not there: repeat the command if the "
            "gallery was changed meanwhile, else index again"
        ) from None
    if found != sha256:
        raise damage(folder, path, "it is not as it was written (its SHA-256 differs)")


def damage(folder: Path, path: Path, what: str) -> UserError:
    """The error that a file or folder of a gallery is damaged."""
    return UserError(
        f"gallery {folder} is damaged: {path.relative_to(folder)}: {what}; index again"
    )


class HashedFile:
    """A new binary file whose SHA-256 is computed while it is written.

    It is on the disk only after `sync_tree`: to wait for each of many would take longer.

    Attributes:
        info: the file's `FileInfo`, after the block.
    """

    def __init__(self, path: Path):
        self.path, self._hash, self.info = path, hashlib.sha256(), {}

    def __enter__(self) -> "HashedFile":
        self._file = open(self.path, "wb")
        return self

    def write(self, data: Any) -> int:
        """Write bytes or a contiguous buffer of them; returns their number."""
        self._hash.update(data)
        return self._file.write(data)

    def __exit__(self, kind: type | None, *error: object) -> None:
        try:
            if kind is None:
                self._file.flush()
                self.info = {"bytes": self._file.tell(), "sha256": self._hash.hexdigest()}
        finally:
            self._file.close()


def sync_folder(folder: Path) -> None:
    """Names in a folder, such as that of a file that was renamed, are on the disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """All files below a folder, and their names, are on the disk.

    Some file systems refuse what does not fit only now.
    """
    for below, _, names in os.walk(folder):
        for name in names:
            handle = os.open(os.path.join(below, name), os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        sync_folder(Path(below))


def allow_open_files() -> None:
    """Let this process open as many files as it may: each array that is mapped keeps one open."""
    with suppress(ImportError, OSError, ValueError):  # a system without it, or its own limit
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def cannot_read(folder: Path, error: OSError) -> UserError:
    """What stops the reading of a gallery that need not be damaged."""
    reason = f"{error.filename or folder}: {error.strerror or error}"
    if error.errno == errno.EMFILE:
        reason += ": raise the limit of open files (ulimit -n)"
    return UserError(f"cannot read gallery {folder}: {reason}")


def file_size(path: Path) -> int:
    """Bytes of a regular file, or of a link to one: a pipe would block.

    Raises:
        FileNotFoundError: there is none.
        OSError: it cannot be reached.
        ValueError: it is something else.
    """
    try:
        found = os.stat(path)
    except OSError as error:
        if error.errno not in _NO_FILE:
            raise
        raise ValueError(f"{path.name}: {error.strerror}") from None
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{path.name} is no regular file")
    return found.st_size


def write_array(path: Path, array: np.ndarray) -> FileInfo:
    """Write an array as a `.npy` file."""
    return write_blocks(path, [array], len(array), array.dtype, array.shape[1:])


def write_blocks(
    path: Path,
    blocks: Iterable[np.ndarray],
    count: int,
    dtype: np.dtype | str,
    shape: Sequence[int] = (),
) -> FileInfo:
    """Write (count, *shape) as a `.npy` file, block by block.

    The blocks are written, not copied into a map: on a full disk that kills the process.
    """
    header = {
        "descr": np.lib.format.dtype_to_descr(np.dtype(dtype)),
        "fortran_order": False,
        "shape": (count, *shape),
    }
    with HashedFile(path) as file:
        np.lib.format.write_array_header_1_0(file, header)
        for block in blocks:
            block = np.ascontiguousarray(block, dtype=dtype)
            file.write(block.view(np.uint8).reshape(-1).data if block.size else b"")
    return file.info


def map_array(path: Path, dtype: np.dtype | str, shape: Sequence[int | None]) -> np.ndarray:
    """Map a `.npy` file for reading; its content is read when it is used.

    Args:
        path: of the file.
        dtype, shape: what it has to hold; None: any length.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it cannot be opened; names the file.
        ValueError: it is no array of that type and shape; names the file.
    """
    try:
        array = np.load(path, mmap_mode="r")
    except OSError as error:
        if error.errno is None or error.errno in _NO_FILE:
            raise ValueError(f"{path.name}: {error.strerror or error}") from None
        raise OSError(error.errno, error.strerror, str(path)) from None  # mmap names no file
    except Exception as error:  # NumPy lets errors of Python's tokenizer through, for example
        reason = " ".join(str(error).split())[:150]
        raise ValueError(f"{path.name}: {reason}") from None
    found = getattr(array, "shape", None), str(getattr(array, "dtype", None))
    fits = found[0] is not None and len(found[0]) == len(shape)
    fits = fits and all(want in (None, have) for have, want in zip(found[0], shape))
    if not fits or found[1] != str(np.dtype(dtype)) or not array.flags.c_contiguous:
        raise ValueError(f"{path.name} holds {found}, expected {tuple(shape)} of {np.dtype(dtype)}")
    return array


def no_unit_vector(features: np.ndarray) -> int | None:
    """The first row of (N, D) whose length is not 1; None: all are unit vectors."""
    for start in range(0, len(features), BLOCK):
        part = features[start : start + BLOCK]
        lengths = np.einsum("nd,nd->n", part, part)
        wrong = np.flatnonzero(~(np.abs(lengths - 1) < 1e-2))  # NaN too
        if len(wrong):
            return start + int(wrong[0])
    return None


def require_fitting(
    features: np.ndarray, dimensions: int, paths: Sequence[str], gallery: str
) -> None:
    """Check features before they get into a gallery.

    Args:
        features: (n, D).
        dimensions: of the gallery.
        paths: of the images, n where all are known.
        gallery: its name.

    Raises:
        UserError: they have another dimension, or one is no unit vector.
    """
    if features.ndim != 2 or features.shape[1] != dimensions:
        raise UserError(
            f"features of {features.shape[-1]} dimensions do not fit gallery {gallery}, which has "
            f"{dimensions}: use its model"
        )
    wrong = no_unit_vector(features)
    if wrong is not None:
        path = next(iter(paths[wrong:]), f"row {wrong}")
        raise UserError(f"the feature of {path} is no unit vector")
