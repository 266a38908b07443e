"""Batches for the public loops: their own data set and sampler, on our images."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

import icre.compat  # noqa: F401

from fastreid.config import CfgNode

from icre.benchmark.rows import Setup, as_floats, random_batches
from icre.data.image import read_image
from icre.data.loader import load_dataset, modalities_of
from icre.modality import INFRARED, VISIBLE
from icre.utils.errors import UserError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_IDENTITIES = 64  # they hold all training images in memory; so many are enough to time them
Batch = tuple[Tensor, Tensor, Tensor, Tensor]  # visible, infrared (B/2, 3, H, W); their labels


def random_public_batches(setup: Setup) -> list[Batch]:
    """The batches of `random_batches`, normalised and halved as their loader gives them."""
    half = setup.batch // 2
    return [
        (*normalised(batch["images"]).split(half), *batch["targets"].split(half))
        for batch in random_batches(setup)
    ]


def normalised(pixels: Tensor) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) by ImageNet's mean and deviation."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return (as_floats(pixels) / 255 - mean) / std


def public_batches(
    clone: SimpleNamespace, transform: Callable, cfg: CfgNode, setup: Setup
) -> Iterator[Batch]:
    """Batches of their SYSUData and IdentitySampler on the images below `setup.root`, for ever.

    Their data set reads one large array; here its arrays are filled from the tree.
    """
    data = clone.data_loader.SYSUData.__new__(clone.data_loader.SYSUData)
    visible, infrared = _training_images(cfg, setup)
    data.train_color_image, data.train_color_label = visible
    data.train_thermal_image, data.train_thermal_label = infrared
    data.transform = transform
    places = clone.utils.GenIdx(data.train_color_label, data.train_thermal_label)
    identities = setup.batch // (2 * setup.instances)
    while True:
        sampler = clone.utils.IdentitySampler(
            data.train_color_label,
            data.train_thermal_label,
            *places,
            setup.instances,
            identities,
            0,
        )
        data.cIndex, data.tIndex = sampler.index1, sampler.index2
        yield from DataLoader(
            data,
            batch_size=setup.batch // 2,
            sampler=sampler,
            num_workers=setup.workers,
            drop_last=True,
        )


def _training_images(cfg: CfgNode, setup: Setup) -> list[tuple[np.ndarray, np.ndarray]]:
    """(images (N, H, W, 3) uint8, labels (N,)) of the visible, then of the infrared modality."""
    paths: dict[int, dict[int, list[str]]] = {}
    for name in cfg.DATASETS.NAMES:
        data = load_dataset(cfg, name)
        for item, modality in zip(data.train, modalities_of(data, data.train)):
            paths.setdefault(item[1], {}).setdefault(modality, []).append(item[0])
    both = [one for one in paths.values() if len(one) == 2][:_IDENTITIES]
    needed = setup.batch // (2 * setup.instances)
    if len(both) < needed:
        raise UserError(
            f"{setup.root}: {len(both)} training identities are seen in both modalities, a batch "
            f"of {setup.batch} needs {needed}"
        )
    return [_read([one[modality] for one in both], setup.size) for modality in (VISIBLE, INFRARED)]


def _read(paths: list[list[str]], size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    images = [np.array(read_image(path).resize(size[::-1])) for places in paths for path in places]
    labels = [label for label, places in enumerate(paths) for _ in places]
    return np.stack(images), np.array(labels)
