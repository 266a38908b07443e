"""RegDB (Nguyen et al., Sensors 2017): layout, ten splits, protocols, published counts.

fast-reid's own `Thermalworld` is another set; RegDB has no class there.
"""

import re
from functools import partial
from pathlib import Path

import icre.compat  # noqa: F401

from fastreid.config import CfgNode

from icre.datasets.base import Part, PathLabels, VisibleInfraredSet, register_set
from icre.datasets.files import Item, read_list
from icre.datasets.protocol import Protocol, Side
from icre.modality import INFRARED, VISIBLE
from icre.utils.errors import UserError

CAMERA = {"Visible": 1, "Thermal": 2}  # one camera per modality; the numbers are ours
_PATH = re.compile(r"(?:^|/)(?P<tree>Visible|Thermal)/(?P<pid>\d+)/[^/]+$")


@register_set
class RegDB(VisibleInfraredSet):
    """RegDB: one visible and one thermal camera, ten splits in halves of the identities.

    Reads `<root>/RegDB/{Visible,Thermal}/<n>/*` as `idx/{train,test}_{visible,thermal}_<split>.txt`
    list them; camids are 1 (Visible) and 2 (Thermal), pids the lists' labels, which count from 0
    in the training and in the test list alike. See `VisibleInfraredSet`.

    Args:
        root: folder that holds `RegDB/`.
        split: 1 to 10 (config key DATASETS.REGDB_SPLIT); published results are the mean of all.
    """

    dataset_dir = "RegDB"
    dataset_name = "regdb"
    layout = "regdb"
    origin = (
        "unpack RegDB there (its authors give it on request), set DATASETS.ROOT, or render a demo "
        "tree with tools/make_demo_data.py --layout regdb"
    )
    folder_modality = {"Visible": VISIBLE, "Thermal": INFRARED}
    train_folders = test_folders = tuple(folder_modality)
    splits = range(1, 11)
    pid_is_folder = False
    protocols = {
        "regdb-v2t": Protocol("regdb", Side(VISIBLE), Side(INFRARED), dedup=False),
        "regdb-t2v": Protocol("regdb", Side(INFRARED), Side(VISIBLE), dedup=False),
    }
    published = {
        (role, modality, camera): (206, images)
        for role in ("train", "test")
        for modality, camera, images in (
            (VISIBLE, 1, 2_060), (INFRARED, 2, 2_060), (None, None, 4_120),
        )
    }  # fmt: skip

    def __init__(self, root: str = "datasets", split: int = 1, **kwargs):
        if split not in self.splits:
            raise UserError(f"DATASETS.REGDB_SPLIT is {split!r}: RegDB's splits are 1 to 10")
        self.split = split
        super().__init__(root, split, **kwargs)

    @classmethod
    def split_of(cls, cfg: CfgNode) -> int:
        """DATASETS.REGDB_SPLIT."""
        return cfg.DATASETS.REGDB_SPLIT

    @classmethod
    def parse_path(cls, path: str) -> PathLabels | None:
        """{Visible,Thermal}/<n>/<file>."""
        match = _PATH.search(path)
        if match is None:
            return None
        tree = match["tree"]
        return PathLabels(cls.layout, int(match["pid"]), CAMERA[tree], cls.folder_modality[tree])

    @classmethod
    def parts(cls, folder: Path, split: int | None = 1) -> list[Part]:
        """The four lists of a split."""
        return [
            Part(role, partial(_read, folder, role, tree, split))
            for role in ("train", "test")
            for tree in CAMERA
        ]


def _read(folder: Path, role: str, tree: str, split: int | None) -> list[Item]:
    file = folder / "idx" / f"{role}_{tree.lower()}_{split}.txt"
    listed = read_list(file, rf"{tree}/(?P<id>\d+)/[^/]+")
    return [(str(folder / entry.path), entry.label, CAMERA[tree]) for entry in listed]
