"""A data set from a table of images: DATASETS.TABLE, without code."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import icre.compat  # noqa: F401

from fastreid.config import CfgNode
from fastreid.data.datasets import DATASET_REGISTRY

from icre.datasets.base import TEST, VAL, VisibleInfraredSet
from icre.datasets.files import Item, require_disjoint
from icre.datasets.protocol import ANY, DEFAULTS
from icre.datasets.table_file import SUFFIXES, read_table
from icre.modality import NAMES
from icre.utils.errors import UserError

TRAIN = "train"
SPLITS = (TRAIN, VAL, TEST)
NEEDED = ("path", "identity", "camera", "modality", "split")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]*")


@DATASET_REGISTRY.register()
class Table(VisibleInfraredSet):
    """The images of a table, see `icre.datasets.table_file.read_table`.

    Its columns are path, identity, camera, modality (visible or infrared), split (train, val or
    test) and, optionally, time. Identities and cameras are numbers or names; names are numbered in
    alphabetical order. No identity is in two splits. The set is called as the file without its
    ending, and so are its protocols (`icre.datasets.protocol`).

    Args:
        table: path of the file.
        validation: leave the test images alone, and put the val images in their place, or where
            there are none the images of a quarter of the training identities.

    Raises:
        UserError: one line that names the file and the line, column or value.
    """

    splits = (None,)
    published: dict = {}

    def __init__(self, table: str, validation: bool = False, **kwargs: Any):
        file = Path(table)
        self.layout = self.name_in_features = self.dataset_name = name_of(file)
        self.modalities, items = read_set(file)
        self.folder = Path(os.path.commonpath([os.path.dirname(path) for path in self.modalities]))
        self._fill(items, validation, **kwargs)

    @classmethod
    def from_config(cls, cfg: CfgNode, **options: Any) -> Self:
        """The table that DATASETS.TABLE names."""
        if not cfg.DATASETS.TABLE:
            raise UserError("data set Table needs DATASETS.TABLE, the path of a table")
        return cls(cfg.DATASETS.TABLE, **options)

    def modality_of(self, path: str) -> int:
        """Modality of an image, as the table has it."""
        return self.modalities[path]


def name_of(file: Path) -> str:
    """Name of a table's data set.

    Raises:
        UserError: the file's name is no such name, is that of a published set, or has no ending
            of a table.
    """
    name = file.stem
    if file.suffix.lower() not in SUFFIXES:
        raise UserError(f"DATASETS.TABLE {file}: a table ends in {', '.join(SUFFIXES)}")
    if not _NAME.fullmatch(name):
        raise UserError(
            f"DATASETS.TABLE {file}: the file's name names the data set and its protocols, so it "
            "must be letters, digits and _"
        )
    if name.lower() in DEFAULTS or name.lower() == ANY:
        raise UserError(
            f"DATASETS.TABLE {file}: {name} is the name of another set: rename the file"
        )
    return name


def read_set(file: Path) -> tuple[dict[str, int], dict[str, list[Item]]]:
    """Absolute path -> modality, and {split: images as (path, pid, camid)} with train and test.

    Raises:
        UserError: see `Table`.
    """
    if not file.is_file():
        raise UserError(f"DATASETS.TABLE: no file {file}")
    rows: dict[str, dict[str, str]] = {}
    for row, where in read_table(file):
        path = os.path.abspath(row["path"])
        for column in NEEDED:
            if not row.get(column):
                known = "the header has no such column" if column not in row else "it is blank"
                raise UserError(f"{where}: {column} is needed, and {known}")
        if row["modality"] not in NAMES:
            raise UserError(f"{where}: modality {row['modality']!r} is none of {', '.join(NAMES)}")
        if row["split"] not in SPLITS:
            raise UserError(f"{where}: split {row['split']!r} is none of {', '.join(SPLITS)}")
        if path in rows:
            raise UserError(f"{where}: {path} is in a line above")
        rows[path] = row
    people = _numbers([row["identity"] for row in rows.values()])
    cameras = _numbers([row["camera"] for row in rows.values()])
    items: dict[str, list[Item]] = {TRAIN: [], TEST: []}
    for path, row in rows.items():
        item = path, people[row["identity"]], cameras[row["camera"]]
        items.setdefault(row["split"], []).append(item)
    require_disjoint({name: {pid for _, pid, _ in listed} for name, listed in items.items()}, file)
    return {path: NAMES.index(row["modality"]) for path, row in rows.items()}, items


def _numbers(values: Sequence[str]) -> dict[str, int]:
    """Text -> number: its own where all are whole numbers, else its place among the names."""
    distinct = sorted(set(values))
    if all(value.isascii() and value.isdigit() and len(value) < 19 for value in distinct):
        return {value: int(value) for value in distinct}
    return {value: number for number, value in enumerate(distinct)}
