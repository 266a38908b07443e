"""A gallery's folder: written atomically, and every file verified when it is opened.

    gallery.json    the manifest: model, kind of index, checksum of every file, calibrations
    images.csv      path, modality, camera, identity of each image
    features.npy    (N, D) float32 unit vectors
    index.faiss     the index of them
    config.yaml     the model's whole config

`gallery.json` is written last and holds a checksum of its own content.
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
from icre.utils.files import replaced, sha256_of

MANIFEST, IMAGES, FEATURES, INDEX, CONFIG = (
    "gallery.json",
    "images.csv",
    "features.npy",
    "index.faiss",
    "config.yaml",
)
FORMAT = 1
CHECKSUM = "seal"  # key of the manifest's own checksum


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

    def nearest(self, queries: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows (Q, K) and similarities (Q, K) of the best matches; see `index.nearest`."""
        return indexes.nearest(self.manifest["index"], self.index, self.features, queries, top)

    def check_model(self, sha256: str, weights: str) -> None:
        """Raise UserError unless this is the SHA-256 of the checkpoint that the features are of."""
        expected = self.manifest["model"]
        if sha256 != expected["sha256"]:
            raise UserError(
                f"{weights} is not the model of gallery {self.folder} (SHA-256 {sha256[:12]}..., "
                f"the gallery's is {expected['sha256'][:12]}... from {expected['weights']}): its "
                "features cannot be compared; name that file, or index again"
            )


def staging_folder(folder: Path) -> Path:
    """Folder of the shards and of the unfinished gallery."""
    return folder.with_name(f"{folder.name}.partial")


def write(
    folder: Path,
    images: ImageTable,
    blocks: Iterable[np.ndarray],
    model: ModelInfo,
    kind: str,
    skipped: Sequence[tuple[str, str]] = (),
    progress: bool = True,
) -> None:
    """Write a gallery; the folder appears when it is complete. Removes its staging folder.

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
    target = staging_folder(folder) / "gallery"
    shutil.rmtree(target, ignore_errors=True)
    try:
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
        raise UserError(f"cannot write gallery {folder}: {error}") from error
    shutil.rmtree(staging_folder(folder), ignore_errors=True)


def open_gallery(folder: str | Path) -> Gallery:
    """Open a gallery; every file is compared with its checksum.

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
        {name: Calibration.from_dict(one) for name, one in manifest["calibrations"].items()},
    )


def save_calibrations(gallery: Gallery, calibrations: dict[str, Calibration]) -> None:
    """Store calibrations in the gallery's manifest; replaces earlier ones."""
    stored = {name: one.as_dict() for name, one in calibrations.items()}
    _write_manifest(gallery.folder, gallery.manifest | {"calibrations": stored})


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
    except RuntimeError as error:  # what faiss raises if the disk is full
        raise OSError(str(error).splitlines()[0]) from error


def _checksum(manifest: dict[str, Any]) -> str:
    content = {key: value for key, value in manifest.items() if key != CHECKSUM}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    content = manifest | {CHECKSUM: _checksum(manifest)}
    with replaced(folder / MANIFEST) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")


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
        intact = manifest[CHECKSUM] == _checksum(manifest)
    except (ValueError, KeyError, TypeError):
        intact = False
    if not intact:
        raise UserError(
            f"gallery {folder} is damaged: {MANIFEST} is not as it was written; index again"
        )
    if manifest["format"] != FORMAT:
        raise UserError(
            f"gallery {folder} has format {manifest['format']}, this program reads "
            f"{FORMAT}: index again"
        )
    return manifest
