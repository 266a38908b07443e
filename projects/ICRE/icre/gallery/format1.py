"""Galleries of format 1: a CSV table, one file of features, one of the index. They open as they
are, and the first change writes them anew.
"""

import csv
from pathlib import Path
from typing import Any

import faiss

from icre.gallery import index as indexes
from icre.gallery.arrays import file_size, map_array, no_unit_vector
from icre.gallery.columns import Columns
from icre.gallery.manifest import FEATURES, IMAGES, INDEX, MANIFEST
from icre.gallery.segments import Segment
from icre.gallery.table import ImageTable
from icre.modality import NAMES
from icre.utils.errors import first_line
from icre.utils.files import sha256_of

COLUMNS = ("path", "modality", "camera", "identity")


def read(folder: Path, manifest: dict[str, Any]) -> tuple[list[Segment], faiss.Index | None]:
    """The gallery as one segment, and its index; None for exact search.

    Every file is compared with its checksum, and the files with each other.

    Raises:
        FileNotFoundError: one is missing.
        ValueError: names the file that is damaged.
    """
    for name, expected in manifest["files"].items():
        file_size(folder / name)
        if sha256_of(folder / name) != expected:
            raise ValueError(f"{name} is not as it was written (its SHA-256 differs)")
    images = read_images(folder / IMAGES)
    shape = manifest["images"], manifest["dimensions"]
    if len(images) != shape[0]:
        raise ValueError(f"{IMAGES} has {len(images)} rows, {MANIFEST} says {shape[0]}")
    features = map_array(folder / FEATURES, "float32", shape)
    row = no_unit_vector(features)
    if row is not None:
        raise ValueError(f"{FEATURES}: row {row} is no unit vector")
    index = _read_index(folder / INDEX, manifest["index"], *shape)
    segment = Segment(
        {"name": "0-0", "images": shape[0], "files": {}}, Columns.of(images), features
    )
    return [segment], index if manifest["index"] != "flat" else None


def _read_index(path: Path, kind: str, count: int, dimensions: int) -> faiss.Index:
    try:
        index = faiss.read_index(str(path))
    except (RuntimeError, MemoryError) as error:
        raise ValueError(f"{INDEX} is no index ({first_line(error)[-100:]})") from None
    try:
        indexes.check(kind, index, count, dimensions, count)
    except ValueError as error:
        raise ValueError(f"{INDEX}: {error}") from None
    return index


def read_images(path: Path) -> ImageTable:
    """Read the table of a gallery of format 1.

    Raises:
        ValueError: names the line that is no row of such a file.
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
                    raise ValueError(f"{path}, line {reader.line_num}: not {', '.join(COLUMNS)}")
        except csv.Error as error:
            raise ValueError(f"{path}, line {reader.line_num}: {error}") from None
    return ImageTable.from_rows(rows)
