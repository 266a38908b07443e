"""Small galleries in a folder and in a file of milvus-lite."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from icre.gallery.backend import Store
from icre.gallery.folder import FolderStore
from icre.gallery.store import ModelInfo
from icre.gallery.table import ImageTable
from icre.gallery.writing import write
from small_galleries import unit

MODEL = ModelInfo("model.pth", "a" * 64, "MODEL: {}\n")
DIMENSIONS = 16
HARD = "q\"u\\o'te %_ ä 人\n\t"  # what a language of filters may trip over


def people(count: int = 60, start: int = 0) -> ImageTable:
    """Images of four cameras, of people with four images each, an hour apart; some are crops."""
    rows = np.arange(start, start + count)
    times = np.datetime64("2026-11-01T00:00", "us") + rows.astype("m8[h]")
    times[rows % 7 == 0] = np.datetime64("NaT")
    boxes = np.stack([rows, rows, rows + 1, rows + 2], axis=1).astype(np.int32)
    boxes[rows % 2 == 0] = 0
    return ImageTable(
        [f"/images/{('door', 'yard_1', HARD)[n % 3]}/{n:04d}.jpg" for n in rows],
        rows % 2,
        [("1", "2", HARD, "")[n % 4] for n in rows],
        [f"person {n // 4}" if n % 5 else "" for n in rows],
        times,
        boxes,
        {"weather": ["rain" if n % 3 else "" for n in rows], HARD: [HARD] * count},
    )


@contextmanager
def made(kind: str, folder: Path, images: ImageTable, features: np.ndarray) -> Iterator[Store]:
    """A gallery in a "folder" or in "milvus"."""
    if kind == "folder":
        write(folder / "gallery", images, [features], MODEL, "flat", progress=False)
        yield FolderStore(folder / "gallery")
        return
    with lite(folder) as store:
        fill(store, images, features)
        yield store


@contextmanager
def lite(folder: Path, name: str = "gallery") -> Iterator[Store]:
    """An empty place in a file of milvus-lite."""
    from icre.gallery.milvus.address import parse_address
    from icre.gallery.milvus.connection import Client
    from icre.gallery.milvus.store import MilvusStore

    client = Client(parse_address(str(folder / "store.db")), wait=0.01)
    try:
        yield MilvusStore(client, name)
    finally:
        client.close()


def fill(store: Store, images: ImageTable, features: np.ndarray, kind: str = "hnsw") -> None:
    """Index images."""
    store.create(MODEL, features.shape[1], kind)
    addition = store.addition(images)
    addition.write(images, features)
    addition.finish()


def vectors(count: int, seed: int = 0) -> np.ndarray:
    return unit(count, DIMENSIONS, seed)
