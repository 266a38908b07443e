"""ICG loss of a model: identity clues guide the enhanced features, by modality-aware centres.

Identity Clues Guided loss of ICRE (arXiv 2512.04522). The paper states its aim (classes compact
across modalities, a diverse representation space), modality-aware centres and two swept numbers,
lambda and rho_1; the equations are our readings (method card, projects/ICRE/README.md), one file
each: pull_push, rank, soft_rank, guided.

If a batch has one modality of an identity, one identity, or no image at all, a term that does not
exist is a differentiable 0. Centres are those of the batch, with gradient; under
DistributedDataParallel those of the rank's batch, or with MODEL.LOSSES.GATHER of all ranks'
batches together.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fastreid.config import CfgNode, configurable

from icre.modeling.losses.feature_loss import FeatureLoss
from icre.modeling.losses.guided import Guided
from icre.modeling.losses.outputs import Outputs, check_maps, require_deep_map
from icre.modeling.losses.pull_push import PullPush
from icre.modeling.losses.rank import Rank
from icre.modeling.losses.registry import LOSS_REGISTRY
from icre.modeling.losses.soft_rank import SoftRank
from icre.utils.choice import pick
from icre.utils.errors import UserError


class Variant(NamedTuple):
    """A reading and its names of rho_1 and, if it has a second margin, rho_2."""

    loss: type[FeatureLoss]
    margins: tuple[str, ...]


# MODEL.LOSSES.ICG.VARIANT
VARIANTS = {
    "pull_push": Variant(PullPush, ("margin", "slack")),
    "rank": Variant(Rank, ("margin", "intra_margin")),
    "soft_rank": Variant(SoftRank, ("margin",)),
    "guided": Variant(Guided, ("gain", "margin")),
}


def margins_of(variant: str, rho1: float | None, rho2: float | None) -> dict[str, float]:
    """Keywords of the variant's class; raises UserError if rho2 is given and it has none."""
    names = pick("MODEL.LOSSES.ICG.VARIANT", variant, VARIANTS).margins
    if rho2 is not None and len(names) < 2:
        raise UserError(
            f"MODEL.LOSSES.ICG.RHO2 is {rho2}, but {variant} has one margin: leave it None"
        )
    return {name: value for name, value in zip(names, (rho1, rho2)) if value is not None}


MAPS_KEY = "MODEL.LOSSES.ICG.MAPS"
MAPS = ("enhanced", "clues")  # whose pooled features the loss works on: f, GeM(F_c)


@LOSS_REGISTRY.register()
class ICGLoss(nn.Module):
    """The paper's ICG loss: scale * (the terms of the variant, on each map), in float32.

    Args:
        scale: weight of the loss (lambda).
        rho1, rho2: margins, see the variant's class; None: its default.
        norm: L2-normalise the features first (and rank's centres), which gives the margins a fixed
            unit.
        variant: one of VARIANTS.
        maps: some of MAPS.
        gather: over the features of all ranks.
    """

    node = "ICG"  # below MODEL.LOSSES

    @configurable
    def __init__(
        self,
        *,
        scale: float,
        norm: bool,
        rho1: float | None = None,
        rho2: float | None = None,
        variant: str = "pull_push",
        maps: Sequence[str] = ("enhanced",),
        gather: bool = False,
    ):
        super().__init__()
        margins = margins_of(variant, rho1, rho2)
        self.loss = VARIANTS[variant].loss(normalize=norm, gather=gather, **margins)
        self.scale, self.maps = scale, tuple(maps)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Read MODEL.LOSSES.ICG."""
        check(cfg)
        options = {key.lower(): value for key, value in cfg.MODEL.LOSSES[cls.node].items()}
        return {**options, "gather": cfg.MODEL.LOSSES.GATHER}

    def forward(self, outputs: Outputs, targets: Tensor, modalities: Tensor) -> dict[str, Tensor]:
        """See `icre.modeling.losses`."""
        losses = {}
        with torch.autocast(targets.device.type, enabled=False):
            others = {"unenhanced": outputs.unenhanced()} if isinstance(self.loss, Guided) else {}
            for name in self.maps:
                features = outputs.features if name == "enhanced" else outputs.pooled(name)
                prefix = "loss_icg" if name == "enhanced" else f"loss_icg_{name}"
                for term, value in self.loss.terms(features, targets, modalities, **others).items():
                    losses[f"{prefix}_{term}"] = self.scale * value
        return losses


def check(cfg: CfgNode) -> None:
    """Raise UserError on maps or margins that do not fit the variant or the network."""
    node, heads = cfg.MODEL.LOSSES.ICG, cfg.MODEL.HEADS
    check_maps(cfg, MAPS_KEY, node.MAPS, MAPS)
    if node.VARIANT == "guided":
        require_deep_map(cfg, "MODEL.LOSSES.ICG.VARIANT guided")
    if "clues" in node.MAPS and node.VARIANT == "guided":
        raise UserError(
            f"{MAPS_KEY}: VARIANT guided compares the enhanced feature with the "
            "un-enhanced one, so it works on enhanced alone"
        )
    if node.VARIANT == "guided" and heads.NECK_FEAT != "before":
        raise UserError(
            "MODEL.LOSSES.ICG.VARIANT guided compares features before the neck: "
            f"MODEL.HEADS.NECK_FEAT {heads.NECK_FEAT} does not fit it, take before"
        )
    if heads.NAME in ("PCBHead", "MPANetHead") and (
        node.VARIANT == "guided" or "clues" in node.MAPS
    ):
        what = "VARIANT guided" if node.VARIANT == "guided" else "MAPS clues"
        raise UserError(
            f"MODEL.LOSSES.ICG.{what} needs a head that pools a map to one feature, which "
            f"MODEL.HEADS.NAME {heads.NAME} does not: take ICREHead"
        )
    margins_of(node.VARIANT, node.RHO1, node.RHO2)
