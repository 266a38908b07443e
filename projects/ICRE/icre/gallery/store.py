"""The folder that holds a gallery: written in one step, checked in full when it is opened.

    gallery.json    what it is of, which model made it, a checksum of every file, the calibration
    images.csv      path, modality, camera, identity of each image
    features.npy    (N, D) float32 unit vectors
    index.faiss     the index of them
    config.yaml     the model's whole config

`gallery.json` is the last to be written and carries a checksum of itself.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from icre.gallery import index as indexes
from icre.gallery.calibration import Calibration
from icre.gallery.images import ImageTable
from icre.utils.errors import UserError
from icre.utils.files import replaced

MANIFEST, IMAGES, FEATURES, INDEX, CONFIG = (
    "gallery.json",
    "images.csv",
    "features.npy",
    "index.faiss",
    "config.yaml",
)
FORMAT = 1


@dataclass(frozen=True)
class ModelStamp:
    """Which model made a gallery: the checkpoint's path, its SHA-256, and the config as YAML."""

    weights: str
    sha256: str
    config: str


@dataclass(frozen=True, eq=False)
class Gallery:
    """An opened gallery.

    Args:
        folder: where it lies.
        manifest: content of gallery.json.
        images: N rows.
        features: (N, D), mapped from disk.
        index: faiss's.
        calibrations: query modality's name -> Calibration; empty where never calibrated.
    """

    folder: Path
    manifest: dict[str, Any]
    images: ImageTable
    features: np.ndarray
    index: faiss.Index
    calibrations: dict[str, Calibration]

    def nearest(self, queries: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows (Q, K) and similarities (Q, K) of the best matches; see `index.nearest`."""
        return indexes.nearest(self.manifest["index"], self.index, self.features, queries, top)

    def check_model(self, sha256: str, weights: str) -> None:
        """Refuse a checkpoint with another SHA-256 than the gallery's features come from."""
        made_by = self.manifest["model"]
        if sha256 != made_by["sha256"]:
            raise UserError(
                f"{weights} is not the model of gallery {self.folder} (SHA-256 {sha256[:12]}..., "
                f"the gallery's is {made_by['sha256'][:12]}... from {made_by['weights']}): its "
                "features cannot be compared; name that file, or index again"
            )


def staging_folder(folder: Path) -> Path:
    """Where the shards and the unfinished gallery of `folder` lie."""
    return folder.with_name(f"{folder.name}.partial")


def write(
    folder: Path,
    images: ImageTable,
    blocks: Iterable[np.ndarray],
    model: ModelStamp,
    kind: str,
    skipped: Sequence[tuple[str, str]] = (),
    progress: bool = True,
) -> None:
    """Make `folder`, in one step: it appears finished or not at all.

    Args:
        folder: must not exist.
        images: N rows.
        blocks: their features, in order; unit vectors, together (N, D).
        model: what made them.
        kind: key of `index.KINDS`.
        skipped: (path, fault) of images that were left out on request.
        progress: show a bar.
    """
    made = staging_folder(folder) / "gallery"
    shutil.rmtree(made, ignore_errors=True)
    try:
        made.mkdir(parents=True)
        images.save(made / IMAGES)
        (made / CONFIG).write_text(model.config)
        features = _save_features(made / FEATURES, blocks, len(images))
        _save_index(made / INDEX, indexes.build(kind, features, progress))
        _write_manifest(
            made,
            {
                "format": FORMAT,
                "images": len(images),
                "dimensions": features.shape[1],
                "index": kind,
                "made": datetime.now(UTC).isoformat(timespec="seconds"),
                "model": {"weights": model.weights, "sha256": model.sha256},
                "skipped": [list(one) for one in skipped],
                "calibrations": {},
                "files": {
                    name: sha256_of(made / name) for name in (IMAGES, FEATURES, INDEX, CONFIG)
                },
            },
        )
        made.rename(folder)
    except OSError as error:
        raise UserError(f"cannot write gallery {folder}: {error}") from error
    shutil.rmtree(staging_folder(folder), ignore_errors=True)


def open_gallery(folder: str | Path) -> Gallery:
    """Read a gallery, after comparing every file with its checksum.

    Raises:
        UserError: there is none, it is unfinished, of another format, or damaged (names the file).
    """
    folder = Path(folder)
    manifest = _read_manifest(folder)
    for name, expected in manifest["files"].items():
        if not (folder / name).is_file():
            raise UserError(f"gallery {folder} is damaged: {name} is missing; index again")
        if sha256_of(folder / name) != expected:
            raise UserError(
                f"gallery {folder} is damaged: {name} is not as it was written "
                "(its SHA-256 differs); index again"
            )
    return Gallery(
        folder,
        manifest,
        ImageTable.load(folder / IMAGES),
        np.load(folder / FEATURES, mmap_mode="r"),
        faiss.read_index(str(folder / INDEX)),
        {name: Calibration.of(one) for name, one in manifest["calibrations"].items()},
    )


def save_calibrations(gallery: Gallery, calibrations: dict[str, Calibration]) -> None:
    """Store calibrations with the gallery, in place of any that were there."""
    stored = {name: one.as_dict() for name, one in calibrations.items()}
    _write_manifest(gallery.folder, gallery.manifest | {"calibrations": stored})


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _save_features(path: Path, blocks: Iterable[np.ndarray], count: int) -> np.ndarray:
    target, start = None, 0
    for block in blocks:
        if target is None:
            shape = (count, block.shape[1])
            target = np.lib.format.open_memmap(path, "w+", dtype=np.float32, shape=shape)
        target[start : start + len(block)] = block
        start += len(block)
    if start != count or target is None:
        raise ValueError(f"{start} features for {count} images")
    target.flush()
    return target


def _save_index(path: Path, index: faiss.Index) -> None:
    try:
        faiss.write_index(index, str(path))
    except RuntimeError as error:  # faiss's word for a full disk
        raise OSError(str(error).splitlines()[0]) from error


def _seal(manifest: dict[str, Any]) -> str:
    content = {key: value for key, value in manifest.items() if key != "seal"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    with replaced(folder / MANIFEST) as temporary:
        temporary.write_text(json.dumps(manifest | {"seal": _seal(manifest)}, indent=1) + "\n")


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():
        if staging_folder(folder).is_dir():
            raise UserError(
                f"gallery {folder} is unfinished: repeat the command that indexes it, "
                "it goes on where it was stopped"
            )
        if folder.is_dir() and (folder / INDEX).exists():
            raise UserError(f"gallery {folder} is damaged: {MANIFEST} is missing; index again")
        raise UserError(f"{folder} is no gallery: make one with tools/search.py index")
    try:
        manifest = json.loads(path.read_text())
        sealed = manifest["seal"] == _seal(manifest)
    except (ValueError, KeyError, TypeError):
        sealed = False
    if not sealed:
        raise UserError(
            f"gallery {folder} is damaged: {MANIFEST} is not as it was written; index again"
        )
    if manifest["format"] != FORMAT:
        raise UserError(
            f"gallery {folder} has format {manifest['format']}, this program reads "
            f"{FORMAT}: index again"
        )
    return manifest
