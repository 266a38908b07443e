"""fast-reid's own losses under the names and keys of its Baseline, in float32 under autocast."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from fastreid.config import CfgNode, configurable
from fastreid.modeling.losses import (
    cross_entropy_loss,
    pairwise_circleloss,
    pairwise_cosface,
    triplet_loss,
)

from icre.modeling.losses.outputs import Outputs
from icre.modeling.losses.registry import LOSS_REGISTRY


class StockLoss(nn.Module):
    """scale * function(outputs.<source>, targets, **options), logged as `log_name`.

    Args:
        scale: weight of the loss.
        options: the remaining arguments of `function`.
    """

    function: Callable[..., Tensor]
    source: str
    log_name: str

    @configurable
    def __init__(self, *, scale: float, **options: Any):
        super().__init__()
        self.scale = scale
        self.options = options

    def forward(self, outputs: Outputs, targets: Tensor, modalities: Tensor) -> dict[str, Tensor]:
        """See `icre.modeling.losses`; the modalities are not used."""
        predicted = getattr(outputs, self.source)
        with torch.autocast(predicted.device.type, enabled=False):
            loss = self.function(predicted.float(), targets, **self.options)
        return {self.log_name: self.scale * loss}


@LOSS_REGISTRY.register()
class CrossEntropyLoss(StockLoss):
    """The ID loss on the logits; EPSILON smooths labels (0: none, -1: adaptively with ALPHA)."""

    function, source, log_name = staticmethod(cross_entropy_loss), "cls_outputs", "loss_cls"

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Read MODEL.LOSSES.CE."""
        node = cfg.MODEL.LOSSES.CE
        return {"scale": node.SCALE, "eps": node.EPSILON, "alpha": node.ALPHA}


@LOSS_REGISTRY.register()
class TripletLoss(StockLoss):
    """Triplet loss on f, hard or weighted mining, blind to modality."""

    function, source, log_name = staticmethod(triplet_loss), "features", "loss_triplet"

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Read MODEL.LOSSES.TRI."""
        node = cfg.MODEL.LOSSES.TRI
        return {
            "scale": node.SCALE,
            "margin": node.MARGIN,
            "norm_feat": node.NORM_FEAT,
            "hard_mining": node.HARD_MINING,
        }


@LOSS_REGISTRY.register()
class CircleLoss(StockLoss):
    """Pairwise circle loss on f (Sun et al., CVPR 2020)."""

    function, source, log_name = staticmethod(pairwise_circleloss), "features", "loss_circle"

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Read MODEL.LOSSES.CIRCLE."""
        node = cfg.MODEL.LOSSES.CIRCLE
        return {"scale": node.SCALE, "margin": node.MARGIN, "gamma": node.GAMMA}


@LOSS_REGISTRY.register()
class Cosface(StockLoss):
    """Pairwise CosFace loss on f."""

    function, source, log_name = staticmethod(pairwise_cosface), "features", "loss_cosface"

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Read MODEL.LOSSES.COSFACE."""
        node = cfg.MODEL.LOSSES.COSFACE
        return {"scale": node.SCALE, "margin": node.MARGIN, "gamma": node.GAMMA}
