"""MPFR: shallow maps of several resolutions, refined into one map of identity clues.

Multi-Perception Feature Refinement of ICRE (arXiv 2512.04522). The paper states the parts (one
scale and width, a spatial importance mask per stage, one fused clue map); the equations are our
reading of it (method card, projects/ICRE/README.md).

Shapes: B images, S stages of C_s channels, d clue channels, (h, w) = grid of the place where the
clues are used (MODEL.SDCE.PLACE, layer4).
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastreid.config import CfgNode
from fastreid.layers import get_norm

from icre.modeling.backbone import STAGES
from icre.utils.choice import one_of, pick
from icre.utils.errors import UserError

FUSIONS = ("sum", "concat")  # MODEL.MPFR.FUSE


def average_pool(x: Tensor, grid: tuple[int, int]) -> Tensor:
    """`F.adaptive_avg_pool2d`, by a plain pooling where the grid divides the map.

    Of the adaptive one's gradient on a GPU there is no deterministic form, and it is slow.
    """
    kernel = tuple(size // wanted for size, wanted in zip(x.shape[-2:], grid))
    if tuple(k * wanted for k, wanted in zip(kernel, grid)) == tuple(x.shape[-2:]):
        return F.avg_pool2d(x, kernel)
    return F.adaptive_avg_pool2d(x, grid)


# MODEL.MPFR.ALIGN: (B, C, H_s, W_s), (h, w) -> (B, C, h, w)
ALIGNMENTS: dict[str, Callable[[Tensor, tuple[int, int]], Tensor]] = {
    "avg": average_pool,
    "bilinear": functools.partial(F.interpolate, mode="bilinear", align_corners=False),
}


class ConvNormReLU(nn.Sequential):
    """ReLU(BN(Conv1x1(x))): (B, C, h, w) -> (B, d, h, w); `norm` is fast-reid's name of BN."""

    def __init__(self, in_channels: int, out_channels: int, norm: str):
        conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        super().__init__(conv, get_norm(norm, out_channels), nn.ReLU(inplace=True))


class AlignedStage(nn.Module):
    """A_s: one stage's map, resized to the grid of `place` and projected to d channels.

    A_s = ReLU(BN(Conv1x1(resize_{h,w}(X_s))))

    Args:
        stage: name of the map.
        channels: its channels C_s.
        dim: channels d of the result.
        norm: fast-reid's name of the normalisation.
        align: one of ALIGNMENTS.
        place: stage whose map has the grid.
    """

    def __init__(
        self,
        *,
        stage: str,
        channels: int,
        dim: int,
        norm: str = "BN",
        align: str = "avg",
        place: str = "layer4",
    ):
        super().__init__()
        self.stage, self.place = stage, place
        self.resize = pick("MODEL.MPFR.ALIGN", align, ALIGNMENTS)
        self.project = ConvNormReLU(channels, dim, norm)

    def forward(self, maps: Mapping[str, Tensor]) -> Tensor:
        """{name: (B, C_s, H_s, W_s)} -> (B, d, h, w)."""
        h, w = maps[self.place].shape[-2:]
        return self.project(self.resize(maps[self.stage], (h, w)))


