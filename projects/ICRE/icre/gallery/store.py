"""A gallery's folder: written atomically, and every file verified when it is opened.

    gallery.json    the manifest: model, kind of index, checksum of every file, calibrations
    images.csv      path, modality, camera, identity of each image
    features.npy    (N, D) float32 unit vectors
    index.faiss     the index of them
    config.yaml     the model's whole config

`gallery.json` is written last and holds a checksum of its own content. A checksum says that a file
is as it was written; what it holds is checked too, as anybody can write a folder with checksums.
"""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import faiss
import numpy as np
import torch

from icre.gallery import index as indexes
from icre.gallery.calibration import Calibration
from icre.gallery.images import ImageTable
from icre.gallery.manifest import (
    CONFIG,
    FEATURES,
    FORMAT,
    IMAGES,
    INDEX,
    MANIFEST,
    add_checksum,
    read_manifest,
)
from icre.gallery.staging import GALLERY, discard, remove_gallery, staging, staging_folder
from icre.utils.errors import UserError
from icre.utils.files import replaced, sha256_of


@dataclass(frozen=True)
class ModelInfo:
    """The model of a gallery: its checkpoint's path and SHA-256, and its config as YAML."""

    weights: str
    sha256: str
    config: str


@dataclass(frozen=True, eq=False)
class Gallery:
    """An opened gallery.

    Args:
        folder: of its files.
        manifest: content of gallery.json.
        images: N rows.
        features: (N, D), mapped from disk.
        index: faiss's.
        calibrations: name of the queries' modality -> Calibration; empty before calibration.
    """

    folder: Path
    manifest: dict[str, Any]
    images: ImageTable
    features: np.ndarray
    index: faiss.Index
    calibrations: dict[str, Calibration]

    def nearest(
        self, queries: np.ndarray, top: int, modality: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows (Q, K) and similarities (Q, K) of the best matches; see `index.nearest`.

        `modality`: among its images alone.
        """
        allowed = None if modality is None else self.images.modalities == modality
        return indexes.nearest(
            self.manifest["index"], self.index, self.features, queries, top, allowed
        )

    def on(self, device: torch.device) -> "Gallery":
        """The same gallery, searched on that device; see `index.on_device`."""
        index = indexes.on_device(self.manifest["index"], self.index, device)
        return replace(self, index=index)

    def check_model(self, sha256: str, weights: str) -> None:
        """Raise UserError unless this is the SHA-256 of the checkpoint that the features are of."""
        expected = self.manifest["model"]
        if sha256 != expected["sha256"]:
            raise UserError(
                f"{weights} is not the model of gallery {self.folder} (SHA-256 {sha256[:12]}..., "
                f"the gallery's is {expected['sha256'][:12]}... from {expected['weights']}): its "
                "features cannot be compared; name that file, or index again"
            )


def write(
    folder: Path,
    images: ImageTable,
    blocks: Iterable[np.ndarray],
    model: ModelInfo,
    kind: str,
    skipped: Sequence[tuple[str, str]] = (),
    progress: bool = True,
) -> None:
    """Write a gallery; the folder appears when it is complete.

    Args:
        folder: must not exist.
        images: N rows.
        blocks: their features, in order; unit vectors, together (N, D).
        model: of the features.
        kind: key of `index.KINDS`.
        skipped: (path, reason) of images that were left out on request.
        progress: show a bar.

    Raises:
        UserError: it cannot be written, or there are too few images for this kind of index.
    """
    with staging(folder):
        finish(folder, images, blocks, model, kind, skipped, progress)


def finish(
    folder: Path,
    images: ImageTable,
    blocks: Iterable[np.ndarray],
    model: ModelInfo,
    kind: str,
    skipped: Sequence[tuple[str, str]] = (),
    progress: bool = True,
) -> None:
    """Like `write`, inside of `staging(folder)`; discards the staging folder."""
    target = staging_folder(folder) / GALLERY
    try:
        remove_gallery(folder)
        target.mkdir(parents=True)
        images.save(target / IMAGES)
        (target / CONFIG).write_text(model.config)
        features = _save_features(target / FEATURES, blocks, len(images))
        _save_index(target / INDEX, indexes.build(kind, features, progress))
        _write_manifest(
            target,
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
                    name: sha256_of(target / name) for name in (IMAGES, FEATURES, INDEX, CONFIG)
                },
            },
        )
        target.rename(folder)
    except OSError as error:
        raise UserError(
            f"cannot write gallery {folder}: {error}; repeat the command that indexes it, it goes "
            "on where it was stopped"
        ) from error
    discard(folder)


def open_gallery(folder: str | Path) -> Gallery:
    """Open a gallery; every file is compared with its checksum, and the files with each other.

    Raises:
        UserError: there is none, it is unfinished, of another format, or damaged (names the file).
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    for name, expected in manifest["files"].items():
        if not (folder / name).is_file():
            raise UserError(f"gallery {folder} is damaged: {name} is missing; index again")
        if sha256_of(folder / name) != expected:
            raise UserError(
                f"gallery {folder} is damaged: {name} is not as it was written "
                "(its SHA-256 differs); index again"
            )
    try:
        images = _read_images(folder, manifest)
        features = _read_features(folder, manifest)
        index = _read_index(folder, manifest)
    except ValueError as error:  # UserError is one
        raise UserError(f"gallery {folder} is damaged: {error}; index again") from None
    calibrations = {
        name: Calibration.from_dict(one) for name, one in manifest["calibrations"].items()
    }
    return Gallery(folder, manifest, images, features, index, calibrations)


def _read_images(folder: Path, manifest: dict[str, Any]) -> ImageTable:
    images = ImageTable.load(folder / IMAGES)
    if len(images) != manifest["images"]:
        raise ValueError(f"{IMAGES} has {len(images)} rows, {MANIFEST} says {manifest['images']}")
    return images


def _read_features(folder: Path, manifest: dict[str, Any]) -> np.ndarray:
    try:
        features = np.load(folder / FEATURES, mmap_mode="r")
    except Exception as error:  # NumPy lets errors of Python's tokenizer through, for example
        raise ValueError(f"{FEATURES}: {error}") from None
    found = getattr(features, "shape", None), str(getattr(features, "dtype", None))
    expected = (manifest["images"], manifest["dimensions"]), "float32"
    if found != expected:
        raise ValueError(f"{FEATURES} holds {found}, {MANIFEST} says {expected}")
    for start in range(0, len(features), indexes.BLOCK):
        block = features[start : start + indexes.BLOCK]
        lengths = np.einsum("nd,nd->n", block, block)
        wrong = np.flatnonzero(~(np.abs(lengths - 1) < 1e-2))  # NaN too
        if len(wrong):
            raise ValueError(f"{FEATURES}: row {start + wrong[0]} is no unit vector")
    return features


def _read_index(folder: Path, manifest: dict[str, Any]) -> faiss.Index:
    try:
        index = faiss.read_index(str(folder / INDEX))
    except (RuntimeError, MemoryError) as error:
        raise ValueError(f"{INDEX} is no index ({str(error).splitlines()[0][-100:]})") from None
    shape = manifest["images"], manifest["dimensions"]
    expected = type(indexes.KINDS[manifest["index"]].create(shape[1], shape[0]))
    if type(index) is not expected:
        raise ValueError(f"{INDEX} is a {type(index).__name__}, not a {expected.__name__}")
    if (index.ntotal, index.d) != shape or index.metric_type != faiss.METRIC_INNER_PRODUCT:
        raise ValueError(f"{INDEX} holds {index.ntotal} x {index.d}, {MANIFEST} says {shape}")
    return index


def save_calibrations(gallery: Gallery, calibrations: dict[str, Calibration]) -> None:
    """Store calibrations in the gallery's manifest; replaces earlier ones."""
    stored = {name: one.as_dict() for name, one in calibrations.items()}
    _write_manifest(gallery.folder, gallery.manifest | {"calibrations": stored})


def _save_features(path: Path, blocks: Iterable[np.ndarray], count: int) -> np.ndarray:
    """Write (count, D) in blocks, and map the file.

    The blocks are written, not copied into a map: on a full disk that kills the process.
    """
    header, start = None, 0
    with open(path, "wb") as file:
        for block in blocks:
            if header is None:
                header = {"descr": "<f4", "fortran_order": False, "shape": (count, block.shape[1])}
                np.lib.format.write_array_header_1_0(file, header)
            file.write(np.ascontiguousarray(block, dtype="<f4").data)
            start += len(block)
        _sync(file)
    if start != count or header is None:
        raise ValueError(f"{start} features for {count} images")
    return np.load(path, mmap_mode="r")


def _save_index(path: Path, index: faiss.Index) -> None:
    with open(path, "wb") as file:
        faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))
        _sync(file)


def _sync(file: BinaryIO) -> None:
    """Some file systems refuse what does not fit only now."""
    file.flush()
    os.fsync(file.fileno())


def _write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    with replaced(folder / MANIFEST) as temporary:
        temporary.write_text(json.dumps(add_checksum(manifest), indent=1) + "\n")
