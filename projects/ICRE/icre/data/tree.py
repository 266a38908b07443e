"""Reading what a data set has on disk: required files, identity lists, image folders."""

from collections.abc import Iterable
from pathlib import Path

from icre.errors import UserError

# Windows leaves Thumbs.db and desktop.ini, macOS ._*.jpg: only these endings count, hidden never.
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff"})


def require_folder(path: Path, hint: str) -> Path:
    """Return `path`, or raise UserError with `hint` (what the user can do) when it is no folder."""
    if not path.is_dir():
        raise UserError(f"folder {path} is missing: {hint}")
    return path


def read_ids(path: Path) -> list[int]:
    """Read a split file: integers separated by commas or blanks, in the file's order.

    Raises:
        UserError: the file is missing, empty, or holds something that is no integer.
    """
    if not path.is_file():
        raise UserError(f"split file {path} is missing: it comes with the data set's exp/ folder")
    try:
        ids = [int(word) for word in path.read_text().replace(",", " ").split()]
    except ValueError as error:
        raise UserError(f"split file {path} must hold comma-separated integers: {error}") from None
    if not ids:
        raise UserError(f"split file {path} is empty")
    return ids


def list_images(folder: Path) -> list[Path]:
    """Image files of one folder in the order of their names; hidden and foreign files are skipped.

    A folder that does not exist holds no images: an identity need not appear in every camera.
    """
    if not folder.is_dir():
        return []
    files = (f for f in folder.iterdir() if not f.name.startswith("."))
    return sorted(f for f in files if f.suffix.lower() in IMAGE_SUFFIXES)


def require_disjoint(train: Iterable[int], test: Iterable[int], where: Path) -> None:
    """Raise UserError when an identity stands in both splits (its images would leak)."""
    both = sorted(set(train) & set(test))
    if both:
        raise UserError(f"{where}: identities {both[:5]} stand in the training and the test split")
