"""What a training step hands to every loss."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fastreid.config import CfgNode

from icre.utils.choice import pick
from icre.utils.errors import UserError


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

    def pooled(self, name: str) -> Tensor:
        """(B, C) the head's pooling, in float32, of the map "deep" (f without the enhancement) or "clues"."""
        return self.pool(getattr(self, name).float())[..., 0, 0]

    @torch.no_grad()
    def unenhanced(self) -> Tensor:
        """The pooled deep map: f as it would be without the enhancement; (B, C), no gradient."""
        return self.pooled("deep")


def check_maps(cfg: CfgNode, key: str, names: Sequence[str], known: Mapping) -> None:
    """Raise UserError unless `names` are some of `known`, each once, that this config makes.

    Args:
        key: the config's key that holds `names`.
    """
    for name in names:
        pick(key, name, known)
    if not names or len(set(names)) < len(names):
        raise UserError(
            f"{key} is {tuple(names)}; it must name some of {', '.join(known)}, each once"
        )
    if "clues" in names and not (cfg.MODEL.MPFR.ENABLED or cfg.MODEL.SDCE.ENABLED):
        raise UserError(f"{key}: no clues with MODEL.MPFR and MODEL.SDCE off; leave them out")
