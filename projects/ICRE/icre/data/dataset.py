"""fast-reid's image data set, with the modality of each image and a reproducible augmentation."""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import icre.compat  # noqa: F401

from fastreid.data.common import CommDataset

from icre.utils.errors import UserError

logger = logging.getLogger("fastreid.icre")
CORRUPT = {"stop": False, "replace": True}  # DATALOADER.CORRUPT -> `replace`


class CrossModalDataset(CommDataset):
    """A CommDataset whose batches also carry `modalities`.

    Args:
        items: (path, pid, camid) triples, as every fast-reid sampler expects.
        modalities: VISIBLE or INFRARED per item.
        pipeline: (index, path, modality, seed) -> the image's fields (`icre.data.pipeline`).
        relabel: map pids and camids to 0..n-1 (training).
        replace: take the next image of the same identity and modality for one that cannot be read.
        source: the data set that the items are from, for an evaluator.

    An index may be an int, or a pair (int, seed) as `SeededBatchSampler` gives: the augmentation is
    then a function of the seed, and does not depend on the number of workers.
    """

    def __init__(
        self,
        items: Sequence[tuple[str, int, int]],
        modalities: Sequence[int],
        pipeline: Callable[[int, str, int, int | None], dict],
        relabel: bool,
        replace: bool = False,
        source: Any = None,
    ):
        super().__init__(list(items), transform=None, relabel=relabel)
        self.modalities = [int(m) for m in modalities]
        self.pipeline = pipeline
        self.replace, self.source = replace, source

    def __getitem__(self, index: int | tuple[int, int]) -> dict:
        index, seed = index if isinstance(index, tuple) else (index, None)
        try:
            return self._read(index, seed)
        except UserError as error:
            for other in self._alike(index) if self.replace else ():
                try:
                    sample = self._read(other, seed)
                except UserError:
                    continue
                logger.warning("%s; replaced by %s", error, sample["img_paths"])
                return sample
            raise

    def _read(self, index: int, seed: int | None) -> dict:
        path, pid, camid = self.img_items[index]
        modality = self.modalities[index]
        return {
            **self.pipeline(index, path, modality, seed),
            "targets": self.pid_dict[pid] if self.relabel else pid,
            "camids": self.cam_dict[camid] if self.relabel else camid,
            "modalities": modality,
            "img_paths": path,
        }

    def _alike(self, index: int) -> Iterator[int]:
        """The other images of an image's identity and modality, from the next one round to it."""
        count, pid, modality = len(self), self.img_items[index][1], self.modalities[index]
        for other in (at % count for at in range(index + 1, index + count)):
            if self.img_items[other][1] == pid and self.modalities[other] == modality:
                yield other
