"""From an image file to the fields of a sample, augmented by batches or image by image."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from PIL import Image
from torchvision import transforms as T

import icre.compat  # noqa: F401

from fastreid.config import CfgNode
from fastreid.utils import comm

from icre.data.augment import Augmentation, batched_augmentation
from icre.data.cache import GIB, ImageCache
from icre.data.transforms import build_modality_transforms
from icre.utils.image import read_image

Fields = dict[str, torch.Tensor]


class Batched:
    """8-bit images of one size, and the parameters of their augmentation (`icre.data.augment`).

    Args:
        size: (H, W).
        augmentation: None for test images.
        cache: of the decoded and resized images.
        interpolation: INPUT.INTERPOLATION.
    """

    def __init__(
        self,
        size: tuple[int, int],
        augmentation: Augmentation | None,
        cache: ImageCache,
        interpolation: str = "bicubic",
    ):
        self.augmentation, self.cache = augmentation, cache
        self.resize = T.Resize(size, interpolation=T.InterpolationMode(interpolation))

    def __call__(
        self, index: int, path: str | Image.Image, modality: int, seed: int | None
    ) -> Fields:
        """`images` (H, W, 3) uint8 and, in training, `augment` (len(ROW),) float32."""
        pixels = self.cache.get(index, lambda: np.array(self.resize(read_image(path))))
        fields = {"images": torch.from_numpy(pixels)}
        if self.augmentation:
            seed = random.getrandbits(32) if seed is None else seed
            fields["augment"] = torch.from_numpy(self.augmentation.sample(modality, seed))
        return fields


class ImageByImage:
    """Samples augmented by fast-reid's transforms, for any INPUT.

    Args:
        transforms: modality -> transform, image -> (3, H, W).
    """

    def __init__(self, transforms: dict[int, Callable]):
        self.transforms = transforms

    def __call__(
        self, index: int, path: str | Image.Image, modality: int, seed: int | None
    ) -> Fields:
        """`images` (3, H, W) float32 in 0..255."""
        with _seeded(seed):
            return {"images": self.transforms[modality](read_image(path))}


def build_pipeline(cfg: CfgNode, is_train: bool, count: int) -> Batched | ImageByImage:
    """The fastest pipeline for cfg.INPUT.

    Args:
        count: images of the data set; training images are cached within DATALOADER.CACHE_GB.
    """
    if is_train and (augmentation := batched_augmentation(cfg)):
        limit = int(cfg.DATALOADER.CACHE_GB * GIB / comm.get_local_size())
        cache = ImageCache(count, augmentation.size, limit)
        return Batched(augmentation.size, augmentation, cache, cfg.INPUT.INTERPOLATION)
    size = tuple(cfg.INPUT.SIZE_TEST)
    if not is_train and cfg.INPUT.BATCHED and not cfg.INPUT.CROP.ENABLED and len(size) == 2:
        cache = ImageCache(count, size, limit=0)  # each is read once
        return Batched(size, None, cache, cfg.INPUT.INTERPOLATION)
    return ImageByImage(build_modality_transforms(cfg, is_train))


@contextmanager
def _seeded(seed: int | None) -> Iterator[None]:
    """Run a block with Python's, NumPy's and torch's generators seeded, then restore them.

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
