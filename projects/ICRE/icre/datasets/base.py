"""Base class of visible-infrared data sets: from split files to fast-reid's lists."""

import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import icre.compat  # noqa: F401

from fastreid.config import CfgNode
from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.data.datasets.bases import ImageDataset

from icre.datasets.files import Item, missing_files, read_ids, require_disjoint, require_folder
from icre.datasets.protocol import Protocol, register_protocols
from icre.modality import INFRARED, VISIBLE
from icre.utils.errors import UserError

VAL, TEST = "val", "test"
# {(role, modality or None for both, camera or None for all): (identities, images)}, None: unknown
Counts = dict[tuple[str, int | None, int | None], tuple[int | None, int | None]]


class PathLabels(NamedTuple):
    """Layout name, identity number of the folder, camera and modality, read from a path."""

    layout: str
    pid: int
    camid: int
    modality: int


class Part(NamedTuple):
    """Images of one split file.

    `role` is "train", "val" or "test"; `read` lists the images as (path, pid, camid) and raises
    UserError on a bad split file; `ids` is the identity list where the split is one.
    """

    role: str
    read: Callable[[], list[Item]]
    ids: Path | None = None


class VisibleInfraredSet(ImageDataset):
    """A published set in its own layout, read without any pre-processing.

    `train` joins the train and val parts (as papers do), with pids and camids prefixed by the
    set's name as fast-reid does, so that sets can be joined. `query` is every infrared and
    `gallery` every visible test image, with integer pids and camids: which of them a protocol
    takes, and on which side, is decided by `icre.evaluation`.

    In every layout an image lies in the folder of its identity. A subclass is decorated with
    `register_set`, implements `parts` and `parse_path`, and defines:
        dataset_dir: the set's folder below the root.
        dataset_name: the prefix.
        layout: short name of the set in records and commands.
        origin: what to do if the folder is missing.
        folder_modality: first folder of an image's path below the set's folder -> modality.
        train_folders, test_folders: those that hold the identities' folders, and none is empty.
        splits: the numbers of its splits; (None,) if there is one without a number.
        pid_is_folder: whether a pid is the number of the identity's folder.
        protocols: its test protocols by name.
        default_protocols: names scored unless others are asked for; empty: all.
        published: numbers of identities and images of the published set.

    Args:
        root: folder that holds `dataset_dir`.
        split: one of `splits`.
        validation: leave the test identities alone, and put held-out training identities in their
            place: the val part if the set has one, else a quarter, sampled with a fixed seed.

    Raises:
        UserError: one line on a folder, split file or image that is missing, a line of a split
            file that cannot be, a folder without images, or splits that overlap.
    """

    dataset_dir: str
    dataset_name: str
    layout: str
    origin: str
    folder_modality: dict[str, int]
    train_folders: tuple[str, ...]
    test_folders: tuple[str, ...]
    splits: Sequence[int | None] = (None,)
    pid_is_folder: bool = True
    protocols: dict[str, Protocol]
    default_protocols: Sequence[str] = ()
    published: Counts

    def __init__(
        self, root: str = "datasets", split: int | None = None, validation: bool = False, **kwargs
    ):
        self.folder = require_folder(Path(root) / self.dataset_dir, self.origin)
        items: dict[str, list[Item]] = {}
        for part in self.parts(self.folder, split):
            found = part.read()
            absent = absent_identities(part, found)
            if absent:
                raise UserError(absent)
            items.setdefault(part.role, []).extend(found)
        self._require_files([item[0] for listed in items.values() for item in listed])
        self.check(self.folder, items)
        self._fill(items, validation, **kwargs)

    def _fill(self, items: dict[str, list[Item]], validation: bool, **kwargs: Any) -> None:
        """Set train, query and gallery from {role: images}; arguments as of the class."""
        test = items.pop(TEST)
        if validation:
            test = _hold_out(items)
        self.validation = validation
        train = [
            (path, f"{self.dataset_name}_{pid}", f"{self.dataset_name}_{camid}")
            for listed in items.values()
            for path, pid, camid in listed
        ]
        query = [item for item in test if self.modality_of(item[0]) == INFRARED]
        gallery = [item for item in test if self.modality_of(item[0]) == VISIBLE]
        ImageDataset.__init__(self, train, query, gallery, **kwargs)

    @classmethod
    def from_config(cls, cfg: CfgNode, **options: Any) -> Self:
        """The set below DATASETS.ROOT, in the split that the config names."""
        return cls(root=cfg.DATASETS.ROOT, split=cls.split_of(cfg), **options)

    @classmethod
    def split_of(cls, cfg: CfgNode) -> int | None:
        """Number of the split that a config names; None for a set of one split."""
        return None

    @classmethod
    def parts(cls, folder: Path, split: int | None) -> list[Part]:
        """The split files of split `split` in the set's folder, unread."""
        raise NotImplementedError

    @classmethod
    def parse_path(cls, path: str) -> PathLabels | None:
        """Labels of a posix path that ends in this layout; None for any other path."""
        raise NotImplementedError

    @classmethod
    def examine(cls, folder: Path, test: list[Item]) -> tuple[list[str], list[str]]:
        """More to check on disk than images and split files: (errors, warnings), a line each."""
        return [], []

    @classmethod
    def check(cls, folder: Path, items: dict[str, list[Item]]) -> None:
        """Check {role: images} of a split as a whole; raises the UserErrors of the class."""
        identities = {
            role: {_identity(path): pid for path, pid, _ in listed}
            for role, listed in items.items()
        }
        require_disjoint(identities, folder)
        for role, listed in items.items():
            _check_labels(folder, listed, identities[role])
        training = [item for role in items if role != TEST for item in items[role]]
        cls._check_folders(folder, cls.train_folders, training, "training")
        cls._check_folders(folder, cls.test_folders, items[TEST], "test")

    def modality_of(self, path: str) -> int:
        """Modality of an image of this set: its folders below the set's own decide."""
        return self.modality_below(self.folder, path)

    @classmethod
    def modality_below(cls, folder: Path, path: str) -> int:
        """As `modality_of`, for a set in `folder`."""
        below = path.removeprefix(f"{folder}{os.sep}")
        return cls.folder_modality[below.split(os.sep, 1)[0]]

    @staticmethod
    def _check_folders(folder: Path, names: tuple[str, ...], items: list[Item], split: str) -> None:
        filled = {path.rsplit(os.sep, 2)[0] for path, _, _ in items}
        for name in names:
            path = require_folder(folder / name, "the data set is incomplete")
            if str(path) not in filled:
                raise UserError(f"camera folder {path} holds no image of the {split} identities")

    def _require_files(self, paths: list[str]) -> None:
        missing = missing_files(paths)
        if missing:
            raise UserError(
                f"{len(missing)} of {len(paths)} listed images do not exist, the first is "
                f"{missing[0]}: restore the data set (tools/check_dataset.py names all)"
            )


