"""fast-reid's own losses under the names and keys of its Baseline, in float32 under autocast."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastreid.config import CfgNode, configurable
from fastreid.modeling.losses import pairwise_circleloss, pairwise_cosface, triplet_loss

from icre.modeling.losses.outputs import Outputs
from icre.modeling.losses.registry import LOSS_REGISTRY


def cross_entropy_loss(logits: Tensor, targets: Tensor, eps: float, alpha: float = 0.2) -> Tensor:
    """fast-reid's loss of that name, bit by bit, without making the CPU wait for the GPU.

    Theirs (fastreid/modeling/losses/cross_entroy_loss.py:50) counts the images whose loss is not 0
    on the CPU, in every step, which also ends a compiled graph there.

    Args:
        logits: (B, classes) float32.
        targets: (B,) identities.
        eps: share of the label that the other classes get; -1: `alpha` times the probability.
        alpha: see `eps`.

    Returns:
        The mean over the images whose loss is not 0; 0-d.
    """
    targets = targets.unsqueeze(1)  # (B, 1)
    log_probs = F.log_softmax(logits, dim=1)
    with torch.no_grad():
        smooth = eps if eps >= 0 else alpha * logits.softmax(dim=1).gather(1, targets)
        labels = torch.ones_like(log_probs) * (smooth / (logits.shape[1] - 1))
        labels.scatter_(1, targets, 1 - smooth)
    loss = (-labels * log_probs).sum(dim=1)  # (B,)
    return loss.sum() / (loss.detach() != 0).sum().clamp_min(1)


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
