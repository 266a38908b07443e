"""MPFR: shallow maps of several resolutions, refined into one map of identity clues.

Multi-Perception Feature Refinement of ICRE (arXiv 2512.04522). The paper states the parts (one
scale and width, a spatial importance mask per stage, one fused clue map); the equations are our
reading of it (method card, projects/ICRE/README.md).

Shapes: B images, S stages of C_s channels, d clue channels, (h, w) = grid of layer4.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from fastreid.config import CfgNode
from fastreid.layers import get_norm
from torch import Tensor, nn

from icre.errors import UserError


class ConvNormReLU(nn.Sequential):
    """ReLU(BN(Conv1x1(x))): (B, C, h, w) -> (B, d, h, w). `norm` is a name of fast-reid's."""

    def __init__(self, in_channels: int, out_channels: int, norm: str):
        conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        super().__init__(conv, get_norm(norm, out_channels), nn.ReLU(inplace=True))


class StageClues(nn.Module):
    """Clues without MPFR: one stage's map, brought to layer4's grid and d channels.

    A_s = ReLU(BN(Conv1x1(resize_{h,w}(X_s))))

    Args:
        stage: name of the map to take.
        channels: its channels C_s.
        dim: channels d of the result.
        norm: fast-reid's name of the normalisation.
    """

    def __init__(self, *, stage: str, channels: int, dim: int, norm: str = "BN"):
        super().__init__()
        self.stage = stage
        self.project = ConvNormReLU(channels, dim, norm)

    def forward(self, maps: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """{name: (B, C_s, H_s, W_s)} with layer4 -> clues (B, d, h, w) and no masks."""
        grid = maps["layer4"].shape[-2:]
        return self.project(F.adaptive_avg_pool2d(maps[self.stage], grid)), {}


class MPFR(nn.Module):
    """Clue map of several stages, each weighted by a spatial mask of its own.

    M   = sigmoid(Conv1x1([A_s]_s))                one mask per stage
    F_c = ReLU(BN(Conv1x1(sum_s M_s * A_s)))       the clue map

    Args:
        channels: stage name -> its channels C_s, in the order of the masks.
        dim: channels d of the aligned maps and of the clue map.
        norm: fast-reid's name of the normalisation.
    """

    def __init__(self, *, channels: Mapping[str, int], dim: int, norm: str = "BN"):
        super().__init__()
        self.align = nn.ModuleDict(
            {s: StageClues(stage=s, channels=c, dim=dim, norm=norm) for s, c in channels.items()}
        )
        self.mask = nn.Conv2d(len(channels) * dim, len(channels), 1)
        self.fuse = ConvNormReLU(dim, dim, norm)

    def forward(self, maps: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Refine the stages' maps.

        Args:
            maps: {name: (B, C_s, H_s, W_s)}, at least MPFR's stages and layer4.

        Returns:
            The clue map (B, d, h, w), and {stage: mask (B, 1, h, w) with values in 0..1}.
        """
        aligned = [align(maps)[0] for align in self.align.values()]  # S x (B, d, h, w)
        masks = torch.sigmoid(self.mask(torch.cat(aligned, dim=1))).split(1, dim=1)
        clues = self.fuse(sum(m * a for m, a in zip(masks, aligned)))  # (B, d, h, w)
        return clues, dict(zip(self.align, masks))


def build_clues(cfg: CfgNode, channels: Mapping[str, int]) -> nn.Module:
    """MPFR of `cfg.MODEL.MPFR`; where it is off, layer3 alone gives the clues.

    Args:
        cfg: the configuration.
        channels: stage name -> channels, of all maps that the backbone returns.
    """
    node = cfg.MODEL.MPFR
    shared = {"dim": node.DIM, "norm": cfg.MODEL.BACKBONE.NORM}
    if not node.ENABLED:
        return StageClues(stage="layer3", channels=channels["layer3"], **shared)
    unknown = [stage for stage in node.STAGES if stage not in channels]
    if unknown or not node.STAGES:
        raise UserError(
            f"MODEL.MPFR.STAGES is {tuple(node.STAGES)}; it must name some of {', '.join(channels)}"
        )
    return MPFR(channels={stage: channels[stage] for stage in node.STAGES}, **shared)
