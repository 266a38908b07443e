"""DEEN's backbone: several embeddings of each image before the last stage.

"Diverse Embedding Expansion Network and Low-Light Cross-Modality Benchmark for Visible-Infrared
Person Re-identification", Zhang and Wang, CVPR 2023. Two streams of a ResNet; behind each stage but
the last its map is fused with the map before it (MFA), and in front of the last stage two branches
of dilated convolutions add two embeddings (DEE). Written from the paper and checked against the
authors' public code. Its losses: `CrossModalityPatternLoss`, `OrthogonalEmbeddingLoss`.

Shapes: B images, C channels of a stage's map and Cl of the map before it.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastreid.config import CfgNode
from fastreid.modeling.backbones import BACKBONE_REGISTRY

from icre.modeling.backbone import STAGES, StagedBackbone
from icre.modeling.two_stream import TwoStream, build_resnet

EMBEDDINGS = 3  # of each image: the stage's own map, and two that DEE adds
DILATIONS = (1, 2, 3)
DROPOUT = 0.01


class ChannelFusion(nn.Module):
    """Channel non-local block: z = high + BN(W(softless attention of channels over `low`)).

    Args:
        high, low: channels of the two maps.
        stride: of the high map over the low one.
    """

    def __init__(self, high: int, low: int, stride: int):
        super().__init__()
        self.g = nn.Conv2d(low, low, 1)
        self.theta = nn.Conv2d(high, low, 1)
        self.phi = nn.Conv2d(low, low, 1, stride=stride)
        self.W = _zero_at_start(low, high, stride)

    def forward(self, high: Tensor, low: Tensor) -> Tensor:
        """(B, C, h, w), (B, Cl, H, W) -> (B, C, h, w)."""
        energy = self.theta(high).flatten(2) @ self.phi(low).flatten(2).mT  # (B, Cl, Cl)
        mixed = (energy / energy.shape[-1]) @ self.g(low).flatten(2)  # (B, Cl, H * W)
        return self.W(mixed.unflatten(2, low.shape[2:])) + high


class PositionFusion(nn.Module):
    """Position non-local block: the high map's positions attend to those of the low map.

    As in the public code, whose views have twice the channels that there are: a position of a map's
    first half and the one that far into its second half are one position. Both maps must have an
    even number of positions.

    Args:
        high, low: channels of the two maps; the convolutions have low / 2.
    """

    def __init__(self, high: int, low: int):
        super().__init__()
        self.low = low
        self.g = nn.Conv2d(low, low // 2, 1)
        self.theta = nn.Conv2d(high, low // 2, 1)
        self.phi = nn.Conv2d(low, low // 2, 1)
        self.W = _zero_at_start(low // 2, high, 1)

    def forward(self, high: Tensor, low: Tensor) -> Tensor:
        """(B, C, h, w), (B, Cl, H, W) -> (B, C, h, w)."""
        energy = self._halves(self.theta(high)).mT @ self._halves(self.phi(low))
        attention = energy / energy.shape[-1]  # (B, h * w / 2, H * W / 2)
        mixed = self._halves(self.g(low)) @ attention.mT  # (B, Cl, h * w / 2)
        return self.W(mixed.reshape(len(high), -1, *high.shape[2:])) + high

    def _halves(self, x: Tensor) -> Tensor:
        """(B, Cl / 2, h, w) -> (B, Cl, h * w / 2)."""
        return x.reshape(len(x), self.low, -1)


class MultiStageFusion(nn.Module):
    """MFA: a stage's map with the map that the stage took, fused by channels, then positions."""

    def __init__(self, high: int, low: int, stride: int):
        super().__init__()
        self.channels = ChannelFusion(high, low, stride)
        self.positions = PositionFusion(high, low)

    def forward(self, high: Tensor, low: Tensor) -> Tensor:
        """(B, C, h, w), (B, Cl, H, W) -> (B, C, h, w)."""
        return self.positions(self.channels(high, low), low)


class Branch(nn.Module):
    """One embedding of DEE: the mean of three dilated convolutions, ReLU, and a 1x1 convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.dilated = nn.ModuleList(
            nn.Conv2d(channels, channels // 4, 3, padding=d, dilation=d, bias=False)
            for d in DILATIONS
        )
        self.project = nn.Conv2d(channels // 4, channels, 1)
        for conv in (*self.dilated, self.project):
            nn.init.kaiming_normal_(conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        mean = sum(conv(x) for conv in self.dilated) / len(DILATIONS)
        return self.project(F.relu(mean))


class DiverseEmbeddings(nn.Module):
    """DEE: a map and two more embeddings of it, one behind the other, with dropout on all."""

    def __init__(self, channels: int):
        super().__init__()
        self.branches = nn.ModuleList(Branch(channels) for _ in range(EMBEDDINGS - 1))
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (3 * B, C, h, w)."""
        return self.dropout(torch.cat([x, *(branch(x) for branch in self.branches)]))


class DEENStages(nn.Module):
    """A ResNet's stages with MFA between them and DEE in front of the last one.

    Args:
        stages: layer1..layer4 of the ResNet.
        channels: of the stem's map ("stem") and of each stage's.
        last: the last stage; with layer3, layer4's map is layer3's.
    """

    def __init__(self, stages: Mapping[str, nn.Module], channels: Mapping[str, int], last: str):
        super().__init__()
        names = STAGES[: STAGES.index(last) + 1]
        self.stages = nn.ModuleDict({name: stages[name] for name in names})
        before = dict(zip(names, ("stem", *names)))
        self.fusions = nn.ModuleDict(
            {
                # a ResNet's first stage keeps the stem's grid, the others halve theirs
                name: MultiStageFusion(
                    channels[name], channels[before[name]], 1 if name == "layer1" else 2
                )
                for name in names[:-1]
            }
        )
        self.expand = DiverseEmbeddings(channels[before[last]])

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(B, C0, h0, w0) -> maps; that of the last stage has 3 * B rows."""
        maps: dict[str, Tensor] = {}
        for name, stage in self.stages.items():
            if name in self.fusions:
                x = maps[name] = self.fusions[name](stage(x), x)
            else:
                x = maps[name] = stage(self.expand(x))
        return {**maps, "layer4": x}


@BACKBONE_REGISTRY.register()
def build_deen_backbone(cfg: CfgNode) -> TwoStream:
    """DEEN on fast-reid's ResNet; pretrained weights as for `build_two_stream_resnet_backbone`."""
    last = cfg.MODEL.DEEN.LAST_STAGE
    resnet = build_resnet(cfg)
    channels = {"stem": resnet.stem.conv1.out_channels, **resnet.channels}
    stages = DEENStages(resnet.stages, channels, last)
    backbone = StagedBackbone(resnet.stem, stages, {**channels, "layer4": channels[last]})
    two_stream = TwoStream(backbone, cfg.MODEL.BACKBONE.SPECIFIC_STAGES)
    two_stream.embeddings = EMBEDDINGS
    return two_stream


def _zero_at_start(inner: int, outer: int, stride: int) -> nn.Sequential:
    """1x1 convolution and a batch norm of weight 0, so that a block begins as the identity."""
    norm = nn.BatchNorm2d(outer)
    nn.init.zeros_(norm.weight)
    return nn.Sequential(nn.Conv2d(inner, outer, 1, stride=stride), norm)
