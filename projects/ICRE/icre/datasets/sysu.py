"""SYSU-MM01 (Wu et al., ICCV 2017), read straight from its published layout.

fast-reid's own `SYSU_mm` is visible-only and ignores the identity split; this is another class
under another name.
"""

from functools import partial
from pathlib import Path

import icre.compat  # noqa: F401

from fastreid.data.datasets import DATASET_REGISTRY

from icre.datasets.base import Part, VisibleInfraredSet
from icre.datasets.tree import Item, list_images, read_ids
from icre.modality import INFRARED, SYSU_INFRARED_CAMERAS, SYSU_VISIBLE_CAMERAS, VISIBLE

CAMERA_MODALITY = {
    camera: INFRARED if camera in SYSU_INFRARED_CAMERAS else VISIBLE
    for camera in sorted(SYSU_VISIBLE_CAMERAS + SYSU_INFRARED_CAMERAS)
}


@DATASET_REGISTRY.register()
class SYSUMM01(VisibleInfraredSet):
    """SYSU-MM01: six cameras, of which 3 and 6 are infrared.

    Reads `<root>/SYSU-MM01/cam1..cam6/<id:04d>/*.jpg` and `exp/{train,val,test}_id.txt`; camids
    are 1..6. See `VisibleInfraredSet`.
    """

    dataset_dir = "SYSU-MM01"
    dataset_name = "sysumm01"
    layout = "sysu"
    origin = (
        "unpack SYSU-MM01 there (the set needs a signed agreement), set DATASETS.ROOT, or "
        "render a demo tree with tools/make_demo_data.py"
    )
    folder_modality = {f"cam{camera}": modality for camera, modality in CAMERA_MODALITY.items()}
    train_folders = test_folders = tuple(folder_modality)

    @classmethod
    def parts(cls, folder: Path, split: int | None = None) -> list[Part]:
        """The train, val and test identities, each with all cameras."""
        lists = {role: folder / "exp" / f"{role}_id.txt" for role in ("train", "val", "test")}
        return [Part(role, partial(_read, folder, ids), ids) for role, ids in lists.items()]

    @property
    def permutation_file(self) -> Path:
        """The official gallery draw; it comes with the evaluation code and may be absent."""
        return self.folder / "exp" / "rand_perm_cam.mat"


def _read(folder: Path, ids: Path) -> list[Item]:
    pids = sorted(read_ids(ids))
    return [
        (str(path), pid, camera)
        for camera in CAMERA_MODALITY
        for pid in pids
        for path in list_images(folder / f"cam{camera}" / f"{pid:04d}")
    ]
