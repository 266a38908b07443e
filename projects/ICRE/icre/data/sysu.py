"""SYSU-MM01 (Wu et al., ICCV 2017), read straight from its published layout.

fast-reid's own `SYSU_mm` is visible-only and ignores the identity split; this is another class
under another name.
"""

from pathlib import Path

import icre.compat  # noqa: F401  (before any fastreid import)
from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.data.datasets.bases import ImageDataset

from icre.data.tree import list_images, read_ids, require_disjoint, require_folder
from icre.errors import UserError
from icre.modality import INFRARED, VISIBLE

CAMERA_MODALITY = {1: VISIBLE, 2: VISIBLE, 3: INFRARED, 4: VISIBLE, 5: VISIBLE, 6: INFRARED}

Item = tuple[str, int, int]  # (path, pid, camid), what fast-reid's samplers unpack


@DATASET_REGISTRY.register()
class SYSUMM01(ImageDataset):
    """SYSU-MM01: six cameras, of which 3 and 6 are infrared.

    Reads `<root>/SYSU-MM01/cam1..cam6/<id:04d>/*.jpg` and `exp/{train,val,test}_id.txt`.
    `train` holds the train and val identities (as papers do), with pids and camids prefixed by
    the set's name as fast-reid does, so that sets can be joined. `query` is every test image of
    the infrared cameras, `gallery` every one of the visible cameras (camids 1..6): which of them
    a protocol draws is decided in `icre.evaluation`, not here.

    Args:
        root: folder that holds `SYSU-MM01/`.

    Raises:
        UserError: a folder or split file is missing, a camera is empty, or splits overlap.
    """

    dataset_dir = "SYSU-MM01"
    dataset_name = "sysumm01"
    layout = "sysu"

    def __init__(self, root: str = "datasets", **kwargs):
        self.folder = require_folder(
            Path(root) / self.dataset_dir,
            "unpack SYSU-MM01 there (the set needs a signed agreement), set DATASETS.ROOT, or "
            "render a demo tree with tools/make_demo_data.py",
        )
        exp = self.folder / "exp"
        train_ids = read_ids(exp / "train_id.txt") + read_ids(exp / "val_id.txt")
        test_ids = read_ids(exp / "test_id.txt")
        require_disjoint(train_ids, test_ids, exp)
        train = self._items(train_ids, CAMERA_MODALITY)
        query = self._items(test_ids, _cameras(INFRARED))
        gallery = self._items(test_ids, _cameras(VISIBLE))
        self._require_all_cameras(train, "training")
        self._require_all_cameras(query + gallery, "test")
        named = [
            (path, f"{self.dataset_name}_{pid}", f"{self.dataset_name}_{camid}")
            for path, pid, camid in train
        ]
        super().__init__(named, query, gallery, **kwargs)

    def modality_of(self, path: str) -> int:
        """Modality of an image of this set: its camera folder below the set's root decides."""
        return CAMERA_MODALITY[int(Path(path).relative_to(self.folder).parts[0][3:])]

    @property
    def permutation_file(self) -> Path:
        """The official gallery draw; it comes with the evaluation code and may be absent."""
        return self.folder / "exp" / "rand_perm_cam.mat"

    def _items(self, pids: list[int], cameras) -> list[Item]:
        return [
            (str(path), pid, camera)
            for camera in cameras
            for pid in sorted(pids)
            for path in list_images(self.folder / f"cam{camera}" / f"{pid:04d}")
        ]

    def _require_all_cameras(self, items: list[Item], split: str) -> None:
        for camera in CAMERA_MODALITY:
            folder = require_folder(self.folder / f"cam{camera}", "the data set is incomplete")
            if not any(camid == camera for _, _, camid in items):
                raise UserError(f"camera folder {folder} holds no image of the {split} identities")


def _cameras(modality: int) -> list[int]:
    return [camera for camera, m in CAMERA_MODALITY.items() if m == modality]
