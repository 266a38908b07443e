"""An architecture of one's own around fast-reid's ResNet: `--import my_architecture`.

MODEL.META_ARCHITECTURE SharedResNet
MODEL.BACKBONE.NAME     build_resnet_backbone
"""

import torch
from torch import Tensor, nn

from fastreid.config import CfgNode
from fastreid.modeling.backbones import build_backbone
from fastreid.modeling.heads import build_heads
from fastreid.modeling.meta_arch import META_ARCH_REGISTRY

from icre.modeling.losses import Outputs, build_losses


@META_ARCH_REGISTRY.register()
class SharedResNet(nn.Module):
    """One ResNet for both modalities, with a learned offset of the pixels of each."""

    two_stream = True  # it needs each image's modality

    def __init__(self, cfg: CfgNode):
        super().__init__()
        self.backbone = build_backbone(cfg)
        self.heads = build_heads(cfg)
        self.losses = nn.ModuleList(build_losses(cfg))
        self.offset = nn.Parameter(torch.zeros(2, 3, 1, 1))
        mean, std = torch.tensor(cfg.MODEL.PIXEL_MEAN), torch.tensor(cfg.MODEL.PIXEL_STD)
        self.register_buffer("pixel_mean", mean.view(1, 3, 1, 1), False)
        self.register_buffer("pixel_std", std.view(1, 3, 1, 1), False)

    @property
    def device(self) -> torch.device:
        """Where the inputs go."""
        return self.pixel_mean.device

    def forward(self, batch: dict[str, Tensor]) -> Tensor | dict[str, Tensor]:
        """Features (B, C) in evaluation, {name: scalar loss} in training."""
        modalities = batch["modalities"].to(self.device)
        images = (batch["images"].to(self.device) - self.pixel_mean) / self.pixel_std
        x = self.backbone(images + self.offset[modalities])  # (B, C, h, w)
        if not self.training:
            return self.heads(x)
        targets = batch["targets"].to(self.device)
        predicted = self.heads(x, targets)
        outputs = Outputs(
            features=predicted["features"],
            cls_outputs=predicted["cls_outputs"],
            deep=x,
            clues=None,
            pool=self.heads.pool_layer,
        )
        losses: dict[str, Tensor] = {}
        for loss in self.losses:
            losses.update(loss(outputs, targets, modalities))
        return losses
