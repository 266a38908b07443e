"""Separation of a head's part masks (MPANet: Wu et al., CVPR 2021)."""

from typing import Any

import torch
from torch import Tensor, nn

from fastreid.config import CfgNode, configurable

from icre.modeling.losses.outputs import Outputs
from icre.modeling.losses.registry import LOSS_REGISTRY
from icre.utils.errors import UserError


def part_separation(masks: Tensor) -> Tensor:
    """Mean over images and pairs of parts of the dot product of their masks.

    Args:
        masks: (B, P, h, w) in 0..1.

    Returns:
        0-d; a differentiable 0 of one part.
    """
    flat = masks.flatten(2)
    products = torch.triu(flat @ flat.mT, diagonal=1).sum(dim=(1, 2))  # (B,)
    parts = masks.shape[1]
    return products.mean() / max(parts * (parts - 1) / 2, 1)


@LOSS_REGISTRY.register()
class PartSeparationLoss(nn.Module):
    """Keeps MPANetHead's part masks from each other (MPANet, CVPR 2021).

    scale * `part_separation`; key: MODEL.LOSSES.PART_SEPARATION.SCALE.
    """

    @configurable
    def __init__(self, *, scale: float):
        super().__init__()
        self.scale = scale

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Read MODEL.LOSSES.PART_SEPARATION."""
        check(cfg)
        return {"scale": cfg.MODEL.LOSSES.PART_SEPARATION.SCALE}

    def forward(self, outputs: Outputs, targets: Tensor, modalities: Tensor) -> dict[str, Tensor]:
        """See `icre.modeling.losses`; targets and modalities are not used."""
        with torch.autocast(targets.device.type, enabled=False):
            masks = outputs.pool.masks(outputs.feature_map("deep").float())  # type: ignore
            loss = part_separation(masks)
        return {"loss_separation": self.scale * loss}


def check(cfg: CfgNode) -> None:
    """Raise UserError without part masks, or if they are not those of the un-enhanced map."""
    model = cfg.MODEL
    if model.HEADS.NAME != "MPANetHead":
        raise UserError(
            "MODEL.LOSSES.NAME PartSeparationLoss needs MODEL.HEADS.NAME MPANetHead, not "
            f"{model.HEADS.NAME}, which has no part masks"
        )
    for key in ("MPFR", "SDCE"):
        if model[key].ENABLED:
            raise UserError(
                "MODEL.LOSSES.NAME PartSeparationLoss takes the masks of the map without the "
                f"enhancement, and MPANetHead those of the enhanced map: MODEL.{key}.ENABLED must "
                "be False"
            )
