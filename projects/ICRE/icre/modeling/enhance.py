"""From the backbone's maps to the enhanced map F_e.

    F_e = X_4 + BN0(Conv1x1_{d->C}(distil(X_4, clues(maps))))

or another way to join the two (MODEL.SDCE.OUTPUT). `build_enhancement` chooses the parts: `clues`
is MPFR, or layer3 alone if MPFR is off; `distil` is SDCE, or the clue map itself if SDCE is off;
with both off F_e = X_4, the two-stream baseline. With MODEL.SDCE.PLACE layer3 the same is done to
X_3, and layer4 follows.

Shapes: B images, C channels of the place (layer4), d clue channels, (h, w) = its grid.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from fastreid.config import CfgNode
from fastreid.layers import get_norm

from icre.modeling.mpfr import build_clues
from icre.modeling.sdce import SDCE, CluesOnly
from icre.utils.choice import one_of

OUTPUTS = ("residual", "replace", "concat")  # MODEL.SDCE.OUTPUT
PLACES = ("layer4", "layer3")  # MODEL.SDCE.PLACE


@dataclass
class Enhanced:
    """Result of the enhancement.

    Attributes:
        map: F_e, (B, C, h, w), float32.
        deep: the map that was enhanced, X_4, (B, C, h, w).
        branch: BN0's result, which a residual adds to `deep`, (B, C, h, w), float32; None for the
            baseline.
        clues: F_c, (B, d, h, w); None for the baseline.
        masks: {stage: (B, 1, h, w) in 0..1}; empty without MPFR.
    """

    map: Tensor
    deep: Tensor
    branch: Tensor | None = None
    clues: Tensor | None = None
    masks: dict[str, Tensor] = field(default_factory=dict)


class Enhancement(nn.Module):
    """F_e = X_4 + BN0(Conv1x1(distil(X_4, clues(maps)))).

    BN0 and the sum are computed in float32 also under autocast: with a small BN0 the branch would
    vanish in bfloat16's eight bits.

    Args:
        clues: maps -> (clue map F_c (B, d, h, w), masks); MPFR or StageClues.
        distil: (X_4, F_c) -> T (B, d, h, w); SDCE or CluesOnly.
        dim: d.
        out_channels: C.
        init_scale: BN0's initial weight in a residual; 0 makes step 0 the baseline. Other outputs
            start at 1, as they have no X_4 beside the branch.
        norm: fast-reid's name of the normalisation.
        place: stage whose map is enhanced.
        output: F_e. "residual": X_4 + BN0(Conv(T)); "replace": BN0(Conv(T)); "concat":
            BN0(Conv([X_4; T])).
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
        place: str = "layer4",
        output: str = "residual",
    ):
        super().__init__()
        self.place = one_of("MODEL.SDCE.PLACE", place, PLACES)
        self.clues = clues
        self.distil = distil
        self.output = one_of("MODEL.SDCE.OUTPUT", output, OUTPUTS)
        width = out_channels + dim if output == "concat" else dim
        self.project = nn.Conv2d(width, out_channels, 1, bias=False)
        nn.init.kaiming_normal_(self.project.weight, mode="fan_out")
        self.bn0 = get_norm(norm, out_channels)
        nn.init.constant_(self.bn0.weight, init_scale if output == "residual" else 1.0)

    def forward(self, maps: Mapping[str, Tensor]) -> Enhanced:
        """{name: (B, C_s, H_s, W_s)} up to the place -> Enhanced."""
        deep = maps[self.place]  # X_4: (B, C, h, w)
        clues, masks = self.clues(maps)  # F_c: (B, d, h, w), {stage: (B, 1, h, w)}
        branch = self.distil(deep, clues)  # (B, d, h, w)
        if self.output == "concat":
            branch = torch.cat([deep, branch], dim=1)  # (B, C+d, h, w)
        # autocast leaves norms and sums in the type of their inputs
        branch = self.bn0(self.project(branch).float())  # (B, C, h, w)
        enhanced = deep.float() + branch if self.output == "residual" else branch
        return Enhanced(enhanced, deep, branch, clues, masks)


class NoEnhancement(nn.Module):
    """The baseline: F_e = X_4."""

    place = "layer4"

    def forward(self, maps: Mapping[str, Tensor]) -> Enhanced:
        """{"layer4": (B, C, h, w), ...} -> Enhanced with its float32 copy."""
        return Enhanced(maps["layer4"].float(), maps["layer4"])


def build_enhancement(cfg: CfgNode, channels: Mapping[str, int]) -> nn.Module:
    """Build the enhancement with the parts that `MODEL.MPFR` and `MODEL.SDCE` switch on.

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
            in_channels=channels[sdce.PLACE],
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
        out_channels=channels[sdce.PLACE],
        init_scale=sdce.INIT_SCALE,
        norm=cfg.MODEL.BACKBONE.NORM,
        place=sdce.PLACE,
        output=sdce.OUTPUT,
    )
