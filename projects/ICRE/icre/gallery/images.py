"""Tables of images with modality, camera and identity: of a gallery or of queries."""

import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from icre.datasets.paths import parse_path
from icre.modality import NAMES
from icre.utils.errors import UserError
from icre.utils.image import is_image

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
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(self.row(row) for row in range(len(self)))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a CSV file that `save` wrote."""
        with open(path, newline="", encoding="utf-8") as file:
            return cls.from_rows([_complete(row, None, str(path)) for row in csv.DictReader(file)])

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
        sources: image files; folders (with all folders below, sorted by name); lists (a text file
            of one path per line); and tables (a `.csv` with a header and the columns path and any
            of modality, camera, identity). Paths in lists are relative to the current folder. An
            image that is named twice counts once.
        modality: a name of `icre.modality`, of all images that have none in a table; None: for a
            path in the layout of SYSU-MM01, RegDB or LLCM, the modality of that path.

    Raises:
        UserError: names a source that is missing or holds no image, a line of a list that is no
            image file, or an image of unknown modality.
    """
    found: dict[str, dict[str, str]] = {}
    for source in sources:
        rows = list(_find_images(Path(source)))
        if not rows:
            raise UserError(f"{source} holds no image")
        for row, where in rows:
            image = _complete(row, modality, where)
            found.setdefault(image["path"], image)
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
        for folder, below, names in os.walk(source):
            below[:] = sorted(name for name in below if not name.startswith("."))
            for name in sorted(filter(is_image, names)):
                yield {"path": os.path.join(folder, name)}, str(source)
    elif not source.is_file():
        raise UserError(f"{source} is missing: name an image, a folder of images, or a list")
    elif is_image(source.name):
        yield {"path": str(source)}, str(source)
    else:
        yield from _read_list(source)


def _read_list(source: Path) -> Iterator[tuple[dict[str, str], str]]:
    try:
        lines = source.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise UserError(f"{source} is neither an image nor a list of images") from None
    is_table = source.suffix.lower() == ".csv"
    if is_table and "path" not in next(csv.reader(lines[:1]), []):
        raise UserError(f"{source}: the first line of a .csv names its columns, one of them path")
    rows = csv.DictReader(lines) if is_table else ({"path": line.strip()} for line in lines)
    for number, row in enumerate(rows, start=1 + is_table):
        if not row["path"]:
            continue
        where = f"{source}, line {number}"
        if not is_image(Path(row["path"]).name) or not Path(row["path"]).is_file():
            raise UserError(f"{where}: {row['path']} is no image file")
        yield row, where


def _complete(row: dict[str, str], modality: str | None, where: str) -> dict[str, str]:
    """Fill the missing columns of a row from its path."""
    path = os.path.abspath(row["path"])
    known = parse_path(Path(path).as_posix())
    name = row.get("modality") or modality or (NAMES[known.modality] if known else None)
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
