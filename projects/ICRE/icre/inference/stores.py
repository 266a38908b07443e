"""Computing features of images and writing them into a store, as they come."""

from collections.abc import Iterable, Iterator
from itertools import chain

import numpy as np

from icre.gallery import shards
from icre.gallery.backend import StoreUnavailable
from icre.gallery.milvus.store import MilvusStore
from icre.gallery.store import ModelInfo
from icre.gallery.table import ImageTable
from icre.inference.extractor import FeatureExtractor
from icre.inference.galleries import Skipped, StagedFeatures, unreadable
from icre.utils.errors import UserError


def write_images(
    store: MilvusStore,
    extractor: FeatureExtractor,
    images: ImageTable,
    shard_size: int = 1024,
    skip_corrupt: bool = False,
    kind: str | None = None,
    staged: StagedFeatures | None = None,
) -> tuple[ImageTable, Skipped, int]:
    """Add images to a gallery in a store; goes on where the same call was stopped.

    Args:
        store: the gallery's place.
        extractor: the gallery's model.
        images: N rows, none of which the gallery has.
        shard_size: images that are written at a time, at most.
        skip_corrupt: leave out images that cannot be read.
        kind: of index; None: the gallery exists.
        staged: computes the features, and keeps them meanwhile; None: they are computed here as
            they are written. What the store has acknowledged is there, so nothing is staged.

    Returns:
        The images that were added, those that were left out, and how many had been written before.

    Raises:
        UserError: an image cannot be read, or another process changes the gallery.
        StoreUnavailable: the store does not answer; the message says how many rows it has.
    """
    states, every = shards.states_of(images), range(len(images))
    checksum = shards.checksum(images, states, every, extractor.fingerprint)
    stamp = f"{kind} {checksum}"
    there = store.written(images, stamp)
    if staged is None:
        faults = unreadable(images, np.flatnonzero(~there).tolist(), skip_corrupt)
    else:
        staged.compute(skip_corrupt)
        faults = staged.faults
    kept = np.array([row for row in every if row not in faults], dtype=int)
    left = kept[~there[kept]]
    if not len(left) and not there.any():
        raise UserError(f"none of {len(images)} images can be read: nothing is added")
    if staged is None:
        blocks = _computed(extractor, images.take(left), shard_size)
    else:
        blocks = _pending(staged.blocks(), ~there[kept])
    first = next(blocks, None)
    if kind and first is not None:
        model = ModelInfo(str(extractor.weights), extractor.sha256, extractor.cfg.dump())
        store.create(model, first.shape[1], kind)
    addition, start = store.addition(images, stamp), 0
    try:
        for block in chain([] if first is None else [first], blocks):
            addition.write(images.take(left[start : start + len(block)]), block)
            start += len(block)
        addition.finish()
    except StoreUnavailable as error:
        written = int(there.sum()) + start
        raise StoreUnavailable(f"{error}; {written} of {len(images)} images are there") from error
    sources = images.sources()
    skipped = [(str(sources[row]), reason) for row, reason in faults.items()]
    return images.take(kept), skipped, int(there.sum())


def _computed(extractor: FeatureExtractor, images: ImageTable, size: int) -> Iterator[np.ndarray]:
    """The features of all images, at most `size` at a time."""
    if not len(images):
        return
    for batch in extractor.batches(images.sources(), images.modalities.tolist()):
        for first in range(0, len(batch), size):
            yield batch[first : first + size]


def _pending(blocks: Iterable[np.ndarray], wanted: np.ndarray) -> Iterator[np.ndarray]:
    """What is wanted (N,) of blocks of together (N, D)."""
    start = 0
    for block in blocks:
        chosen = block[wanted[start : start + len(block)]]
        start += len(block)
        if len(chosen):
            yield chosen
