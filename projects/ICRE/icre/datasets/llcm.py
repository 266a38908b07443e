"""LLCM (Zhang and Wang, CVPR 2023): layout, split, protocols, published counts."""

import re
from functools import partial
from pathlib import Path

from icre.datasets.base import Part, PathLabels, VisibleInfraredSet, register_set
from icre.datasets.files import Item, identity_folders, list_images, read_ids, read_list
from icre.datasets.protocol import SEEDED, Protocol, Side
from icre.modality import INFRARED, VISIBLE

CAMERAS = range(1, 10)
EMPTY = "test_nir/cam3"  # the release has no test image of camera 3 in infrared
TEST_CAMERA = {f"test_{tree}/cam{number}": number for tree in ("vis", "nir") for number in CAMERAS}
_PATHS = (
    re.compile(r"(?:^|/)(?P<tree>test_vis|test_nir)/cam(?P<cam>\d+)/(?P<pid>\d+)/[^/]+$"),
    re.compile(r"(?:^|/)(?P<tree>vis|nir)/(?P<pid>\d+)/[^/]*_c(?P<cam>\d+)_[^/]*$"),
)


def _protocol(query: int, gallery: int, sampled: str = "gallery") -> Protocol:
    return Protocol(
        "llcm",
        Side(query),
        Side(gallery),
        draws=(SEEDED,),
        sampled=sampled,
        excluded="same-identity-and-camera",
    )


@register_set
class LLCM(VisibleInfraredSet):
    """LLCM: nine cameras, each visible by day and near infrared by night.

    Reads `<root>/LLCM/{vis,nir}/<id:04d>/*` as `idx/train_{vis,nir}.txt` list them (the camera is
    in the file name, `_c06_`; pids are the lists' labels), and
    `{test_vis,test_nir}/cam1..cam9/<id:04d>/*` of the identities in `idx/test_id.txt` (camera and
    identity are the folders'). camids are 1..9 in both modalities. See `VisibleInfraredSet`.
    """

    dataset_dir = "LLCM"
    dataset_name = "llcm"
    layout = "llcm"
    origin = (
        "unpack LLCM there (the set needs a signed agreement), set DATASETS.ROOT, or render a demo "
        "tree with tools/make_demo_data.py --layout llcm"
    )
    folder_modality = {
        "vis": VISIBLE, "test_vis": VISIBLE, "nir": INFRARED, "test_nir": INFRARED,
    }  # fmt: skip
    train_folders = ("vis", "nir")
    test_folders = tuple(name for name in TEST_CAMERA if name != EMPTY)
    protocols = {
        "llcm-v2n": _protocol(VISIBLE, INFRARED),
        "llcm-n2v": _protocol(INFRARED, VISIBLE),
        # What the first public code computes for v2n: sampled infrared queries, all visible images.
        "llcm-v2n-swapped": _protocol(INFRARED, VISIBLE, sampled="query"),
    }
    default_protocols = ("llcm-v2n", "llcm-n2v")
    # The four numbers of images by split and modality add up to LLCM's 46,767.
    published = {
        ("train", None, None): (713, 30_921),
        ("train", VISIBLE, None): (None, 16_946),
        ("train", INFRARED, None): (None, 13_975),
        ("test", None, None): (351, 15_846),
        ("test", VISIBLE, None): (None, 8_680),
        ("test", INFRARED, None): (None, 7_166),
    }

    @classmethod
    def parse_path(cls, path: str) -> PathLabels | None:
        """test_{vis,nir}/cam<k>/<id>/<file> or {vis,nir}/<id>/<name>_c<k>_<name>."""
        match = next(filter(None, (pattern.search(path) for pattern in _PATHS)), None)
        if match is None:
            return None
        modality = cls.folder_modality[match["tree"]]
        return PathLabels(cls.layout, int(match["pid"]), int(match["cam"]), modality)

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
    folders = {name: identity_folders(folder / name) for name in TEST_CAMERA}
    return [
        (path, pid, camera)
        for name, camera in TEST_CAMERA.items()
        for pid in pids
        if pid in folders[name]
        for path in list_images(folders[name][pid])
    ]
