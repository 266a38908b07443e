"""Computing features of images and writing them into a store, as they come."""

from collections.abc import Iterator

import numpy as np

from icre.gallery import shards
from icre.gallery.backend import StoreUnavailable
from icre.gallery.milvus.store import MilvusStore
from icre.gallery.store import ModelInfo
from icre.gallery.table import ImageTable
from icre.inference.extractor import FeatureExtractor
from icre.inference.galleries import Skipped, features_of, unreadable
from icre.utils.errors import UserError


def write_images(
    store: MilvusStore,
    extractor: FeatureExtractor,
    images: ImageTable,
    shard_size: int = 1024,
    skip_corrupt: bool = False,
    kind: str | None = None,
) -> tuple[ImageTable, Skipped, int]:
    """Add images to a gallery in a store; goes on where the same call was stopped.

    What is acknowledged by the store is kept there, so nothing is staged on this machine.

    Args:
        store: the gallery's place.
        extractor: the gallery's model.
        images: N rows, none of which the gallery has.
        shard_size: images that are written at a time, at most.
        skip_corrupt: leave out images that cannot be read.
        kind: of index; None: the gallery exists.

    Returns:
        The images that were added, those that were left out, and how many had been written before.

    Raises:
        UserError: an image cannot be read, or another process changes the gallery.
        StoreUnavailable: the store does not answer; the message says how many rows it has.
    """
    states, rows = shards.states_of(images), range(len(images))
    checksum = shards.checksum(images, states, rows, extractor.fingerprint)
    stamp = f"{kind} {checksum}"
    there = store.written(images, stamp)
    left = np.flatnonzero(~there)
    faults = unreadable(images, left.tolist(), skip_corrupt)
    left = np.array([row for row in left.tolist() if row not in faults], dtype=int)
    if not len(left) and not there.any():
        raise UserError(f"none of {len(images)} images can be read: nothing is added")
    if kind:
        first = features_of(extractor, images.take(left[:1] if len(left) else [0]))
        model = ModelInfo(str(extractor.weights), extractor.sha256, extractor.cfg.dump())
        store.create(model, first.shape[1], kind)
    addition, written = store.addition(images, stamp), int(there.sum())
    try:
        for rows, features in _computed(extractor, images, left, shard_size):
            addition.write(images.take(rows), features)
            written += len(rows)
        addition.finish()
    except StoreUnavailable as error:
        raise StoreUnavailable(f"{error}; {written} of {len(images)} images are there") from error
    kept = [row for row in range(len(images)) if row not in faults]
    sources = images.sources()
    skipped = [(str(sources[row]), reason) for row, reason in faults.items()]
    return images.take(kept), skipped, int(there.sum())


def _computed(
    extractor: FeatureExtractor, images: ImageTable, rows: np.ndarray, size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(rows (n,), features (n, D)) of all rows, at most `size` at a time."""
    if not len(rows):
        return
    chosen, start = images.take(rows), 0
    for batch in extractor.batches(chosen.sources(), chosen.modalities.tolist()):
        for first in range(0, len(batch), size):
            part = batch[first : first + size]
            yield rows[start : start + len(part)], part
            start += len(part)
