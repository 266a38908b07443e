"""fast-reid's image data set, with the modality of each image and a reproducible augmentation."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

import icre.compat  # noqa: F401  (before any fastreid import)
from fastreid.data.common import CommDataset

from icre.data.image import read_image


class CrossModalDataset(CommDataset):
    """A CommDataset whose batches also carry `modalities`.

    Args:
        items: (path, pid, camid) triples, as every fast-reid sampler expects.
        modalities: VISIBLE or INFRARED per item.
        transforms: modality -> transform, image -> (3, H, W).
        relabel: map pids and camids to 0..n-1 (training).

    An index may be an int, or a pair (int, draw) as `SeededBatchSampler` gives: the draw's number
    then seeds the augmentation, so it does not depend on how many workers share the work.
    """

    def __init__(
        self,
        items: Sequence[tuple[str, int, int]],
        modalities: Sequence[int],
        transforms: dict[int, Callable],
        relabel: bool,
    ):
        super().__init__(list(items), transform=None, relabel=relabel)
        self.modalities = [int(m) for m in modalities]
        self.transforms = transforms

    def __getitem__(self, index: int | tuple[int, int]) -> dict:
        index, draw = index if isinstance(index, tuple) else (index, None)
        path, pid, camid = self.img_items[index]
        modality = self.modalities[index]
        with _seeded(draw):
            image = self.transforms[modality](read_image(path))
        return {
            "images": image,
            "targets": self.pid_dict[pid] if self.relabel else pid,
            "camids": self.cam_dict[camid] if self.relabel else camid,
            "modalities": modality,
            "img_paths": path,
        }


@contextmanager
def _seeded(seed: int | None) -> Iterator[None]:
    """Run a block with Python's, NumPy's and torch's generators seeded, then put them back.

    Without workers the block shares its generators with the model (dropout) and the samplers.
    """
    if seed is None:
        yield
        return
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    # torch.manual_seed would also queue a call for the GPU, and format a traceback for each image
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
