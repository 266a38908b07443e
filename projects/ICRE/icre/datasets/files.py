"""Files of a data set on disk: folders, identity lists, lists of paths and labels, images."""

import logging
import os
import re
from collections.abc import Iterable, Mapping
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from icre.utils.errors import UserError
from icre.utils.image import is_image

logger = logging.getLogger("fastreid.icre")

Item = tuple[str, int, int]  # (path, pid, camid), what fast-reid's samplers unpack


def require_folder(path: Path, hint: str) -> Path:
    """Return `path`; raise UserError with `hint` (what the user can do) if it is no folder."""
    if not path.is_dir():
        raise UserError(f"folder {path} is missing: {hint}")
    return path


def read_text(path: Path) -> str:
    """Content of a split file, without a byte order mark.

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

    Duplicates count once, or their images would be listed twice.

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


def list_images(folder: Path) -> list[str]:
    """Paths of the images in one folder, by name; hidden and foreign files are skipped.

    A folder that does not exist holds no images: an identity need not appear in every camera.
    """
    # Strings: 45,000 `Path`s would take a second.
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    prefix = f"{folder}{os.sep}"
    return [prefix + name for name in sorted(names) if is_image(name)]


def identity_folders(folder: Path) -> dict[int, Path]:
    """Number -> folder of the identities in a camera's folder; `3`, `03` and `0003` are number 3.

    A folder that does not exist holds none.

    Raises:
        UserError: two folders have the same number.
    """
    found: dict[int, Path] = {}
    names = sorted(os.listdir(folder)) if folder.is_dir() else []
    for name in names:
        if not (name.isascii() and name.isdigit() and (folder / name).is_dir()):
            continue
        other = found.setdefault(int(name), folder / name)
        if other.name != name:
            raise UserError(
                f"folders {other} and {folder / name} are of the same identity {int(name)}: "
                "restore the data set"
            )
    return found


def require_disjoint(splits: Mapping[str, Iterable[int]], where: Path) -> None:
    """Raise UserError if an identity is in two splits (its images would leak)."""
    for (one, first), (other, second) in combinations(splits.items(), 2):
        both = sorted(set(first) & set(second))
        if both:
            raise UserError(
                f"{where}: identities {both[:5]} are in both the {one} and the {other} split: "
                "restore the split files"
            )


class Listed(NamedTuple):
    """A line of a list: posix path below the data set's folder, label, match of the path."""

    path: str
    label: int
    match: re.Match


def read_list(file: Path, pattern: str) -> list[Listed]:
    """Read a list.

    Blank lines, a comma at a line's end, `./` before a path and Windows' backslashes are accepted.
    Repeated lines count once, with a warning.

    Args:
        file: the list.
        pattern: regular expression that every path must match from end to end.

    Raises:
        UserError: names the file and the line that is no path and label, is no image of the
            list's folder, or gives a path a second label.
    """
    found: dict[str, Listed] = {}
    repeated = 0
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        if not line.strip(" \t,"):
            continue
        where = f"split file {file}, line {number}"
        entry = _parse(line, pattern, where)
        known = found.setdefault(entry.path, entry)
        repeated += known is not entry
        if known.label != entry.label:
            raise UserError(f"{where}: {entry.path} has label {known.label} in a line above")
    if repeated:
        logger.warning("%s: %d lines are repeated and count once", file, repeated)
    return list(found.values())


def _parse(line: str, pattern: str, where: str) -> Listed:
    words = line.strip(" \t,").rsplit(maxsplit=1)
    if len(words) != 2 or not (words[1].isascii() and words[1].isdigit()):
        raise UserError(f"{where} must be '<relative path> <label>', not {line.strip()!r}")
    path = words[0].replace("\\", "/").removeprefix("./")
    match = re.fullmatch(pattern, path)
    if match is None or ".." in path.split("/") or not is_image(path.rsplit("/", 1)[-1]):
        raise UserError(f"{where}: {path!r} is no image path of the form {_readable(pattern)}")
    return Listed(path, int(words[1]), match)


def _readable(pattern: str) -> str:
    """A path pattern as people write it: <id> for a group of that name, <name> for any text."""
    named = re.sub(r"\(\?P<(\w+)>[^)]*\)", r"<\1>", pattern)
    return re.sub(r"(\[\^/\][+*])+", "<name>", named)


def missing_files(paths: Iterable[str]) -> list[str]:
    """Those of `paths` that are no files, in order."""
    return [path for path in paths if not os.path.isfile(path)]
