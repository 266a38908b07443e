"""Augmentation of whole 8-bit batches: parameters are sampled per image, and applied per batch.

A worker samples an image's crop, mirroring, channel mix and erased box as one row of numbers; the
device applies a batch's rows at once. The distributions are those of fast-reid's transforms (Pad
and RandomCrop, RandomHorizontalFlip, RandomErasing) and of `icre.data.transforms.ChannelAugment`,
which are used if INPUT has any other transform.

Shapes: B images of H x W pixels.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

import icre.compat  # noqa: F401

from fastreid.config import CfgNode

from icre.modality import INFRARED, VISIBLE
from icre.utils.errors import UserError

# The row of an image: where its crop starts (pixels of the unpadded image, may be negative),
# mirrored (0 or 1), weights of R, G and B in the gray image (all 0: none), the erased box (h = 0:
# none) and its colour (0..255); factors of brightness and contrast; a part (part_h = 0: none) and
# the factor of its pixels.
ROW = ("top", "left", "mirror", "red", "green", "blue", "y", "x", "h", "w", "r0", "g0", "b0",
       "brightness", "contrast", "part_y", "part_x", "part_h", "part_w", "factor")  # fmt: skip
# Other keys of fast-reid's INPUT that change training images.
_OTHERS = ("AUTOAUG", "CROP", "CJ", "AUGMIX", "RPT", "AFFINE")
_ERASE_TRIES = 10  # torchvision's RandomErasing
_ERASE_RATIO = 0.3, 3.3
_FACTORS = 0.5, 1.5  # of brightness, contrast, and the pixels of a part
LUMA = 0.299, 0.587, 0.114  # ITU-R 601, as Pillow's and torchvision's gray


def _columns(first: str, last: str) -> slice:
    return slice(ROW.index(first), ROW.index(last) + 1)


_CORNER, _CROP = _columns("top", "left"), _columns("top", "mirror")
_MIRROR, _GRAY = ROW.index("mirror"), _columns("red", "blue")
_ERASED, _COLOUR = _columns("y", "w"), _columns("r0", "b0")
_JITTER = _columns("brightness", "contrast")
_PART, _FACTOR = _columns("part_y", "part_w"), ROW.index("factor")
_BRIGHTNESS, _PART_HEIGHT = ROW.index("brightness"), ROW.index("part_h")


@dataclass(frozen=True)
class Augmentation:
    """Parameters of the augmentation that INPUT describes.

    Attributes:
        size: (H, W).
        pad: pixels of black around the image before an (H, W) crop.
        mirror: probability.
        erase: probability.
        erase_value: (R, G, B) in 0..255.
        channels: changes of visible images' channels (INPUT.CHANNEL_AUG.KINDS); none: not changed.
        area: least and largest share of the image that is erased, or multiplied.
        jitter: probability that an infrared image's brightness and contrast change.
        local: probability that a part of an image is multiplied by a factor.
        views: INPUT.VIEWS: 1, 2 (two of visible images) or 4 (two of either modality).
    """

    size: tuple[int, int]
    pad: int = 0
    mirror: float = 0.0
    erase: float = 0.0
    erase_value: tuple[float, float, float] = (0.0, 0.0, 0.0)
    channels: tuple[str, ...] = ()
    area: tuple[float, float] = (0.02, 0.33)
    jitter: float = 0.0
    local: float = 0.0
    views: int = 1

    def sample(self, modality: int, seed: int) -> np.ndarray:
        """One image's row, (len(ROW),) float32, a function of `seed` alone; (2, len(ROW)) of views.

        Args:
            modality: VISIBLE or INFRARED; with two views the second row of an infrared image is 0,
                which is no row of an image (see `second_views`).
            seed: of this image at this position of the stream.
        """
        if self.views == 1:
            return self._row(np.random.default_rng(seed), modality, ("", *self.channels))
        first = ("", *(kind for kind in self.channels if kind == "luma"))
        second = tuple(kind for kind in self.channels if kind != "luma")
        rows = [
            self._row(np.random.default_rng((seed, view)), modality, kinds, view == 1)
            for view, kinds in enumerate((first, second))
        ]
        if self.views == 2 and modality == INFRARED:
            rows[1] = np.zeros_like(rows[1])
        return np.stack(rows)

    def _row(
        self, random: np.random.Generator, modality: int, kinds: tuple[str, ...], last: bool = True
    ) -> np.ndarray:
        """`kinds`: of channels, with equal chances ("": as they are); `last`: the last view."""
        row = np.zeros(len(ROW), dtype=np.float32)
        if self.pad:
            row[_CORNER] = random.integers(-self.pad, self.pad + 1, size=2)
        row[_MIRROR] = random.random() < self.mirror
        if self.channels and modality == VISIBLE:
            row[_GRAY] = _channel_weights(random, kinds)
        if random.random() < self.erase:
            row[_ERASED] = _box(random, *self.size, self.area)
            row[_COLOUR] = self.erase_value
        row[_JITTER] = 1
        jittered = modality == INFRARED and (last or self.views == 2)
        if self.jitter and jittered and random.random() < self.jitter:
            row[_JITTER] = random.uniform(*_FACTORS, size=2)
        if self.local and random.random() < self.local:
            row[_PART] = _box(random, *self.size, self.area)
            row[_FACTOR] = random.uniform(*_FACTORS)
        return row


def batched_augmentation(cfg: CfgNode) -> Augmentation | None:
    """cfg.INPUT as an Augmentation; None if it has any other transform, or INPUT.BATCHED is off."""
    node, size = cfg.INPUT, tuple(cfg.INPUT.SIZE_TRAIN)
    kinds = tuple(node.CHANNEL_AUG.KINDS) if node.CHANNEL_AUG.ENABLED else ()
    if node.VIEWS > 1 and not set(kinds) - {"luma"}:
        raise UserError(
            f"INPUT.VIEWS {node.VIEWS} needs INPUT.CHANNEL_AUG.ENABLED True and channel or gray "
            "among its KINDS, which change the second view"
        )
    black_border = not node.PADDING.ENABLED or node.PADDING.MODE == "constant"
    others = any(getattr(node, name).ENABLED for name in _OTHERS)
    if others or not (node.BATCHED and black_border and len(size) == 2 and min(size) > 0):
        return None
    return Augmentation(
        size=size,
        pad=node.PADDING.SIZE if node.PADDING.ENABLED else 0,
        mirror=node.FLIP.PROB if node.FLIP.ENABLED else 0.0,
        erase=node.REA.PROB if node.REA.ENABLED else 0.0,
        erase_value=tuple(node.REA.VALUE),
        channels=kinds,
        area=tuple(node.REA.AREA),
        jitter=node.INFRARED_JITTER.PROB,
        local=node.LOCAL_LINEAR.PROB,
        views=node.VIEWS,
    )


def apply(images: Tensor, rows: Tensor, host_rows: Tensor | None = None) -> Tensor:
    """Crop, mirror, mix channels, change brightness and contrast, multiply a part, erase.

    Contrast is the distance from the image's mean gray. Pixels stay in 0..255.

    Args:
        images: (B, H, W, 3), 8 bits.
        rows: (B, len(ROW)) on the same device.
        host_rows: the same on the CPU, which say what no image needs; a GPU would be waited for.

    Returns:
        (B, 3, H, W) float32 in 0..255.
    """
    cropped = _crop(images, *rows[:, _CROP].long().unbind(1))  # (B, 3, H, W)
    weights = rows[:, _GRAY]
    gray = torch.einsum("bc,bchw->bhw", weights, cropped).unsqueeze(1)
    mixed = torch.where((weights.sum(1) > 0)[:, None, None, None], gray, cropped)
    asked = rows if host_rows is None else host_rows
    if (asked[:, _JITTER] != 1).any():
        brightness, contrast = rows[:, _JITTER, None, None, None].unbind(1)  # (B, 1, 1, 1) each
        mean = (mixed * brightness).mean(dim=(1, 2, 3), keepdim=True)
        mixed = (mean + (mixed * brightness - mean) * contrast).clamp(0, 255)
    if (asked[:, _PART_HEIGHT] > 0).any():
        multiplied = (mixed * rows[:, _FACTOR, None, None, None]).clamp(0, 255)
        mixed = torch.where(_inside_box(mixed, rows[:, _PART]), multiplied, mixed)
    return torch.where(_inside_box(mixed, rows[:, _ERASED]), rows[:, _COLOUR, None, None], mixed)


def second_views(rows: Tensor) -> Tensor:
    """Of rows (B, 2, len(ROW)), the images (N,) that have a second view."""
    return torch.nonzero(rows[:, 1, _BRIGHTNESS] > 0).flatten()


def _channel_weights(random: np.random.Generator, kinds: tuple[str, ...]) -> np.ndarray:
    """Weights of one of the kinds, with equal chances; 0 of the image as it is ("")."""
    kind = kinds[random.integers(len(kinds))]
    if kind == "":
        return np.zeros(3)
    if kind == "luma":
        return np.array(LUMA)
    if kind == "channel":
        return np.eye(3)[random.integers(3)]
    weights = random.random(3)
    return weights / weights.sum()


def _box(
    random: np.random.Generator, height: int, width: int, share: tuple[float, float]
) -> tuple[int, ...]:
    """(y, x, h, w) as torchvision's RandomErasing samples it; all 0 if no try fitted."""
    for _ in range(_ERASE_TRIES):
        area = height * width * random.uniform(*share)
        ratio = math.exp(random.uniform(*np.log(_ERASE_RATIO)))
        h, w = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if h < height and w < width:
            y, x = random.integers(height - h + 1), random.integers(width - w + 1)
            return int(y), int(x), h, w
    return 0, 0, 0, 0