class StageClues(nn.Module):
    """In place of MPFR if it is off: the clue map is one aligned stage.

    Args:
        options: of AlignedStage.
    """

    def __init__(self, **options: Any):
        super().__init__()
        self.align = AlignedStage(**options)

    def forward(self, maps: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """{name: (B, C_s, H_s, W_s)} -> clue map (B, d, h, w) and no masks."""
        return self.align(maps), {}


class ConvMasks(nn.Module):
    """activation(Conv1x1([A_s]_s)): S maps (B, d, h, w) -> S masks in one (B, S, h, w)."""

    def __init__(self, stages: int, dim: int, activation: Callable[[Tensor], Tensor]):
        super().__init__()
        self.conv = nn.Conv2d(stages * dim, stages, 1)
        self.activation = activation

    def forward(self, aligned: Sequence[Tensor]) -> Tensor:
        """Every mask sees all stages."""
        return self.activation(self.conv(torch.cat(list(aligned), dim=1)))


class CBAMMasks(nn.ModuleList):
    """sigmoid(Conv7x7_s([mean_c A_s; max_c A_s])): S maps (B, d, h, w) -> (B, S, h, w).

    The spatial attention of CBAM (Woo et al., ECCV 2018), one per stage. CBAM's channel attention
    is left out: the paper's masks are spatial.
    """

    def __init__(self, stages: int, dim: int):
        super().__init__(nn.Conv2d(2, 1, 7, padding=3) for _ in range(stages))

    def forward(self, aligned: Sequence[Tensor]) -> Tensor:
        """Every mask sees its own stage."""
        pooled = (torch.stack([a.mean(dim=1), a.amax(dim=1)], dim=1) for a in aligned)
        return torch.sigmoid(torch.cat([conv(x) for conv, x in zip(self, pooled)], dim=1))


# MODEL.MPFR.MASK: (S, d) -> module
MASKS: dict[str, Callable[[int, int], nn.Module]] = {
    "sigmoid": functools.partial(ConvMasks, activation=torch.sigmoid),
    # the stages compete at each position: masks sum to 1
    "softmax": functools.partial(ConvMasks, activation=functools.partial(torch.softmax, dim=1)),
    "cbam": CBAMMasks,
}


class MPFR(nn.Module):
    """Clue map of several stages, each weighted by its spatial mask.

    M   = sigmoid(Conv1x1([A_s]_s))                one mask per stage
    F_c = ReLU(BN(Conv1x1(sum_s M_s * A_s)))       the clue map

    Args:
        channels: stage name -> its channels C_s, in the order of the masks.
        dim: channels d of the aligned maps and of the clue map.
        norm: fast-reid's name of the normalisation.
        align: one of ALIGNMENTS.
        place: stage whose map has the grid of the clue map.
        mask: one of MASKS.
        fuse: one of FUSIONS.
        instance_norm: instance-normalise A_s before the masks and the fusion, which removes what
            an image's modality adds to all of its positions.
    """

    def __init__(
        self,
        *,
        channels: Mapping[str, int],
        dim: int,
        norm: str = "BN",
        align: str = "avg",
        place: str = "layer4",
        mask: str = "sigmoid",
        fuse: str = "sum",
        instance_norm: bool = False,
    ):
        super().__init__()
        shared: dict[str, Any] = {"dim": dim, "norm": norm, "align": align, "place": place}
        self.align = nn.ModuleDict(
            {s: AlignedStage(stage=s, channels=c, **shared) for s, c in channels.items()}
        )
        self.instance_norms = nn.ModuleList(
            nn.InstanceNorm2d(dim, affine=True) for _ in channels if instance_norm
        )
        self.mask = pick("MODEL.MPFR.MASK", mask, MASKS)(len(channels), dim)
        self.fusion = one_of("MODEL.MPFR.FUSE", fuse, FUSIONS)
        width = dim * len(channels) if fuse == "concat" else dim
        self.fuse = ConvNormReLU(width, dim, norm)

    def forward(self, maps: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Refine the stages' maps.

        Args:
            maps: {name: (B, C_s, H_s, W_s)}, at least MPFR's stages and the place.

        Returns:
            The clue map (B, d, h, w), and {stage: mask (B, 1, h, w) with values in 0..1}.
        """
        aligned = [align(maps) for align in self.align.values()]  # A_s: S x (B, d, h, w)
        if self.instance_norms:
            aligned = [norm(a) for norm, a in zip(self.instance_norms, aligned)]
        masks = self.mask(aligned).split(1, dim=1)  # M_s: S x (B, 1, h, w)
        masked = [m * a for m, a in zip(masks, aligned)]  # S x (B, d, h, w)
        clues = self.fuse(self.combine(masked))  # F_c: (B, d, h, w)
        return clues, dict(zip(self.align, masks))

    def combine(self, masked: Sequence[Tensor]) -> Tensor:
        """S masked maps (B, d, h, w) -> their sum (B, d, h, w), or all of them (B, S*d, h, w)."""
        if self.fusion == "concat":
            return torch.cat(list(masked), dim=1)
        return functools.reduce(torch.add, masked)


def check_stages(stages: Sequence[str], place: str = "layer4") -> None:
    """Raise UserError unless `stages` are some of those up to `place`, none of them twice."""
    known = STAGES[: STAGES.index(place) + 1]
    if not stages or len(set(stages)) < len(stages) or not set(stages) <= set(known):
        raise UserError(
            f"MODEL.MPFR.STAGES is {tuple(stages)}; with MODEL.SDCE.PLACE {place} it must name "
            f"some of {', '.join(known)}, each once"
        )


def build_clues(cfg: CfgNode, channels: Mapping[str, int]) -> nn.Module:
    """Build MPFR from `cfg.MODEL.MPFR`; if it is off, StageClues of the stage before the place.

    Args:
        cfg: the configuration.
        channels: stage name -> channels, of all maps that the backbone returns.
    """
    node, place = cfg.MODEL.MPFR, cfg.MODEL.SDCE.PLACE
    norm = cfg.MODEL.BACKBONE.NORM
    shared = {"dim": node.DIM, "norm": norm, "align": node.ALIGN, "place": place}
    if not node.ENABLED:
        stage = STAGES[STAGES.index(place) - 1]
        return StageClues(stage=stage, channels=channels[stage], **shared)
    check_stages(node.STAGES, place)
    return MPFR(
        channels={stage: channels[stage] for stage in node.STAGES},
        **shared,
        mask=node.MASK,
        fuse=node.FUSE,
        instance_norm=node.INSTANCE_NORM,
    )
