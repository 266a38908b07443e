"""A backbone of one's own: `--import my_backbone MODEL.BACKBONE.NAME build_my_backbone`.

ICRE makes two streams of it, as the contract in icre/modeling/backbone.py says; fast-reid's
architectures take it as it is.
"""

from torch import nn

from fastreid.config import CfgNode
from fastreid.modeling.backbones import BACKBONE_REGISTRY

from icre.modeling import StagedBackbone

WIDTHS = (16, 32, 64, 128, 256)  # of the stem and of the four stages; FEAT_DIM is the last


def block(before: int, after: int) -> nn.Sequential:
    """Half the resolution, another width."""
    conv = nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(after), nn.ReLU(inplace=True))


@BACKBONE_REGISTRY.register()
def build_my_backbone(cfg: CfgNode) -> StagedBackbone:
    """Five convolutions; the first exists once per modality."""
    stages = {f"layer{i}": block(*WIDTHS[i - 1 : i + 1]) for i in range(1, 5)}
    return StagedBackbone(block(3, WIDTHS[0]), stages)
