"""Tables of images with modality, camera and identity: of a gallery or of queries."""

import csv
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from icre.datasets.paths import parse_path
from icre.datasets.table_file import SUFFIXES, read_list, read_table
from icre.modality import NAMES
from icre.utils.errors import UserError, printable
from icre.utils.image import is_image

logger = logging.getLogger("fastreid.icre")

COLUMNS = ("path", "modality", "camera", "identity")


@dataclass(frozen=True, eq=False)
class ImageTable:
    """One row per image.

    Args:
        paths: N absolute paths.
        modalities: (N,) integers of `icre.modality`.
        cameras, identities: N texts, "" if unknown. For a path in the layout of a published data
            set they are read from it, as "3" and "sysu 461".
    """

    paths: Sequence[str]
    modalities: np.ndarray
    cameras: Sequence[str]
    identities: Sequence[str]

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, rows: Sequence[int] | np.ndarray) -> Self:
        """The given rows (N,), in that order."""
        lists = [
            [column[row] for row in rows] for column in (self.paths, self.cameras, self.identities)
        ]
        return type(self)(lists[0], self.modalities[np.asarray(rows, dtype=int)], *lists[1:])

    def row(self, row: int) -> dict[str, str]:
        """{path, modality, camera, identity} of a row, as strings."""
        return {
            "path": self.paths[row],
            "modality": NAMES[self.modalities[row]],
            "camera": self.cameras[row],
            "identity": self.identities[row],
        }

    def save(self, path: Path) -> None:
        """Write a CSV file."""
        # file names need not be UTF-8; surrogateescape keeps their bytes
        with open(path, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(self.row(row) for row in range(len(self)))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a CSV file that `save` wrote.

        Raises:
            UserError: names the line that is no row of such a file.
        """
        with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
            reader = csv.reader(file)
            rows = []
            try:
                for cells in reader:
                    row = dict(zip(COLUMNS, cells))
                    if reader.line_num == 1:
                        valid = tuple(cells) == COLUMNS
                    else:
                        valid = len(cells) == len(COLUMNS) and row["modality"] in NAMES
                        rows.append(row)
                    if not (valid and row["path"]):
                        raise UserError(f"{path}, line {reader.line_num}: not {', '.join(COLUMNS)}")
            except csv.Error as error:
                raise UserError(f"{path}, line {reader.line_num}: {error}") from None
        return cls.from_rows(rows)

    @classmethod
    def from_rows(cls, rows: Sequence[dict[str, str]]) -> Self:
        """Make a table of the dicts that `row` returns."""
        modalities = np.array([NAMES.index(row["modality"]) for row in rows], dtype=np.int64)
        paths, cameras, identities = (
            [row[name] for row in rows] for name in ("path", "camera", "identity")
        )
        return cls(paths, modalities, cameras, identities)


def collect(sources: Sequence[str | Path], modality: str | None = None) -> ImageTable:
    """Find images, and read from their paths what a table does not say.

    Args:
        sources: image files; folders (with all folders below, sorted by name, and linked ones);
            lists (a text file of one path per line); and tables (see `read_table`). Paths in lists
            are relative to the current folder. An image that is named twice counts once.
        modality: a name of `icre.modality`, of all images that have none in a table; None: for a
            path in the layout of SYSU-MM01, RegDB or LLCM, the modality of that path.

    Raises:
        UserError: names a source that is missing or holds no image, a line of a list that is no
            image file or contradicts an earlier one, or an image of unknown modality.
    """
    found: dict[str, dict[str, str]] = {}
    for source in sources:
        rows = list(_find_images(Path(source)))
        if not rows:
            raise UserError(f"{source} holds no image")
        for row, where in rows:
            image = _complete(row, modality, where)
            known = found.setdefault(image["path"], image)
            if known != image:
                column = next(name for name in COLUMNS if known[name] != image[name])
                raise UserError(
                    f"{where}: {row['path']} was named before with {column} {known[column]!r}, "
                    f"here it has {image[column]!r}"
                )
    return ImageTable.from_rows(list(found.values()))


def contradictions(images: ImageTable) -> list[str]:
    """Paths in the layout of a data set that gives them another modality than their row has."""
    parsed = [parse_path(Path(path).as_posix()) for path in images.paths]
    return [
        path
        for path, known, modality in zip(images.paths, parsed, images.modalities)
        if known is not None and known.modality != modality
    ]


def _find_images(source: Path) -> Iterator[tuple[dict[str, str], str]]:
    """Yield (row of known columns, file and line for error messages) of each image of a source."""
    if source.is_dir():
        yield from (({"path": path}, str(source)) for path in _walk(source))
    elif not source.exists():
        raise UserError(f"{source} is missing: name an image, a folder of images, or a list")
    elif not source.is_file():
        raise UserError(f"{source} is no regular file: name an image, a folder, or a list")
    elif is_image(source.name):
        yield {"path": str(source)}, str(source)
    else:
        is_table = source.suffix.lower() in SUFFIXES
        yield from (read_table if is_table else read_list)(source)


def _walk(source: Path) -> Iterator[str]:
    """Paths of the images in a folder and below; other files are counted in one warning.

    Links to folders outside `source` are followed, each target once; what is inside is found under
    its own name. Links to a folder that holds `source` would be loops.
    """
    root, seen, skipped = os.path.realpath(source), set(), []

    def wanted(path: str) -> bool:
        if os.path.islink(path):
            target = os.path.realpath(path)
            if os.path.commonpath([root, target]) in (root, target):
                return False
        status = os.stat(path)
        identity = status.st_dev, status.st_ino
        if identity in seen:
            return False
        seen.add(identity)
        return True

    def fail(error: OSError) -> None:
        raise UserError(f"cannot read folder {error.filename}: {error.strerror}")

    wanted(root)
    for folder, below, names in os.walk(source, followlinks=True, onerror=fail):
        visible = sorted(name for name in below if not name.startswith("."))
        below[:] = [name for name in visible if wanted(os.path.join(folder, name))]
        for name in sorted(name for name in names if not name.startswith(".")):
            if is_image(name):
                yield os.path.join(folder, name)
            else:
                skipped.append(os.path.join(folder, name))
    if skipped:
        logger.warning(
            "%s: %d files are skipped, their names end as no image's, such as %s",
            printable(str(source)),
            len(skipped),
            printable(skipped[0]),
        )


def _complete(row: dict[str, str], modality: str | None, where: str) -> dict[str, str]:
    """Fill the missing columns of a row from its path."""
    path = os.path.abspath(row["path"])
    known = parse_path(Path(path).as_posix())
    in_path = NAMES[known.modality] if known else None
    if row.get("modality") == "" and in_path is None:
        raise UserError(f"{where}: modality is blank: write {' or '.join(NAMES)}")
    name = row.get("modality") or modality or in_path
    if name is None:
        raise UserError(
            f"{path}: its path does not say its modality: give --modality "
            f"{' or '.join(NAMES)}, or a .csv with the columns path and modality"
        )
    if name not in NAMES:
        raise UserError(f"{where}: modality {name!r} is none of {', '.join(NAMES)}")
    camera, identity = (str(known.camid), f"{known.layout} {known.pid}") if known else ("", "")
    return {
        "path": path,
        "modality": name,
        "camera": row.get("camera") or camera,
        "identity": row.get("identity") or identity,
    }
