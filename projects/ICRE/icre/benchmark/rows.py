"""The rows of a speed table: training loops to be timed as they are, on the same data.

A row is built, warmed up and timed through four functions; it may be this project's trainer, a
stock fast-reid one or a public loop.

Shapes: B images of H x W pixels, P identities with K images of each modality (B = 2PK).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import torch
from torch import Tensor, nn

from icre.benchmark.measure import DTYPES, Marks
from icre.modality import INFRARED, VISIBLE

_IN_MEMORY = 2  # different random batches


@dataclass(frozen=True)
class Setup:
    """What all rows of a run share.

    Attributes:
        batch: B, images per step of both modalities together.
        size: (H, W).
        device: of models and batches.
        classes: identities of the classifier.
        instances: K.
        root: DATASETS.ROOT of the images to load; None: random images in memory.
        workers: processes of a loader.
        seed: of weights and random images.
    """

    batch: int
    size: tuple[int, int]
    device: torch.device
    classes: int = 395  # SYSU-MM01's training identities
    instances: int = 4
    root: str | None = None

    workers: int = 0
    seed: int = 0

    @property
    def prefetched(self) -> int:
        """Batches that a loader may have ready before a timing starts."""
        return 2 * self.workers if self.root else 0


class Row(ABC):
    """One training loop.

    Attributes:
        name: in the table.
        precision: of its forward pass, a key of DTYPES.
        model: its network.
        marks: where `step` is split.
    """

    name: str
    precision: str
    model: nn.Module
    marks: Marks

    @abstractmethod
    def step(self) -> None:
        """Train on the next batch, with all that the loop does per step."""

    @abstractmethod
    def test_mode(self) -> None:
        """Make ready for `extract`."""

    @abstractmethod
    def extract(self, pixels: Tensor, modalities: Tensor, flip: bool) -> Tensor:
        """Features on the host, as the loop's own test extracts them.

        Args:
            pixels: (B, H, W, 3) uint8 on the host.
            modalities: (B,).
            flip: average with the mirrored images' features.
        """


def precision_name(dtype: torch.dtype) -> str:
    """A torch dtype -> its key of DTYPES."""
    return next(name for name, known in DTYPES.items() if known == dtype)


def random_batches(setup: Setup, batch: int | None = None) -> list[dict[str, Tensor]]:
    """Random batches of P identities as our loader gives them: visible first, then infrared.

    Returns:
        Dicts with `images` (B, H, W, 3) uint8, `targets`, `camids` and `modalities` (B,).
    """
    random = torch.Generator().manual_seed(setup.seed)
    count = batch or setup.batch
    half = (count + 1) // 2
    modalities = torch.tensor([VISIBLE] * half + [INFRARED] * (count - half))
    targets = (torch.arange(half) // setup.instances).repeat(2)[:count]
    return [
        {
            "images": torch.randint(
                256, (count, *setup.size, 3), generator=random, dtype=torch.uint8
            ),
            "targets": targets,
            "camids": modalities.clone(),
            "modalities": modalities,
        }
        for _ in range(_IN_MEMORY)
    ]


def as_floats(pixels: Tensor) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float32 in 0..255, as an image-by-image loader gives."""
    return pixels.permute(0, 3, 1, 2).float().contiguous()


def endless(batches: list[Any]) -> Iterator[Any]:
    """The batches again and again."""
    return cycle(batches)
