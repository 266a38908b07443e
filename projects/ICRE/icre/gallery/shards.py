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
from typing import ClassVar

import numpy as np

from icre.gallery.images import ImageTable
from icre.utils.files import replaced
from icre.utils.remote import is_remote, remote_states

SUFFIXES = (".npz", ".parquet")  # of all kinds


@dataclass(frozen=True)
class Shard:
    """Some consecutive rows of an ImageTable, and the file of their features."""

    file: Path
    rows: range
    suffix: ClassVar[str] = ".npz"

    def load(self) -> tuple[np.ndarray, list[tuple[int, str]]] | None:
        """Read (features (n, D) of the readable images in order, (row, reason) of the others).

        None if the file is missing or damaged: the shard must be computed again.
        """
        try:
            features, faulty, reasons = self._read()
        except Exception:  # NumPy, zipfile, zlib, Arrow: each raises its own on a damaged file
            return None
        if len(features) + len(faulty) != len(self.rows):
            return None
        return features, [(self.rows[at], reason) for at, reason in zip(faulty, reasons)]

    def save(self, features: np.ndarray, faults: Sequence[tuple[int, str]]) -> None:
        """Write what `load` returns, atomically."""
        faulty = [row - self.rows.start for row, _ in faults]
        with replaced(self.file) as temporary:
            self._write(temporary, features, faulty, [reason for _, reason in faults])

    def _read(self) -> tuple[np.ndarray, list[int], list[str]]:
        """What `_write` was given; may raise anything on a damaged file."""
        with np.load(self.file) as stored:
            return stored["features"], stored["faulty_at"].tolist(), stored["reasons"].tolist()

    def _write(
        self, path: Path, features: np.ndarray, faulty: list[int], reasons: list[str]
    ) -> None:
        """Write features, and the places in the shard of the images that have none."""
        np.savez(
            path,
            features=features,
            faulty_at=np.array(faulty, dtype=np.int64),
            reasons=np.array(reasons, dtype=np.str_),
        )


def plan(
    folder: Path, images: ImageTable, model: str, size: int, kind: type[Shard] = Shard
) -> list[Shard]:
    """Cut the images into shards of `size`.

    Args:
        folder: of the shards' files.
        images: of the gallery.
        model: fingerprint of the model and its preparation of images.
        size: images per shard.
        kind: of the files.
    """
    starts = range(0, len(images), size)
    ranges = [range(start, min(start + size, len(images))) for start in starts]
    states = states_of(images)
    return [
        kind(folder / f"{checksum(images, states, rows, model)}{kind.suffix}", rows)
        for rows in ranges
    ]


def states_of(images: ImageTable) -> Sequence[str]:
    """Of each image: what changes when its file is replaced."""
    remote = remote_states([path for path in images.paths if is_remote(path)])
    return [remote[path] if path in remote else _state(path) for path in images.paths]


def _state(path: str) -> str:
    try:
        status = os.stat(path)
    except OSError:  # such as a link to nothing: told when the images are checked
        return "missing"
    return f"{status.st_size}\0{status.st_mtime_ns}"


def checksum(images: ImageTable, states: Sequence[str], rows: range, model: str) -> str:
    """Of all that the features of some rows depend on.

    Args:
        images: N rows.
        states: N, as `states_of` gives them.
        rows: of `images`.
        model: the model's fingerprint.
    """
    lines = [model]
    for row in rows:
        modality = images.modalities[row]
        if images.boxes[row].any():
            modality = f"{modality}\0{images.boxes[row].tolist()}"
        lines.append(f"{images.paths[row]}\0{states[row]}\0{modality}")
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:32]


def remove_shards(folder: Path) -> None:
    """Delete the shards in a folder, of every kind, and what a killed writer left of them."""
    for suffix in SUFFIXES:
        for path in (*folder.glob(f"*{suffix}"), *folder.glob(f".*{suffix}")):
            path.unlink(missing_ok=True)


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
