"""`benchmark gap`: nearest neighbours by pixels and histograms, within a modality and across.

A rendered data set has the modality gap only if colour and raw pixels, which match a person within
visible light, fail between visible and infrared light. Three descriptors without training are
ranked by this project's own code.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tabulate import tabulate

from icre.benchmark.watch import Watch
from icre.datasets.sysu import CAMERA_MODALITY, SYSUMM01
from icre.evaluation.rank import metrics, order_keys, score_queries
from icre.modality import INFRARED, NAMES, VISIBLE
from icre.utils.environment import environment
from icre.utils.errors import UserError
from icre.utils.image import read_image

STRIPS = 6  # horizontal strips of a histogram: head, chest, waist, thighs, shins, feet


def pixels(image: np.ndarray) -> np.ndarray:
    """Image (H, W, 3) uint8 -> its grey values, centred, as one vector."""
    grey = image.mean(axis=2).ravel()
    return grey - grey.mean()


def grey_histogram(image: np.ndarray) -> np.ndarray:
    """Square roots of 16 bins of grey in each of the STRIPS."""
    strips = np.array_split(image.mean(axis=2), STRIPS)
    return np.sqrt(np.concatenate([np.histogram(s, 16, (0, 256))[0] for s in strips]))


def colour_histogram(image: np.ndarray) -> np.ndarray:
    """Square roots of 6 x 6 x 6 bins of colour in each of the STRIPS."""
    codes = (image.astype(np.int64) * 6 // 256) @ np.array([36, 6, 1])
    strips = np.array_split(codes, STRIPS)
    return np.sqrt(np.concatenate([np.bincount(s.ravel(), minlength=216) for s in strips]))


DESCRIPTORS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "pixels": pixels,
    "grey histogram": grey_histogram,
    "colour histogram": colour_histogram,
}


@dataclass(frozen=True)
class Pictures:
    """Test images: `vectors` name -> (N, D) of unit length, and `pids`, `camids`, `frames` (N,)."""

    vectors: dict[str, np.ndarray]
    pids: np.ndarray
    camids: np.ndarray
    frames: np.ndarray


def run(root: str | Path, watch: Watch | None = None) -> dict[str, Any]:
    """Rank-1 of each descriptor beside chance, within and across modalities.

    Args:
        root: DATASETS.ROOT, the folder that holds SYSU-MM01, rendered or real.
        watch: shows the rows as they are measured.

    Raises:
        UserError: there is no readable SYSU-MM01 tree.
    """
    pictures = read(Path(root) / SYSUMM01.dataset_dir)
    identities = len(np.unique(pictures.pids))
    pairs = ((VISIBLE, VISIBLE), (INFRARED, INFRARED), (INFRARED, VISIBLE))
    watch, rows = watch or Watch(), []
    for name in watch.each(list(DESCRIPTORS), "descriptors"):
        for query, gallery in pairs:
            row = {
                "descriptor": name,
                "query": NAMES[query],
                "gallery": NAMES[gallery],
                "Rank-1": rank_1(pictures, name, query, gallery),
                "chance": 100 / identities,
            }
            rows.append(row)
            text = f"{name}, {row['query']} to {row['gallery']}: Rank-1 {row['Rank-1']:.1f}"
            watch.row(text, **row)
    return environment() | {
        "benchmark": "gap",
        "identities": identities,
        "images": len(pictures.pids),
        "rows": rows,
    }


def text(result: dict[str, Any]) -> str:
    """The table of a result."""
    return tabulate(result["rows"], headers="keys", floatfmt=".1f")


def read(folder: Path) -> Pictures:
    """All descriptors of the test images of a tree.

    Raises:
        UserError: no such tree, or images of several sizes.
    """
    if not (folder / "exp" / "test_id.txt").is_file():
        raise UserError(f"{folder}: no SYSU-MM01 tree (exp/test_id.txt is missing)")
    items = next(part for part in SYSUMM01.parts(folder) if part.role == "test").read()
    shapes, rows = set(), {name: [] for name in DESCRIPTORS}
    for path, _, _ in items:
        image = np.asarray(read_image(path))
        shapes.add(image.shape)
        if len(shapes) > 1:
            raise UserError(
                f"{path}: is {image.shape[1]}x{image.shape[0]} pixels, others are not; "
                "pixels can be compared in images of one size only"
            )
        for name, describe in DESCRIPTORS.items():
            rows[name].append(describe(image))
    _, pids, camids = zip(*items)
    return Pictures(
        {name: _unit(np.array(vectors)) for name, vectors in rows.items()},
        np.array(pids),
        np.array(camids),
        np.array([Path(path).stem for path, *_ in items]),
    )


def rank_1(pictures: Pictures, name: str, query: int, gallery: int) -> float:
    """Rank-1 in percent of one descriptor.

    The gallery is the first image of each identity and camera. Queries are the images of the
    other modality or, within one, those not in the gallery. Gallery images of the query's own
    camera are excluded, and those of camera 2 for camera 3, which are at the same location.
    """
    modality = np.array([CAMERA_MODALITY[camera] for camera in pictures.camids.tolist()])
    first = np.zeros(len(modality), bool)
    keys = np.stack([pictures.pids, pictures.camids], axis=1)
    order = np.lexsort((pictures.frames, pictures.camids, pictures.pids))
    first[order[np.unique(keys[order], axis=0, return_index=True)[1]]] = True
    g = np.flatnonzero((modality == gallery) & first)
    q = np.flatnonzero((modality == query) & ~(first & (query == gallery)))
    if not len(q) or not len(g):
        raise UserError("the gap needs two test images or more per identity and camera")
    vectors, camids = pictures.vectors[name], pictures.camids
    excluded = (camids[q][:, None] == camids[g]) | ((camids[q][:, None] == 3) & (camids[g] == 2))
    keys = order_keys(torch.from_numpy(-(vectors[q] @ vectors[g].T)), torch.from_numpy(excluded))
    pids = torch.from_numpy(pictures.pids)
    return metrics(score_queries(keys, pids[q], pids[g], dedup=True))["Rank-1"]


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float64) / np.maximum(length, 1e-12)
