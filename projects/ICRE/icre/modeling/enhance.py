"""From the backbone's maps to the enhanced map F_e: clues, distillation, and how it is added.

    F_e = X_4 + BN0(Conv1x1_{d->C}(distil(X_4, clues(maps))))

or, by MODEL.SDCE.OUTPUT, another way to join the two (OUTPUTS below). Which parts stand in for
`clues` and `distil` is chosen once, in `build_enhancement`: MPFR and SDCE on: both modules; MPFR
off: layer3 alone gives the clues; SDCE off: the clue map itself is projected; both off: F_e = X_4,
the two-stream baseline.

Shapes: B images, C channels of layer4, d clue channels, (h, w) = grid of layer4.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fastreid.config import CfgNode
from fastreid.layers import get_norm

from icre.modeling.mpfr import build_clues
from icre.modeling.sdce import SDCE, CluesOnly
from icre.utils.choice import pick


@dataclass
class Enhanced:
    """What the enhancement hands on.

    Attributes:
        map: F_e, (B, C, h, w), float32.
        branch: BN0's result (residual: what was added to X_4), (B, C, h, w), float32; None for the
            baseline.
        clues: F_c, (B, d, h, w); None for the baseline.
        masks: {stage: (B, 1, h, w) in 0..1}; empty without MPFR.
    """

    map: Tensor
    branch: Tensor | None = None
    clues: Tensor | None = None
    masks: dict[str, Tensor] = field(default_factory=dict)


class Output(NamedTuple):
    """How the deep map and the distilled one become F_e.

    `reads`: (X_4 (B, C, h, w), distilled (B, d, h, w)) -> what the projection reads.
    `gives`: (X_4, BN0's result), float32 -> F_e.
    `scale`: BN0's initial weight where it is not for MODEL.SDCE.INIT_SCALE to say.
    """

    reads: Callable[[Tensor, Tensor], Tensor]
    gives: Callable[[Tensor, Tensor], Tensor]
    scale: float | None


# MODEL.SDCE.OUTPUT. Without X_4 in the sum, a BN0 that starts at 0 would give features of 0.
OUTPUTS = {
    # F_e = X_4 + BN0(Conv1x1(T2'))
    "residual": Output(lambda deep, new: new, lambda deep, branch: deep + branch, None),
    # F_e = BN0(Conv1x1(T2'))
    "replace": Output(lambda deep, new: new, lambda deep, branch: branch, 1.0),
    # F_e = BN0(Conv1x1_{C+d->C}([X_4; T2']))
    "concat": Output(
        lambda deep, new: torch.cat([deep, new], dim=1), lambda deep, branch: branch, 1.0
    ),
}


class Enhancement(nn.Module):
    """F_e = X_4 + BN0(Conv1x1(distil(X_4, clues(maps)))).

    BN0 and the sum are computed in float32 whatever autocast says: with a small BN0 the branch
    would vanish in bfloat16's eight bits.

    Args:
        clues: maps -> (clue map (B, d, h, w), masks).
        distil: (X_4, clue map) -> (B, d, h, w).
        dim: d.
        out_channels: C.
        init_scale: BN0's initial weight in a residual; 0 makes step 0 the baseline.
        norm: fast-reid's name of the normalisation.
        output: one of OUTPUTS.
    """

    def __init__(
        self,
        *,
        clues: nn.Module,
        distil: nn.Module,
        dim: int,
        out_channels: int,
        init_scale: float = 0.0,
        norm: str = "BN",
        output: str = "residual",
    ):
        super().__init__()
        self.clues = clues
        self.distil = distil
        self.output = pick("MODEL.SDCE.OUTPUT", output, OUTPUTS)
        # how many channels the projection reads, asked of empty maps
        width = self.output.reads(torch.empty(1, out_channels, 0), torch.empty(1, dim, 0)).shape[1]
        self.project = nn.Conv2d(width, out_channels, 1, bias=False)
        nn.init.kaiming_normal_(self.project.weight, mode="fan_out")
        self.bn0 = get_norm(norm, out_channels)
        scale = init_scale if self.output.scale is None else self.output.scale
        nn.init.constant_(self.bn0.weight, scale)

    def forward(self, maps: Mapping[str, Tensor]) -> Enhanced:
        """{name: (B, C_s, H_s, W_s)} with layer4 -> Enhanced."""
        deep = maps["layer4"]  # (B, C, h, w)
        clues, masks = self.clues(maps)  # (B, d, h, w), {stage: (B, 1, h, w)}
        branch = self.project(self.output.reads(deep, self.distil(deep, clues)))  # (B, C, h, w)
        branch = self.bn0(branch.float())  # norms and sums keep their inputs' type in autocast
        return Enhanced(self.output.gives(deep.float(), branch), branch, clues, masks)


class NoEnhancement(nn.Module):
    """The baseline: F_e = X_4."""

    def forward(self, maps: Mapping[str, Tensor]) -> Enhanced:
        """{"layer4": (B, C, h, w), ...} -> Enhanced with its float32 copy."""
        return Enhanced(maps["layer4"].float())


def build_enhancement(cfg: CfgNode, channels: Mapping[str, int]) -> nn.Module:
    """The parts that `MODEL.MPFR` and `MODEL.SDCE` switch on.

    Args:
        cfg: the configuration.
        channels: stage name -> channels, of all maps that the backbone returns.
    """
    dim, sdce = cfg.MODEL.MPFR.DIM, cfg.MODEL.SDCE
    if not (cfg.MODEL.MPFR.ENABLED or sdce.ENABLED):
        return NoEnhancement()
    distil: nn.Module = CluesOnly()
    if sdce.ENABLED:
        distil = SDCE(
            in_channels=channels["layer4"],
            dim=dim,
            heads=sdce.HEADS,
            ffn_ratio=sdce.FFN_RATIO,
            dropout=sdce.DROPOUT,
            query=sdce.QUERY,
            order=sdce.ORDER,
        )
    return Enhancement(
        clues=build_clues(cfg, channels),
        distil=distil,
        dim=dim,
        out_channels=channels["layer4"],
        init_scale=sdce.INIT_SCALE,
        norm=cfg.MODEL.BACKBONE.NORM,
        output=sdce.OUTPUT,
    )