def absent_identities(part: Part, found: list[Item]) -> str:
    """One line on identities that a part lists and that have no image; empty if all have some."""
    if part.ids is None:
        return ""
    listed = read_ids(part.ids)
    absent = sorted(set(listed) - {pid for _, pid, _ in found})
    if not absent:
        return ""
    shown = ", ".join(map(str, absent[:5])) + (", ..." if len(absent) > 5 else "")
    return (
        f"{part.ids} lists {len(listed)} identities, of which {len(absent)} have no image "
        f"({shown}): restore the data set"
    )


SETS: dict[str, type[VisibleInfraredSet]] = {}  # layout -> class


def register_set(dataset: type[VisibleInfraredSet]) -> type[VisibleInfraredSet]:
    """Decorator: register a data set with fast-reid by its class's name, with its protocols."""
    DATASET_REGISTRY.register(dataset)
    SETS[dataset.layout] = dataset
    register_protocols(dataset.layout, dataset.protocols, dataset.default_protocols or None)
    return dataset


def _hold_out(items: dict[str, list[Item]]) -> list[Item]:
    """Take the validation identities' images out of {role: images}, and return them."""
    if VAL in items:
        return items.pop(VAL)
    pids = sorted({pid for listed in items.values() for _, pid, _ in listed})
    held = set(random.Random(0).sample(pids, max(len(pids) // 4, 1)))
    taken = [item for listed in items.values() for item in listed if item[1] in held]
    for role, listed in items.items():
        items[role] = [item for item in listed if item[1] not in held]
    return taken


def _identity(path: str) -> int:
    """The number of the folder an image lies in. (46,000 `Path`s would take seconds.)"""
    return int(path.rsplit(os.sep, 2)[1])


def _check_labels(folder: Path, items: list[Item], pid_of: dict[int, int]) -> None:
    """One label per identity folder and the reverse, or two people would be trained as one."""
    for path, pid, _ in items:
        known = pid_of[_identity(path)]
        if pid != known:
            raise UserError(f"{folder}: identity folder of {path} has labels {pid} and {known}")
    owner = {pid: identity for identity, pid in pid_of.items()}
    for identity, pid in pid_of.items():
        if owner[pid] != identity:
            raise UserError(
                f"{folder}: identity folders {identity} and {owner[pid]} both have label {pid}: "
                "restore the split files"
            )
