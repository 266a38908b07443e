"""Lists whose lines are `<relative path> <label>`, as RegDB and LLCM write them."""

import logging
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from icre.datasets.tree import is_image, read_text
from icre.utils.errors import UserError

logger = logging.getLogger("fastreid.icre")


class Listed(NamedTuple):
    """A line: image path below the data set's folder (posix), its label, what the path says."""

    path: str
    label: int
    match: re.Match


def read_list(file: Path, pattern: str) -> list[Listed]:
    """Read a list.

    Blank lines, a comma at a line's end, `./` before a path and Windows' backslashes are accepted.
    A line that stands there twice counts once, and the log says so.

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
        logger.warning("%s: %d lines stand there twice and count once", file, repeated)
    return list(found.values())


def _parse(line: str, pattern: str, where: str) -> Listed:
    words = line.strip(" \t,").rsplit(maxsplit=1)
    if len(words) != 2 or not (words[1].isascii() and words[1].isdigit()):
        raise UserError(f"{where} must be '<relative path> <label>', not {line.strip()!r}")
    path = words[0].replace("\\", "/").removeprefix("./")
    match = re.fullmatch(pattern, path)
    if match is None or not is_image(path.rsplit("/", 1)[-1]):
        raise UserError(f"{where}: {path!r} is no image path of the form {_readable(pattern)}")
    return Listed(path, int(words[1]), match)


def _readable(pattern: str) -> str:
    """A path pattern as people write it: <id> for a group of that name, <name> for any text."""
    named = re.sub(r"\(\?P<(\w+)>[^)]*\)", r"<\1>", pattern)
    return re.sub(r"(\[\^/\][+*])+", "<name>", named)


def missing_files(paths: Iterable[str]) -> list[str]:
    """Those of `paths` that are no files, in order."""
    return [path for path in paths if not os.path.isfile(path)]
