"""Two-stream ResNet: one stem per modality, shared stages, a dict of named maps.

Built on fast-reid's ResNet, so its depths, IBN, SE and non-local blocks and its pretrained weights
keep working. The split is AGW's (Ye et al., TPAMI 2021): conv1 and bn1 per modality, all else
shared; with one specific stage it is HcTri's (Liu et al., TMM 2021).

Shapes: B images, H x W pixels.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from fastreid.config import CfgNode, configurable
from fastreid.modeling.backbones import BACKBONE_REGISTRY, build_resnet_backbone
from fastreid.modeling.backbones.resnet import ResNet

from icre.modality import INFRARED, NAMES, VISIBLE
from icre.modeling.pretrained import load_pretrained, pretrained_file
from icre.utils.choice import one_of
from icre.utils.errors import UserError

STAGES = ("layer1", "layer2", "layer3", "layer4")
SPECIFIC_STAGES = (0, 1)  # MODEL.BACKBONE.SPECIFIC_STAGES
DEPTHS = ("18x", "34x", "50x", "101x")


class TwoStreamResNet(nn.Module):
    """A ResNet whose first layers exist once per modality.

    Args:
        resnet: fast-reid's ResNet, whose layers are used. Both stems start as copies of its stem.
        specific_stages: layers that exist once per modality: 0 conv1 and bn1; 1 layer1 as well.

    Attributes:
        channels: stage name -> channels of its map.
    """

    @configurable
    def __init__(self, *, resnet: ResNet, specific_stages: int = 0):
        super().__init__()
        one_of("MODEL.BACKBONE.SPECIFIC_STAGES", specific_stages, SPECIFIC_STAGES)
        self.channels = {name: _out_channels(getattr(resnet, name)) for name in STAGES}
        stages: dict[str, nn.Module] = {
            name: _stage(resnet, i) for i, name in enumerate(STAGES, start=1)
        }
        stem = nn.Sequential()
        for name in ("conv1", "bn1", "relu", "maxpool"):
            stem.add_module(name, getattr(resnet, name))
        if specific_stages == 1:
            stem.add_module("layer1", stages["layer1"])
            stages["layer1"] = nn.Identity()
        self.stems = nn.ModuleDict({name: copy.deepcopy(stem) for name in NAMES})
        self.stages = nn.ModuleDict(stages)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Build fast-reid's ResNet from `MODEL.BACKBONE`, pretrained if that is set."""
        if cfg.MODEL.BACKBONE.DEPTH not in DEPTHS:
            raise UserError(
                f"MODEL.BACKBONE.DEPTH is '{cfg.MODEL.BACKBONE.DEPTH}'; it must be one of "
                f"{', '.join(DEPTHS)}"
            )
        bare = cfg.clone()
        bare.defrost()
        bare.MODEL.BACKBONE.PRETRAIN = False  # icre.modeling.pretrained loads instead
        resnet = build_resnet_backbone(bare)
        if cfg.MODEL.BACKBONE.PRETRAIN:
            load_pretrained(resnet, pretrained_file(cfg))
        return {"resnet": resnet, "specific_stages": cfg.MODEL.BACKBONE.SPECIFIC_STAGES}

    def forward(self, images: Tensor, modalities: Tensor) -> dict[str, Tensor]:
        """Map every image through its modality's stem and then the shared stages.

        Args:
            images: (B, 3, H, W), normalised.
            modalities: (B,) integers of `icre.modality`, best on the CPU: finding a modality's
                images in a GPU tensor makes the CPU wait for the GPU.

        Returns:
            layer1 (B, C1, H/4, W/4), layer2 (B, C2, H/8, W/8), layer3 (B, C3, H/16, W/16) and
            layer4 (B, C4, H/16, W/16) with last stride 1; C1..C4 are `channels`.
        """
        x = self._stem(images, modalities.cpu())
        maps = {}
        for name, stage in self.stages.items():
            x = maps[name] = stage(x)
        return maps

    def _stem(self, images: Tensor, modalities: Tensor) -> Tensor:
        """(B, 3, H, W) and (B,) on the CPU -> (B, 64, H/4, W/4), in the batch's order.

        A stem sees only its own images, so neither modality leaks into the other's batch
        statistics; a modality that is not in the batch leaves its stem untouched.
        """
        indices = [torch.nonzero(modalities == m).flatten() for m in (VISIBLE, INFRARED)]
        order = torch.cat(indices)  # (B,), visible first
        if modalities.shape != images.shape[:1] or len(order) != len(images):
            raise UserError(
                f"modalities must hold {VISIBLE} or {INFRARED} for each of {len(images)} images, "
                f"not {modalities.tolist()}"
            )
        parts = [
            self.stems[name](images[index.to(images.device, non_blocking=True)])
            for name, index in zip(NAMES, indices)
            if len(index)
        ]
        inverse = torch.argsort(order).to(images.device, non_blocking=True)
        return torch.cat(parts)[inverse]


def _stage(resnet: ResNet, number: int) -> nn.Sequential:
    """Stage `number` (1..4) with its non-local blocks, each after the block that it follows."""
    non_local = dict(zip(getattr(resnet, f"NL_{number}_idx"), getattr(resnet, f"NL_{number}", [])))
    stage = nn.Sequential()
    for i, block in enumerate(getattr(resnet, f"layer{number}")):
        stage.append(block)
        if i in non_local:
            stage.append(non_local[i])
    return stage


def _out_channels(stage: nn.Sequential) -> int:
    """Output channels of a stage of fast-reid's BasicBlock or Bottleneck blocks."""
    block: Any = stage[-1]
    return block.conv1.out_channels * block.expansion


@BACKBONE_REGISTRY.register()
def build_two_stream_resnet_backbone(cfg: CfgNode) -> TwoStreamResNet:
    """Build the two-stream ResNet from `cfg.MODEL.BACKBONE`."""
    return TwoStreamResNet(cfg)
