"""Features on their way to a gallery, saved shard by shard, so that a killed run loses one shard.

A shard's file is named after all that its features depend on: the model, and each image's path,
size, time of change and modality. So whatever is found under that name is right, and nothing else
is asked when a run goes on: a replaced image or another model makes other names.
"""

import hashlib
import os
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from icre.gallery.images import ImageTable
from icre.utils.errors import UserError
from icre.utils.files import replaced

SIZE = 1024  # images


@dataclass(frozen=True)
class Shard:
    """Some consecutive rows of an ImageTable, and the file of their features."""

    file: Path
    rows: range

    def load(self) -> tuple[np.ndarray, list[tuple[int, str]]] | None:
        """(features (n, D) of the readable rows in order, (row, fault) of the others), or None.

        None where the file is missing or damaged: the shard is then made again.
        """
        try:
            with np.load(self.file) as stored:
                faults = list(zip(stored["faulty"].tolist(), stored["faults"].tolist()))
                features = stored["features"]
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            return None
        return (features, faults) if len(features) + len(faults) == len(self.rows) else None

    def save(self, features: np.ndarray, faults: Sequence[tuple[int, str]]) -> None:
        """Write what `load` returns, whole or not at all."""
        with replaced(self.file) as temporary:
            np.savez(
                temporary,
                features=features,
                faulty=np.array([row for row, _ in faults], dtype=np.int64),
                faults=np.array([fault for _, fault in faults], dtype=np.str_),
            )


def plan(folder: Path, images: ImageTable, model: str, size: int = SIZE) -> list[Shard]:
    """Cut the images into shards of `size`; `model` names the model and its preparation."""
    pieces = [range(start, min(start + size, len(images))) for start in range(0, len(images), size)]
    return [Shard(folder / f"{_key(images, rows, model)}.npz", rows) for rows in pieces]


def _key(images: ImageTable, rows: range, model: str) -> str:
    text = [model]
    for row in rows:
        status = os.stat(images.paths[row])
        text.append(
            f"{images.paths[row]}\0{status.st_size}\0{status.st_mtime_ns}\0{images.modalities[row]}"
        )
    return hashlib.sha256("\n".join(text).encode("utf-8", "surrogateescape")).hexdigest()[:32]


class ShardWriter:
    """Takes batches of features in the order of the rows and saves each shard when it is full.

    fast-reid's evaluator interface (reset, process, evaluate), for `run_inference`.

    Args:
        shards: those to make.
        faults: row -> what is wrong, for the images that are left out.
    """

    def __init__(self, shards: Sequence[Shard], faults: dict[int, str]):
        self.shards, self.faults = list(shards), faults

    def reset(self) -> None:
        """Start at the first shard."""
        self._left, self._held = list(self.shards), np.empty((0, 0), dtype=np.float32)
        self._save_full()  # a shard may be without a readable image

    def process(self, inputs: dict[str, Any], outputs: torch.Tensor) -> None:
        """Keep a batch's features (B, D), as unit vectors."""
        features = unit(outputs.float().cpu().numpy())
        self._held = np.concatenate([self._held.reshape(-1, features.shape[1]), features])
        self._save_full()

    def evaluate(self) -> dict:
        """Nothing to report: the shards are on disk."""
        return {}

    def _save_full(self) -> None:
        while self._left:
            shard = self._left[0]
            faults = [(row, self.faults[row]) for row in shard.rows if row in self.faults]
            wanted = len(shard.rows) - len(faults)
            if len(self._held) < wanted:
                return
            shard.save(self._held[:wanted], faults)
            self._held, self._left = self._held[wanted:], self._left[1:]


def unit(features: np.ndarray) -> np.ndarray:
    """L2-normalise the rows of (N, D); a UserError where one has no direction."""
    length = np.linalg.norm(features, axis=1, keepdims=True)
    if not (np.isfinite(length).all() and (length > 0).all()):
        raise UserError(
            "the model's features hold NaN, infinity or zero vectors: its weights are "
            "damaged, or it was never trained"
        )
    return features / length


def blocks(shards: Sequence[Shard]) -> Iterator[np.ndarray]:
    """The features of finished shards, one block each, without empty ones."""
    for shard in shards:
        features, _ = shard.load()
        if len(features):
            yield features
