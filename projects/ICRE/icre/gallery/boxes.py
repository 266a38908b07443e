"""Boxes of people in full frames, from a detector: COCO's JSON, or a table."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from icre.datasets.table_file import SUFFIXES, read_cells
from icre.utils.errors import UserError
from icre.utils.files import read_json

PERSON = "person"
_COCO_PERSON = 1  # its category, where a file does not list categories
_NEEDED = ("image", "x", "y", "w", "h")
_OWN = ("camera", "identity", "modality", "time")
Box = tuple[int, int, int, int]  # x, y, width, height

# name of the image, as the file has it; its box; further columns; where, for messages
Found = tuple[str, Box, dict[str, str], str]


def read_boxes(file: Path) -> list[Found]:
    """Read the boxes of people.

    Args:
        file: `.json`: COCO annotations (images, annotations, categories; only people are kept), or
            COCO results (a list of image_id, bbox, score), in which image_id is the image's name,
            or a number that its name is ("000000012.jpg" is 12). Else a table with the columns
            image, x, y, w, h (pixels) and further ones, which are as those of a table of images.

    Raises:
        UserError: names the entry or line that is no box, or has no area.
    """
    if not file.is_file():
        raise UserError(f"--boxes {file}: no such file")
    suffix = file.suffix.lower()
    if suffix != ".json" and suffix not in SUFFIXES:
        raise UserError(f"--boxes {file}: boxes are in .json (COCO), {', '.join(SUFFIXES)}")
    found = list(_read_coco(file) if suffix == ".json" else _read_table(file))
    if not found:
        raise UserError(f"--boxes {file} holds no box of a person")
    return found


def _read_table(file: Path) -> Iterator[Found]:
    for row, where in read_cells(file, _NEEDED, _OWN):
        box = _box([row.pop(name) for name in _NEEDED[1:]], where)
        yield row.pop("image"), box, row, where


def _read_coco(file: Path) -> Iterator[Found]:
    content = read_json(file)
    names: dict[Any, str] = {}
    person: Any = _COCO_PERSON
    if isinstance(content, dict):
        entries = _entries(content, "annotations", file)
        for one in _entries(content, "images", file):
            name = one.get("file_name")
            if not isinstance(name, str) or not isinstance(one.get("id"), (int, str)):
                raise UserError(f"{file}: an entry of images has no id or no file_name")
            names[one["id"]] = name
        known = {one.get("name"): one.get("id") for one in _entries(content, "categories", file)}
        if PERSON not in known:
            raise UserError(f"{file}: categories has no {PERSON}: this program finds people")
        person = known[PERSON]
    else:
        entries = _entries({"results": content}, "results", file)
    for number, entry in enumerate(entries):
        where = f"{file}, entry {number}"
        if entry.get("category_id", person) != person:
            continue
        image: Any = entry.get("image_id")
        if not isinstance(image, (int, str)) or isinstance(image, bool):
            raise UserError(f"{where}: image_id is no number and no text")
        if names and image not in names:
            raise UserError(f"{where}: image_id {image} is none of the file's images")
        box = entry.get("bbox")
        if not isinstance(box, list) or len(box) != 4:
            raise UserError(f"{where}: bbox is not [x, y, width, height]")
        score = entry.get("score")
        more = {"score": str(score)} if isinstance(score, (int, float)) else {}
        yield str(names.get(image, image)), _box(box, where), more, where


def _entries(content: dict, key: str, file: Path) -> list[dict]:
    found = content.get(key)
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise UserError(f"{file}: {key} is no list of objects: COCO annotations or results")
    return found


def _box(values: list, where: str) -> Box:
    """The smallest box of whole pixels around four numbers."""
    try:
        if any(isinstance(value, bool) for value in values):
            raise ValueError
        x, y, width, height = map(float, values)
        if not all(abs(value) < 1e6 for value in (x, y, width, height)):  # NaN too
            raise ValueError
    except (ValueError, TypeError):
        raise UserError(f"{where}: {values} is no box: four numbers of pixels") from None
    if width <= 0 or height <= 0:
        raise UserError(f"{where}: the box {x:g},{y:g},{width:g},{height:g} has no area")
    left, upper = math.floor(x), math.floor(y)
    return left, upper, math.ceil(x + width) - left, math.ceil(y + height) - upper
