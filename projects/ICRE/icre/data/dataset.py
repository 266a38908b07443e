"""fast-reid's image data set, with the modality of each image and a reproducible augmentation."""

from collections.abc import Callable, Sequence

import icre.compat  # noqa: F401  (before any fastreid import)
from fastreid.data.common import CommDataset


class CrossModalDataset(CommDataset):
    """A CommDataset whose batches also carry `modalities`.

    Args:
        items: (path, pid, camid) triples, as every fast-reid sampler expects.
        modalities: VISIBLE or INFRARED per item.
        pipeline: (index, path, modality, seed) -> the image's fields (`icre.data.pipeline`).
        relabel: map pids and camids to 0..n-1 (training).

    An index may be an int, or a pair (int, draw) as `SeededBatchSampler` gives: the draw's number
    then seeds the augmentation, so it does not depend on how many workers share the work.
    """

    def __init__(
        self,
        items: Sequence[tuple[str, int, int]],
        modalities: Sequence[int],
        pipeline: Callable[[int, str, int, int | None], dict],
        relabel: bool,
    ):
        super().__init__(list(items), transform=None, relabel=relabel)
        self.modalities = [int(m) for m in modalities]
        self.pipeline = pipeline

    def __getitem__(self, index: int | tuple[int, int]) -> dict:
        index, draw = index if isinstance(index, tuple) else (index, None)
        path, pid, camid = self.img_items[index]
        modality = self.modalities[index]
        return {
            **self.pipeline(index, path, modality, draw),
            "targets": self.pid_dict[pid] if self.relabel else pid,
            "camids": self.cam_dict[camid] if self.relabel else camid,
            "modalities": modality,
            "img_paths": path,
        }
