"""What a training step hands to every loss."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Outputs:
    """The network's results for a batch; each loss takes what it needs.

    Attributes:
        features: f, what the metric losses see, (B, C).
        cls_outputs: logits of the ID loss, (B, classes), with the margin of MODEL.HEADS.CLS_LAYER.
        deep: X_4, the deep map before the enhancement, (B, C, h, w).
        clues: F_c, the clue map, (B, d, h, w); None for the baseline.
        pool: the head's pooling, (B, C, h, w) -> (B, C, 1, 1).
    """

    features: Tensor
    cls_outputs: Tensor | None = None
    deep: Tensor | None = None
    clues: Tensor | None = None
    pool: Callable[[Tensor], Tensor] | None = None

    @torch.no_grad()
    def unenhanced(self) -> Tensor:
        """The pooled deep map: f as it would be without the enhancement; (B, C), no gradient."""
        return self.pool(self.deep.float())[..., 0, 0]
