"""Rendered trees of a few images, each data set in its own layout, for tests to copy and damage."""

import shutil
from pathlib import Path

import numpy as np

from icre.evaluation.features import FeatureSet
from icre.evaluation.score import score
from synthvi.layout import DemoOptions
from synthvi.writer import write_tree

FOLDERS = {"sysu": "SYSU-MM01", "regdb": "RegDB", "llcm": "LLCM"}


def render(root: Path, layout: str) -> Path:
    """Three training and two test identities below `root`; returns the data set's folder."""
    options = DemoOptions(
        layout=layout, ids=3, test_ids=2, train_images=1, test_images=2, height=16, width=8
    )
    write_tree(root / FOLDERS[layout], options, workers=1, progress=False)
    return root / FOLDERS[layout]


def copy(folder: Path, root: Path) -> Path:
    """A copy of a data set's folder below `root`."""
    return Path(shutil.copytree(folder, root / folder.name))


def litter(folder: Path) -> None:
    """What Windows and macOS leave in every folder."""
    for place in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        for name in ("Thumbs.db", "desktop.ini", ".DS_Store", "._0001.jpg"):
            (place / name).write_bytes(b"no image")


def edit(file: Path, change) -> None:
    """Replace a text file's content by change(content)."""
    file.write_text(change(file.read_text()))


def relative(items: list[tuple], folder: Path) -> list[tuple]:
    """(posix path below the data set's folder, pid, camid) of items."""
    return [(Path(path).relative_to(folder).as_posix(), *rest) for path, *rest in items]


def lists(data) -> list[list[tuple]]:
    """train, query and gallery of a data set, with relative paths."""
    return [relative(items, data.folder) for items in (data.train, data.query, data.gallery)]


def scored(data) -> list[dict]:
    """Records of all default protocols, on random features of the data set's test images.

    FeatureSet compares every pid, camid and modality with what the path says.
    """
    items = data.query + data.gallery
    features = np.random.default_rng(0).normal(size=(len(items), 4)).astype(np.float32)
    paths, pids, camids = zip(*relative(items, data.folder))
    modalities = [data.modality_of(path) for path, *_ in items]
    return score(FeatureSet(features, pids, camids, modalities, paths))
