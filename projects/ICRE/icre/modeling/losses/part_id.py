"""ID losses of a head's strips (PCB: Sun et al., ECCV 2018)."""

from typing import Any

import torch
from torch import Tensor, nn

from fastreid.config import CfgNode, configurable

from icre.modeling.losses.outputs import Outputs
from icre.modeling.losses.registry import LOSS_REGISTRY
from icre.modeling.losses.stock import cross_entropy_loss
from icre.utils.errors import UserError


@LOSS_REGISTRY.register()
class PartIDLoss(nn.Module):
    """Sum over PCBHead's strips of the ID loss on the strip's logits (PCB, ECCV 2018).

    Keys: MODEL.LOSSES.CE, as of CrossEntropyLoss.

    Args:
        scale: weight of the loss.
        smoothing: fast-reid's `eps` and `alpha` of the cross-entropy.
    """

    @configurable
    def __init__(self, *, scale: float, smoothing: tuple[float, float]):
        super().__init__()
        self.scale, self.smoothing = scale, smoothing

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Read MODEL.LOSSES.CE; a UserError without strips."""
        if cfg.MODEL.HEADS.NAME != "PCBHead":
            raise UserError(
                f"MODEL.LOSSES.NAME PartIDLoss needs MODEL.HEADS.NAME PCBHead, not "
                f"{cfg.MODEL.HEADS.NAME}, which has one classifier"
            )
        node = cfg.MODEL.LOSSES.CE
        return {"scale": node.SCALE, "smoothing": (node.EPSILON, node.ALPHA)}

    def forward(self, outputs: Outputs, targets: Tensor, modalities: Tensor) -> dict[str, Tensor]:
        """See `icre.modeling.losses`; the modalities are not used."""
        assert outputs.cls_outputs is not None
        strips = outputs.cls_outputs.float().unbind(dim=1)  # (B, classes) each
        losses = [cross_entropy_loss(logits, targets, *self.smoothing) for logits in strips]
        return {"loss_cls": self.scale * torch.stack(losses).sum()}
