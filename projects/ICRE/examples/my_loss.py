"""A loss of one's own, with a key of its own: `--import my_loss`."""

import torch
from torch import Tensor, nn

from fastreid.config import CfgNode

from icre.modeling.losses import LOSS_REGISTRY


def add_config(cfg: CfgNode) -> None:
    """Keys of this module; they are set, saved and swept as all others."""
    cfg.MODEL.LOSSES.MEAN_GAP = CfgNode({"SCALE": 0.5})


@LOSS_REGISTRY.register()
class MeanGapLoss(nn.Module):
    """Distance between the mean visible and the mean infrared feature of a batch."""

    def __init__(self, cfg: CfgNode):
        super().__init__()
        self.scale = cfg.MODEL.LOSSES.MEAN_GAP.SCALE

    def forward(self, outputs, targets: Tensor, modalities: Tensor) -> dict[str, Tensor]:
        """The model's outputs, identities (B,) and modalities (B,) -> {name: scalar}."""
        means = [outputs.features[modalities == modality].mean(dim=0) for modality in (0, 1)]
        return {"loss_mean_gap": self.scale * torch.dist(*means)}
