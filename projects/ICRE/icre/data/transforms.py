"""Per-modality transforms: fast-reid's pipeline, with channel augmentation for visible images."""

import random
from collections.abc import Callable

import torch
from torchvision import transforms as T

import icre.compat  # noqa: F401

from fastreid.config import CfgNode
from fastreid.data.transforms import build_transforms
from fastreid.data.transforms.transforms import ToTensor

from icre.data.augment import Augmentation
from icre.modality import INFRARED, VISIBLE
from icre.utils.errors import UserError


class ChannelAugment:
    """Remove the colours of a visible image, in part and at random.

    With equal chances: one of the three channels fills all three, a gray image of random channel
    weights does, or the image stays (CAJ: Ye et al., "Channel Augmented Joint Learning for
    Visible-Infrared Recognition", ICCV 2021, random channel exchange and weighted gray).
    """

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Args: image (3, H, W). Returns: an image of the same shape."""
        choice = random.randrange(3)
        if choice == 0:
            return image
        if choice == 1:
            channel = random.randrange(3)
            return image[channel : channel + 1].expand(3, -1, -1).clone()
        weights = torch.rand(3)
        gray = torch.einsum("c,chw->hw", weights / weights.sum(), image)
        return gray.expand(3, -1, -1).clone()

    def __repr__(self) -> str:
        return "ChannelAugment()"


def build_modality_transforms(cfg: CfgNode, is_train: bool) -> dict[int, Callable]:
    """fast-reid's transforms for each modality: {VISIBLE: t, INFRARED: t}, image -> (3, H, W).

    The tensors are in 0..255; the model normalises them.

    Raises:
        UserError: INPUT.AFFINE is on, which torchvision no longer accepts as fast-reid calls it.
    """
    if cfg.INPUT.AFFINE.ENABLED:
        raise UserError(
            "INPUT.AFFINE.ENABLED: fast-reid's call needs torchvision < 0.13; set False"
        )
    node = cfg.INPUT
    if is_train and node.VIEWS > 1:
        raise UserError(
            f"INPUT.VIEWS {node.VIEWS} is of whole batches, which INPUT.BATCHED False or another "
            "augmentation of INPUT switches off: set it to 1"
        )
    if is_train and (node.INFRARED_JITTER.PROB or node.LOCAL_LINEAR.PROB):
        raise UserError(
            "INPUT.INFRARED_JITTER and LOCAL_LINEAR are of whole batches, which INPUT.BATCHED "
            "False or another augmentation of INPUT switches off: leave them out"
        )
    if is_train and node.REA.ENABLED and tuple(node.REA.AREA) != Augmentation.area:
        raise UserError(
            f"INPUT.REA.AREA {tuple(node.REA.AREA)} is of whole batches, which INPUT.BATCHED False "
            "or another augmentation of INPUT switches off: leave it as it was"
        )
    for key, value, default in (
        ("INTERPOLATION", node.INTERPOLATION, "bicubic"),
        ("CHANNEL_AUG.KINDS", tuple(node.CHANNEL_AUG.KINDS), ("channel", "gray")),
    ):
        if value != default and (is_train or key == "INTERPOLATION"):
            raise UserError(
                f"INPUT.{key} {value} is of whole batches, which INPUT.BATCHED False or another "
                f"augmentation of INPUT switches off: leave it at {default}"
            )
    infrared = build_transforms(cfg, is_train=is_train)
    if not (is_train and cfg.INPUT.CHANNEL_AUG.ENABLED):
        return {VISIBLE: infrared, INFRARED: infrared}
    steps = list(infrared.transforms)
    # Before random erasing, so that an erased box has the same colour in both modalities.
    place = 1 + next(i for i, step in enumerate(steps) if isinstance(step, ToTensor))
    visible = T.Compose([*steps[:place], ChannelAugment(), *steps[place:]])
    return {VISIBLE: visible, INFRARED: infrared}