def _crop(images: Tensor, top: Tensor, left: Tensor, mirror: Tensor) -> Tensor:
    """Rows and columns from (top, left) on, black outside, mirrored where `mirror` is 1."""
    batch, height, width, _ = images.shape
    x = torch.arange(width, device=images.device).expand(batch, -1)
    x = torch.where(mirror[:, None] > 0, width - 1 - x, x) + left[:, None]  # (B, W)
    y = torch.arange(height, device=images.device) + top[:, None]  # (B, H)
    picked = images[
        torch.arange(batch, device=images.device)[:, None, None],
        y.clamp(0, height - 1)[:, :, None],
        x.clamp(0, width - 1)[:, None, :],
    ]  # (B, H, W, 3)
    seen = ((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None, :]
    return picked.permute(0, 3, 1, 2).float() * seen[:, None]


def _inside_box(images: Tensor, box: Tensor) -> Tensor:
    """(B, 1, H, W) bool: the pixel lies in its image's (y, x, h, w)."""
    y, x, h, w = box.unsqueeze(2).unbind(1)  # (B, 1) each
    rows = torch.arange(images.shape[2], device=images.device)
    columns = torch.arange(images.shape[3], device=images.device)
    in_rows, in_columns = (rows >= y) & (rows < y + h), (columns >= x) & (columns < x + w)
    return (in_rows[:, :, None] & in_columns[:, None, :])[:, None]
