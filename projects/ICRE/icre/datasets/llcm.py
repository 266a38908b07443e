"""LLCM (Zhang and Wang, CVPR 2023), read straight from its published layout."""

from functools import partial
from pathlib import Path

import icre.compat  # noqa: F401

from fastreid.data.datasets import DATASET_REGISTRY

from icre.datasets.base import Part, VisibleInfraredSet
from icre.datasets.split_list import read_list
from icre.datasets.tree import Item, list_images, read_ids
from icre.modality import INFRARED, VISIBLE

CAMERAS = range(1, 10)
# The release has no test image of camera 3 by infrared.
EMPTY = "test_nir/cam3"
TEST_CAMERA = {f"test_{tree}/cam{number}": number for tree in ("vis", "nir") for number in CAMERAS}


@DATASET_REGISTRY.register()
class LLCM(VisibleInfraredSet):
    """LLCM: nine cameras, each visible by day and near infrared by night.

    Reads `<root>/LLCM/{vis,nir}/<id:04d>/*` as `idx/train_{vis,nir}.txt` list them (the camera
    stands in the file name, `_c06_`; pids are the lists' labels), and
    `{test_vis,test_nir}/cam1..cam9/<id:04d>/*` of the identities in `idx/test_id.txt` (the folders
    say camera and identity). camids are 1..9 in both modalities. See `VisibleInfraredSet`.
    """

    dataset_dir = "LLCM"
    dataset_name = "llcm"
    layout = "llcm"
    origin = (
        "unpack LLCM there (the set needs a signed agreement), set DATASETS.ROOT, or render a demo "
        "tree with tools/make_demo_data.py --layout llcm"
    )
    folder_modality = {"vis": VISIBLE, "test_vis": VISIBLE, "nir": INFRARED, "test_nir": INFRARED}
    train_folders = ("vis", "nir")
    test_folders = tuple(name for name in TEST_CAMERA if name != EMPTY)

    @classmethod
    def parts(cls, folder: Path, split: int | None = None) -> list[Part]:
        """The two training lists, and the test identities with all cameras."""
        ids = folder / "idx" / "test_id.txt"
        train = [Part("train", partial(_read_train, folder, tree)) for tree in cls.train_folders]
        return [*train, Part("test", partial(_read_test, folder, ids), ids)]


def _read_train(folder: Path, tree: str) -> list[Item]:
    file = folder / "idx" / f"train_{tree}.txt"
    listed = read_list(file, rf"{tree}/(?P<id>\d+)/[^/]*_c(?P<camera>\d+)_[^/]*")
    return [(str(folder / entry.path), entry.label, int(entry.match["camera"])) for entry in listed]


def _read_test(folder: Path, ids: Path) -> list[Item]:
    pids = sorted(read_ids(ids))
    return [
        (str(path), pid, camera)
        for name, camera in TEST_CAMERA.items()
        for pid in pids
        for path in list_images(folder / name / f"{pid:04d}")
    ]
