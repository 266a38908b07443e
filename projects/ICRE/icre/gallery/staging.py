"""The folder `<gallery>.partial`, in which a gallery is built: finished shards, then its files.

A marker inside says that we wrote it, and nothing without one is touched. One process at a time
uses it.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from icre.utils.errors import UserError
from icre.utils.lock import LOCK, locked

MARKER, CONTENT = "ICRE_PARTIAL_GALLERY", "icre gallery under construction, format 1\n"
SHARDS, GALLERY = "shards", "gallery"


def staging_folder(folder: Path) -> Path:
    """Folder of the shards and of the unfinished gallery."""
    return folder.parent / f"{folder.name}.partial"


def is_staging(path: Path) -> bool:
    """Whether `path` is a staging folder that we wrote, and no link to one."""
    try:
        with open(path / MARKER) as file:
            return not path.is_symlink() and file.read(len(CONTENT) + 1) == CONTENT
    except (OSError, ValueError):
        return False


def may_be_staging(path: Path) -> bool:
    """`is_staging`, or a folder that holds at most a lock, of a process that has just begun."""
    if is_staging(path):
        return True
    empty = path.is_dir() and not path.is_symlink() and not set(os.listdir(path)) - {LOCK, MARKER}
    return empty and not (path / MARKER).is_file()


def check_staging(folder: Path) -> None:
    """Raise UserError if something else is where a gallery's staging folder has to be."""
    path = staging_folder(folder)
    if os.path.lexists(path) and not may_be_staging(path):
        raise UserError(
            f"{path} is in the way: it has no valid {MARKER} inside, so it is not of this program; "
            "choose another --out, or move it"
        )


@contextmanager
def staging(folder: Path) -> Iterator[None]:
    """`held`, for a gallery that is built in the staging folder.

    Raises:
        UserError: as `held`, or `folder` exists.
    """
    with held(folder):
        check_absent(folder)  # another process may have finished it
        yield


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Make the staging folder of a gallery, or take it over, and lock it.

    Raises:
        UserError: something else is there, or another process uses it.
    """
    check_staging(folder)
    path = staging_folder(folder)
    with locked(path, "--out"):
        try:
            (path / MARKER).write_text(CONTENT)
        except OSError as error:
            raise UserError(f"--out: cannot write into {path} ({error})") from None
        try:
            yield
        finally:
            if path.is_dir() and not set(os.listdir(path)) - {LOCK, MARKER}:
                discard(folder)


def check_absent(folder: Path) -> None:
    """Raise UserError if the folder of a gallery exists."""
    if os.path.lexists(folder):
        raise UserError(f"--out {folder} exists: choose another folder or remove it")


def remove_gallery(folder: Path) -> None:
    """Remove the unfinished gallery in a staging folder."""
    path = staging_folder(folder)
    if (path / GALLERY).exists() and is_staging(path):
        shutil.rmtree(path / GALLERY)


def discard_stopped(folder: Path) -> None:
    """`discard` what a killed process left; not what one that runs uses."""
    if is_staging(staging_folder(folder)):
        with suppress(UserError), held(folder):
            discard(folder)


def discard(folder: Path) -> None:
    """Remove a staging folder if it is ours; what we did not write stays in it."""
    path = staging_folder(folder)
    if not is_staging(path):
        return
    with suppress(OSError):
        for name in (SHARDS, GALLERY):
            shutil.rmtree(path / name, ignore_errors=True)
        (path / LOCK).unlink(missing_ok=True)
        (path / MARKER).unlink()
        path.rmdir()
