"""Features of a gallery that is being built, saved in shards: a killed run loses one shard.

The name of a shard's file is a checksum of all that its features depend on: the model, and path,
size, time of change and modality of each image. So a file of that name can be used as it is; a
replaced image or another model gives other names.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from icre.gallery.images import ImageTable
from icre.utils.files import replaced


@dataclass(frozen=True)
class Shard:
    """Some consecutive rows of an ImageTable, and the file of their features."""

    file: Path
    rows: range

    def load(self) -> tuple[np.ndarray, list[tuple[int, str]]] | None:
        """Read (features (n, D) of the readable images in order, (row, reason) of the others).

        None if the file is missing or damaged: the shard must be computed again.
        """
        try:
            with np.load(self.file) as stored:
                faults = list(zip(stored["faulty"].tolist(), stored["faults"].tolist()))
                features = stored["features"]
        except Exception:  # NumPy, zipfile and zlib each raise their own on a damaged file
            return None
        return (features, faults) if len(features) + len(faults) == len(self.rows) else None

    def save(self, features: np.ndarray, faults: Sequence[tuple[int, str]]) -> None:
        """Write what `load` returns, atomically."""
        with replaced(self.file) as temporary:
            np.savez(
                temporary,
                features=features,
                faulty=np.array([row for row, _ in faults], dtype=np.int64),
                faults=np.array([reason for _, reason in faults], dtype=np.str_),
            )


def plan(folder: Path, images: ImageTable, model: str, size: int) -> list[Shard]:
    """Cut the images into shards of `size`.

    Args:
        folder: of the shards' files.
        images: of the gallery.
        model: fingerprint of the model and its preparation of images.
        size: images per shard.
    """
    starts = range(0, len(images), size)
    ranges = [range(start, min(start + size, len(images))) for start in starts]
    return [Shard(folder / f"{checksum(images, rows, model)}.npz", rows) for rows in ranges]


def checksum(images: ImageTable, rows: range, model: str) -> str:
    """Of all that the features of some rows depend on; `model` is the model's fingerprint."""
    lines = [model]
    for row in rows:
        path, modality = images.paths[row], images.modalities[row]
        if images.boxes[row].any():
            modality = f"{modality}\0{images.boxes[row].tolist()}"
        try:
            status = os.stat(path)
        except OSError:  # such as a link to nothing: told when the images are checked
            lines.append(f"{path}\0missing\0{modality}")
            continue
        lines.append(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0{modality}")
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:32]


def save_shards(
    shards: Sequence[Shard], faults: Mapping[int, str], batches: Iterable[np.ndarray]
) -> None:
    """Save each shard as soon as its features are computed.

    Args:
        shards: to save.
        faults: row -> reason, of the images without features.
        batches: features (B, D) of the other rows of these shards, in order; any batch size.
    """
    batches, waiting = iter(batches), np.empty((0, 0), dtype=np.float32)
    for shard in shards:
        missing = [(row, faults[row]) for row in shard.rows if row in faults]
        count = len(shard.rows) - len(missing)
        while len(waiting) < count:
            batch = next(batches, None)
            if batch is None:
                raise ValueError("fewer features than images")
            waiting = np.concatenate([waiting.reshape(-1, batch.shape[1]), batch])
        shard.save(waiting[:count], missing)
        waiting = waiting[count:]
    if len(waiting) or next(batches, None) is not None:
        raise ValueError("more features than images")


def blocks(shards: Sequence[Shard]) -> Iterator[np.ndarray]:
    """The features of finished shards, one block per shard; empty shards are left out."""
    for shard in shards:
        features, _ = shard.load()
        if len(features):
            yield features
