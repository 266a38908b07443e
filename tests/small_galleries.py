"""Small galleries of random vectors, in today's format and in format 1."""

import csv
import json
from pathlib import Path

import faiss
import numpy as np

from icre.gallery import index as indexes
from icre.gallery.manifest import add_checksum
from icre.gallery.store import Gallery, ModelInfo, open_gallery
from icre.gallery.table import ImageTable
from icre.gallery.writing import write
from icre.modality import NAMES
from icre.utils.files import sha256_of

MODEL = ModelInfo("model.pth", "a" * 64, "MODEL: {}\n")
HEADER = ["path", "modality", "camera", "identity"]


def unit(count: int, dimensions: int = 16, seed: int = 0) -> np.ndarray:
    features = np.random.default_rng(seed).normal(size=(count, dimensions)).astype(np.float32)
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def images_of(count: int) -> ImageTable:
    return ImageTable(
        [f"/images/{n}.jpg" for n in range(count)],
        np.arange(count) % 2,
        [str(n % 3) for n in range(count)],
        [f"person {n // 4}" for n in range(count)],
    )


def small_gallery(folder: Path, count: int = 12, kind: str = "flat", seed: int = 0) -> Gallery:
    features = unit(count, seed=seed)
    write(folder, images_of(count), [features[:5], features[5:]], MODEL, kind, progress=False)
    return open_gallery(folder)


def old_gallery(folder: Path, count: int = 12, kind: str = "flat") -> Path:
    """A gallery of format 1, as version 0.1.0 wrote it."""
    folder.mkdir()
    images, features = images_of(count), unit(count)
    with open(folder / "images.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, HEADER)
        writer.writeheader()
        writer.writerows(images.row(row) for row in range(count))
    np.save(folder / "features.npy", features)
    faiss.write_index(indexes.build(kind, features, False), str(folder / "index.faiss"))
    (folder / "config.yaml").write_text(MODEL.config)
    manifest = {
        "format": 1,
        "images": count,
        "dimensions": features.shape[1],
        "index": kind,
        "made": "2026-11-01T00:00:00+00:00",
        "model": {"weights": MODEL.weights, "sha256": MODEL.sha256},
        "skipped": [],
        "calibrations": {},
    }
    names = ("images.csv", "features.npy", "index.faiss", "config.yaml")
    manifest["files"] = {name: sha256_of(folder / name) for name in names}
    (folder / "gallery.json").write_text(json.dumps(add_checksum(manifest)))
    assert images.row(0)["modality"] in NAMES
    return folder


def change(folder: Path, **entries: object) -> None:
    """Replace entries of a manifest and files of a gallery, and compute all checksums anew."""
    path = folder / "gallery.json"
    stored = json.loads(path.read_text()) | entries
    if stored.get("format") == 1 and "files" not in entries:
        stored["files"] = {name: sha256_of(folder / name) for name in stored["files"]}
    elif stored.get("format") == 2 and not entries:
        for segment in stored["segments"]:
            below = folder / "segments" / segment["name"]
            segment["files"] = {name: describe(below / name) for name in segment["files"]}
        index = stored["index_file"]
        if index:
            below = folder / "index" / index["name"]
            index["file"] = describe(below.with_suffix(".faiss"))
            index["slots"] = index["slots"] and describe(below.with_suffix(".npy"))
    path.write_text(json.dumps(add_checksum(stored)))


def describe(path: Path) -> dict[str, object]:
    return {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
