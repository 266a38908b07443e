"""A data set of one's own in one class: `--import my_dataset DATASETS.NAMES "('Doors',)"`.

    <root>/Doors/day/<person>/*.jpg      <root>/Doors/train.txt    numbers of the people
    <root>/Doors/night/<person>/*.jpg    <root>/Doors/test.txt

(Where no code is wanted, a table does: DATASETS.TABLE.)
"""

import re
from functools import partial
from pathlib import Path

from icre.datasets.base import Part, PathLabels, VisibleInfraredSet, register_set
from icre.datasets.files import Item, identity_folders, list_images, read_ids
from icre.datasets.protocol import Protocol, Side
from icre.modality import INFRARED, VISIBLE

CAMERAS = {"day": 1, "night": 2}
_PATH = re.compile(r"(?:^|/)(?P<light>day|night)/(?P<person>\d+)/[^/]+$")


@register_set
class Doors(VisibleInfraredSet):
    """Two cameras at one door, by day and by night."""

    dataset_dir = "Doors"
    dataset_name = layout = "doors"
    origin = "unpack Doors there, or set DATASETS.ROOT"
    folder_modality = {"day": VISIBLE, "night": INFRARED}
    train_folders = test_folders = ("day", "night")
    protocols = {"doors-night-to-day": Protocol("doors", Side(INFRARED), Side(VISIBLE))}
    published = {}

    @classmethod
    def parts(cls, folder: Path, split: int | None = None) -> list[Part]:
        """The people of train.txt and of test.txt."""
        lists = {role: folder / f"{role}.txt" for role in ("train", "test")}
        return [Part(role, partial(_read, folder, ids), ids) for role, ids in lists.items()]

    @classmethod
    def parse_path(cls, path: str) -> PathLabels | None:
        """{day,night}/<person>/<file>."""
        match = _PATH.search(path)
        if match is None:
            return None
        light = match["light"]
        return PathLabels(
            cls.layout, int(match["person"]), CAMERAS[light], cls.folder_modality[light]
        )


def _read(folder: Path, ids: Path) -> list[Item]:
    people = read_ids(ids)
    return [
        (path, person, camera)
        for light, camera in CAMERAS.items()
        for person, images in identity_folders(folder / light).items()
        if person in people
        for path in list_images(images)
    ]
