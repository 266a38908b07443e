"""Input of every loss: what the network computed for a training batch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fastreid.config import CfgNode

from icre.utils.choice import one_of
from icre.utils.errors import UserError


@dataclass
class Outputs:
    """The network's results for a batch; each loss takes what it needs.

    Attributes:
        features: f, input of the metric losses, (B, C).
        cls_outputs: logits of the ID loss, (B, classes), with the margin of MODEL.HEADS.CLS_LAYER.
        neck: b, the feature behind the BNNeck, (B, C); None if the head has none.
        embeddings: R, how many embeddings the backbone makes of each image. B is then R times the
            images, and targets and modalities repeat: first the first embedding of all images.
        deep: X_4, the deep map before the enhancement, (B, C, h, w).
        clues: F_c, the clue map, (B, d, h, w); None for the baseline.
        pool: the head's pooling, (B, C, h, w) -> (B, C, 1, 1).
    """

    features: Tensor
    cls_outputs: Tensor | None = None
    neck: Tensor | None = None
    embeddings: int = 1
    deep: Tensor | None = None
    clues: Tensor | None = None
    pool: Callable[[Tensor], Tensor] | None = None

    def feature_map(self, name: str) -> Tensor:
        """The map "deep" or "clues"; raises ValueError if the network has none."""
        found = {"deep": self.deep, "clues": self.clues}[name]
        if found is None:
            raise ValueError(f"the network has no map '{name}'")
        return found

    def pooled(self, name: str) -> Tensor:
        """Pool the map "deep" or "clues" as the head does, in float32: (B, its channels)."""
        if self.pool is None:
            raise ValueError("the network has no pooling")
        return self.pool(self.feature_map(name).float())[..., 0, 0]

    @torch.no_grad()
    def unenhanced(self) -> Tensor:
        """The pooled deep map: f as it would be without the enhancement; (B, C), no gradient."""
        return self.pooled("deep")


def check_maps(cfg: CfgNode, key: str, names: Sequence[str], known: Sequence[str]) -> None:
    """Raise UserError unless `names` are some of `known`, each once, that this config makes.

    Args:
        key: the config's key that holds `names`.
    """
    for name in names:
        one_of(key, name, known)
    if not names or len(set(names)) < len(names):
        raise UserError(
            f"{key} is {tuple(names)}; it must name some of {', '.join(known)}, each once"
        )
    if "clues" in names and not (cfg.MODEL.MPFR.ENABLED or cfg.MODEL.SDCE.ENABLED):
        raise UserError(f"{key}: no clues with MODEL.MPFR and MODEL.SDCE off; leave them out")
    if "deep" in names:
        require_deep_map(cfg, f"{key} deep")


def require_deep_map(cfg: CfgNode, what: str) -> None:
    """Raise UserError, which begins with `what`, if this config makes no un-enhanced X_4."""
    if cfg.MODEL.SDCE.PLACE != "layer4" and (cfg.MODEL.MPFR.ENABLED or cfg.MODEL.SDCE.ENABLED):
        raise UserError(
            f"{what} needs layer4's map without the enhancement, which MODEL.SDCE.PLACE "
            f"{cfg.MODEL.SDCE.PLACE} does not make: take PLACE layer4"
        )
