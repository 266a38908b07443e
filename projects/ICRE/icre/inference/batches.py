"""Batches of any images, as the test loader makes them of a data set."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from PIL import Image

import icre.compat  # noqa: F401

from fastreid.config import CfgNode

from icre.data.pipeline import build_pipeline


class ImageBatches:
    """Batches of TEST.IMS_PER_BATCH images: threads read the next one while one is computed.

    Each is a dict: `images` (B, H, W, 3) uint8, or (B, 3, H, W) float32 where INPUT asks for more
    than resizing; `modalities` (B,).

    Args:
        cfg: INPUT and TEST.IMS_PER_BATCH are read.
        images: N paths, or images in memory.
        modalities: N integers of `icre.modality`.

    Raises:
        UserError: while iterating, on an image that cannot be read.
    """

    def __init__(
        self, cfg: CfgNode, images: Sequence[str | Image.Image], modalities: Sequence[int]
    ):
        self.images, self.modalities = images, modalities
        self.size = cfg.TEST.IMS_PER_BATCH
        self.pipeline = build_pipeline(cfg, is_train=False, count=len(images))

    def __len__(self) -> int:
        return -(-len(self.images) // self.size)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        with ThreadPoolExecutor() as pool:
            reading = pool.map(self._read, self._rows(0))
            for start in range(0, len(self.images), self.size):
                images = torch.stack(list(reading))
                reading = pool.map(self._read, self._rows(start + self.size))
                modalities = torch.as_tensor(self.modalities[start : start + self.size])
                yield {"images": images, "modalities": modalities}

    def _rows(self, start: int) -> range:
        return range(start, min(start + self.size, len(self.images)))

    def _read(self, row: int) -> torch.Tensor:
        return self.pipeline(row, self.images[row], self.modalities[row], None)["images"]
