"""MPANet's modality alleviation and part masks.

"Discover Cross-Modality Nuances for Visible-Infrared Person Re-Identification", Wu et al., CVPR
2021. One stream of a ResNet for both modalities. Behind layer3 and layer4 a gate per channel mixes
the map with its instance norm (MAM); six learned masks pool parts, whose features stand beside the
global one. Written from the paper and checked against the authors' public code. Its losses:
`CenterClusterLoss`, `PartSeparationLoss`, `ModalityClassifierLoss`.

Shapes: B images, C channels, P parts.
"""

from typing import Any

import torch
from torch import Tensor, nn

from fastreid.config import CfgNode, configurable
from fastreid.modeling.backbones import BACKBONE_REGISTRY
from fastreid.modeling.heads import REID_HEADS_REGISTRY

from icre.modeling.backbone import Stages
from icre.modeling.head import ICREHead
from icre.modeling.two_stream import build_resnet

REDUCTION = 16  # of the gate's hidden layer


class ModalityAlleviation(nn.Module):
    """MAM: x * gate + IN(x) * (1 - gate), the gate in 0..1 per channel, from the pooled x."""

    def __init__(self, channels: int):
        super().__init__()
        self.gate = nn.Sequential(
            nn.Conv2d(channels, channels // REDUCTION, 1, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels // REDUCTION, channels, 1, bias=False),
            nn.Sigmoid(),
        )
        self.norm = nn.InstanceNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        gate = self.gate(x.mean(dim=(2, 3), keepdim=True))
        return x * gate + self.norm(x) * (1 - gate)


class OneStream(nn.Module):
    """A backbone for both modalities, with the interface of two streams.

    Args:
        stem, stages, channels: as `icre.modeling.backbone` describes them.
    """

    two_stream = True  # as its caller sees it: `modalities` are accepted

    def __init__(self, stem: nn.Module, stages: Stages, channels: dict[str, int]):
        super().__init__()
        self.stem, self.stages, self.channels = stem, stages, channels

    def forward(self, images: Tensor, modalities: Any, last: str = "layer4") -> dict[str, Tensor]:
        """(B, 3, H, W) -> {stage: map}; `modalities` are not used."""
        return self.stages(self.stem(images), last)


@BACKBONE_REGISTRY.register()
def build_mpanet_backbone(cfg: CfgNode) -> OneStream:
    """fast-reid's ResNet with MAM behind layer3 and layer4."""
    resnet = build_resnet(cfg)
    stages = dict(resnet.stages.items())
    for name in ("layer3", "layer4"):
        stages[name].add_module("mam", ModalityAlleviation(resnet.channels[name]))
    return OneStream(resnet.stem, Stages(stages), resnet.channels)


class MaskedParts(nn.Module):
    """Pooling by learned masks: the means of P masked maps, and of the map itself.

    Args:
        channels: C.
        parts: P.
    """

    def __init__(self, channels: int, parts: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, parts, 1)
        assert self.conv.bias is not None
        nn.init.zeros_(self.conv.bias)

    def masks(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, P, h, w) in 0..1."""
        return self.conv(x).sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, (P + 1) * C, 1, 1): P parts, then the whole."""
        masked = torch.einsum("bphw,bchw->bpc", self.masks(x), x) / x[0, 0].numel()
        whole = x.mean(dim=(2, 3)).unsqueeze(1)
        return torch.cat([masked, whole], dim=1).flatten(1)[..., None, None]


@REID_HEADS_REGISTRY.register()
class MPANetHead(ICREHead):
    """ICREHead whose feature is MODEL.HEADS.PARTS masked parts beside the mean of the map."""

    @configurable
    def __init__(self, *, feat_dim: int, parts: int, **options: Any):
        super().__init__(feat_dim=feat_dim * (parts + 1), **options)
        self.pool_layer = MaskedParts(feat_dim, parts)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """ICREHead's keywords, and MODEL.HEADS.PARTS."""
        return {**super().from_config(cfg), "parts": cfg.MODEL.HEADS.PARTS}
