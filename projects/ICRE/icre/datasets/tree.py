"""Reading what a data set has on disk: required files, identity lists, image folders."""

from collections.abc import Iterable, Mapping
from itertools import combinations
from pathlib import Path

from icre.utils.errors import UserError

# Windows leaves Thumbs.db and desktop.ini, macOS ._*.jpg: only these endings count, hidden never.
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff"})

Item = tuple[str, int, int]  # (path, pid, camid), what fast-reid's samplers unpack


def require_folder(path: Path, hint: str) -> Path:
    """Return `path`, or raise UserError with `hint` (what the user can do) when it is no folder."""
    if not path.is_dir():
        raise UserError(f"folder {path} is missing: {hint}")
    return path


def read_text(path: Path) -> str:
    """Content of a split file, without the mark that Windows editors put first.

    Raises:
        UserError: the file is missing, empty, or no text; says where split files come from.
    """
    if not path.is_file():
        where = f"the data set's archive, in its {path.parent.name}/ folder"
        raise UserError(f"split file {path} is missing: it comes with {where}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"split file {path} is no text file: restore it") from None
    if not text.strip(" \t\r\n,"):
        raise UserError(f"split file {path} is empty")
    return text


def read_ids(path: Path) -> list[int]:
    """Read an identity list: integers separated by commas or blanks, in the file's order.

    An identity that stands there twice counts once, or its images would be listed twice.

    Raises:
        UserError: the file is missing, empty, or holds something that is no integer (names the
            line).
    """
    ids: dict[int, None] = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        for word in line.replace(",", " ").split():
            if not (word.isascii() and word.isdigit()):
                raise UserError(
                    f"split file {path}, line {number}: identities are comma-separated integers, "
                    f"not {word!r}"
                )
            ids[int(word)] = None
    return list(ids)


def is_image(name: str) -> bool:
    """Whether a file of that name counts as an image: a known ending in any case, not hidden."""
    return not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES


def list_images(folder: Path) -> list[Path]:
    """Image files of one folder in the order of their names; hidden and foreign files are skipped.

    A folder that does not exist holds no images: an identity need not appear in every camera.
    """
    if not folder.is_dir():
        return []
    return sorted(file for file in folder.iterdir() if is_image(file.name))


def require_disjoint(splits: Mapping[str, Iterable[int]], where: Path) -> None:
    """Raise UserError when an identity stands in two splits (its images would leak)."""
    for (one, first), (other, second) in combinations(splits.items(), 2):
        both = sorted(set(first) & set(second))
        if both:
            raise UserError(
                f"{where}: identities {both[:5]} stand in both the {one} and the {other} split: "
                "restore the split files"
            )
