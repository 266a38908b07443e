"""Random weights and images that depend on names and a seed alone, here and beside a clone.

The golden files hold names and shapes of a public network's weights; their values, some hundred
megabytes, are made again from the seed.
"""

import math
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

SEED = 20
IMAGES = 2  # of each golden file: a visible and an infrared one
WEIGHT, BIAS, GAIN, CUBIC = 0.6, 0.02, 2.0, 0.003
ACTUAL_SIZE = 200, 90  # of the images, height and width; the codes resize them
DIRECTIONS = 128  # of `project`


def weights(shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """Name -> values for a state dict: activations stay finite, and no norm is an identity."""
    return {name: _values(name, tuple(shape)) for name, shape in shapes.items()}


def _values(name: str, shape: tuple[int, ...]) -> Tensor:
    generator = torch.Generator().manual_seed(SEED + zlib.crc32(name.encode()))
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.long)
    if name.endswith("running_var") or (len(shape) == 1 and name.endswith("weight")):
        scale = 1.0 if name.endswith("running_var") else WEIGHT
        # DEEN's six non-local blocks are cubic in their input, one behind the other
        scale *= CUBIC if name.startswith("MFA") and name.endswith("W.1.weight") else 1.0
        return scale * (0.5 + torch.rand(shape, generator=generator))
    if len(shape) == 1:
        return BIAS * torch.randn(shape, generator=generator)
    return torch.randn(shape, generator=generator) * math.sqrt(GAIN / math.prod(shape[1:]))


def images(height: int, width: int) -> list[np.ndarray]:
    """8-bit RGB images (height, width, 3) with structure at several scales."""
    random = np.random.default_rng(SEED)
    made = []
    for _ in range(IMAGES):
        image = np.zeros((height, width, 3))
        for cells in (4, 16, 64):
            coarse = random.integers(0, 256, (cells, cells // 2, 3))
            rows, columns = np.arange(height) * cells // height, np.arange(width) * cells // 2
            image += coarse[rows][:, columns // width] / 3
        made.append(image.round().astype(np.uint8))
    made[1][:] = made[1][:, :, :1]  # infrared: three equal channels
    return made


def project(features: Tensor) -> Tensor:
    """(N, D) -> (N, DIRECTIONS), dot products with random directions of length 1."""
    generator = torch.Generator().manual_seed(SEED)
    directions = torch.randn(features.shape[1], DIRECTIONS, generator=generator)
    return features.double() @ torch.nn.functional.normalize(directions.double(), dim=0)


def loss_batch() -> dict[str, Tensor]:
    """Input of the golden losses: 4 identities x (3 visible + 3 infrared) images.

    Each modality's images come together, identity by identity, as the public codes have them;
    `features` (72, 16) are of three embeddings of the 24 images, `second` (24, 16) of second views.
    """
    generator = torch.Generator().manual_seed(SEED)
    centres = torch.rand(4, 16, generator=generator).repeat_interleave(3, 0).repeat(2, 1)

    def around(scale: float) -> Tensor:
        return (centres + scale * torch.rand(24, 16, generator=generator)).double()

    return {
        "features": torch.cat([around(0.5), around(0.7), around(0.9)]),
        "second": around(0.6),
        "targets": torch.arange(4).repeat_interleave(3).repeat(2),
        "modalities": torch.arange(2).repeat_interleave(12),
        "classifiers": torch.randn(2, 4, 16, generator=generator).double(),
        "copies": torch.randn(2, 4, 16, generator=generator).double(),
        "masks": torch.rand(24, 6, 4, 2, generator=generator).double(),
    }
