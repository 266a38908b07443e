"""ICG loss: identity clues guide the enhanced features, through modality-aware centres.

Identity Clues Guided loss of ICRE (arXiv 2512.04522). The paper states its aim (classes compact
across modalities, a diverse representation space), modality-aware centres and two swept numbers,
lambda and rho_1; the equations are our readings (method card, projects/ICRE/README.md), one
function each.

If a batch has one modality of an identity, one identity, or no image at all, a term that does not
exist is a differentiable 0. Centres are those of the batch, with gradient; under
DistributedDataParallel those of the rank's batch, or with MODEL.LOSSES.GATHER of all ranks'
batches together.

Shapes: B features of D dimensions; k, l identities; v, r modalities.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastreid.config import CfgNode, configurable

from icre.modeling.losses.centres import (
    masked_mean,
    modality_centres,
    nearest,
    pairwise_distances,
    push_apart,
)
from icre.modeling.losses.feature_loss import metric_features
from icre.modeling.losses.gather import across_ranks
from icre.modeling.losses.outputs import Outputs, check_maps
from icre.modeling.losses.registry import LOSS_REGISTRY
from icre.utils.choice import pick
from icre.utils.errors import UserError


def pull_push(
    features: Tensor, targets: Tensor, modalities: Tensor, rho1: float, rho2: float
) -> tuple[Tensor, Tensor]:
    """Pull each feature to its identity's other modality, push identities apart.

    pull = mean_i [ ||f_i - c_{y_i}^{other modality of i}|| - rho2 ]_+
    push = mean_{k != l} [ rho1 - ||c_k - c_l|| ]_+ ,  c_k = (c_k^v + c_k^r) / 2

    Nearest to MSCMNet's quadruple centre, MPANet's centre cluster and SAAI's slack.

    Args:
        features: f, (B, D).
        targets: (B,) identities.
        modalities: (B,) integers of `icre.modality`.
        rho1: distance below which two identities' centres repel each other.
        rho2: slack of the pull.

    Returns:
        pull and push, 0-d each.
    """
    centres = modality_centres(features, targets, modalities)
    # vector_norm and cdist give a zero gradient, not NaN, between coinciding points.
    distance = torch.linalg.vector_norm(features - centres.cross, dim=1)  # (B,)
    pull = masked_mean(F.relu(distance - rho2), centres.has_cross)
    return pull, push_apart(centres.identity, centres.same_id, rho1)


def rank(
    features: Tensor,
    targets: Tensor,
    modalities: Tensor,
    rho1: float,
    rho2: float,
    norm: bool = True,
) -> tuple[Tensor, Tensor]:
    """Rank an identity's other modality before all other identities, by its centres.

    cross = mean over k, both directions [ rho1 + D(c_k^v, c_k^r) - min_{l != k} D(c_k^v, c_l^r) ]_+
    intra = 0.1 * mean over k, both modalities m [ rho2 - min_{l != k} D(c_k^m, c_l^m) ]_+

    Nearest to eBDTR and the hetero-centre triplet. `cross` is over the identities that the batch
    has in both modalities and that have a negative in the other one.

    Args:
        features, targets, modalities: as in `pull_push`.
        rho1: margin of the ranking.
        rho2: distance below which two identities repel each other inside a modality.
        norm: L2-normalise the centres.

    Returns:
        cross and intra, 0-d each.
    """
    centres = modality_centres(features, targets, modalities)
    if norm:
        centres = centres._replace(
            intra=F.normalize(centres.intra, dim=1), cross=F.normalize(centres.cross, dim=1)
        )
    distances = pairwise_distances(centres.intra, centres.intra)  # (B, B)
    same_modality, negatives = centres.same_modality, centres.negatives
    negative, found = nearest(distances, negatives & ~same_modality)  # (B,)
    cross = masked_mean(
        F.relu(rho1 + centres.modality_distance - negative),
        centres.is_first & centres.has_cross & found,
    )
    negative, found = nearest(distances, negatives & same_modality)
    intra = masked_mean(F.relu(rho2 - negative), centres.is_first & found)
    return cross, 0.1 * intra


def soft_rank(features: Tensor, targets: Tensor, modalities: Tensor, rho1: float) -> Tensor:
    """Rank each feature's identity in the other modality before every other centre of the batch.

    mean_i log(1 + sum_{l != y_i, m} exp(rho1 + ||f_i - c_{y_i}^{other}|| - ||f_i - c_l^m||))

    over both modalities m of every other identity l, so the feature's own modality has negatives
    too. A smooth `rank`: no negative is ever far enough to be left out. Nearest to the multi-class
    N-pair loss (Sohn, NeurIPS 2016), with modality-aware centres in place of images.

    Args:
        features, targets, modalities: as in `pull_push`.
        rho1: margin of the ranking.

    Returns:
        The loss, 0-d.
    """
    centres = modality_centres(features, targets, modalities)
    positive = torch.linalg.vector_norm(features - centres.cross, dim=1)  # (B,)
    negative = pairwise_distances(features, centres.intra)  # (B, B)
    logits = rho1 + positive.unsqueeze(1) - negative
    logits = logits.masked_fill(~centres.negatives, -torch.inf)
    logits = torch.cat([logits, logits.new_zeros(len(logits), 1)], dim=1)  # exp(0) is the 1 + sum
    return masked_mean(logits.logsumexp(dim=1), centres.has_cross)


def guided(
    features: Tensor,
    targets: Tensor,
    modalities: Tensor,
    rho1: float,
    rho2: float,
    unenhanced: Tensor,
) -> tuple[Tensor, Tensor]:
    """The enhancement must bring an identity's modalities closer than they were without it.

    pull = mean_k [ D(c'_k^v, c'_k^r) - stopgrad D(c_k^v, c_k^r) + rho1 ]_+
    push = mean_{k != l} [ rho2 - ||c'_k - c'_l|| ]_+

    with c' of the enhanced and c of the un-enhanced feature. Nearest to IDKL's centroid loss.
    Without an enhancement, and with INIT_SCALE 0 in the first step, the pull is at its kink: 0.

    Args:
        features, targets, modalities: as in `pull_push`.
        rho1: by how much closer.
        rho2: distance below which two identities' centres repel each other.
        unenhanced: the un-enhanced feature, (B, D).

    Returns:
        pull and push, 0-d each.
    """
    centres = modality_centres(features, targets, modalities)
    before = modality_centres(unenhanced.detach(), targets, modalities)
    excess = F.relu(centres.modality_distance - before.modality_distance + rho1)  # (B,)
    pull = masked_mean(excess, centres.is_first & centres.has_cross)
    return pull, push_apart(centres.identity, centres.same_id, rho2)


class Margins(NamedTuple):
    """Default margins of a variant; rho2 is None if it has no second one."""

    rho1: float
    rho2: float | None


# MODEL.LOSSES.ICG.VARIANT
VARIANTS = {
    "pull_push": Margins(0.7, 0.01),
    "rank": Margins(0.5, 0.1),
    "soft_rank": Margins(0.3, None),
    "guided": Margins(0.0, 0.7),
}


def margins_of(variant: str, rho1: float | None, rho2: float | None) -> dict[str, float]:
    """Keywords of the variant's function; raises UserError if rho2 is given and it has none."""
    default = pick("MODEL.LOSSES.ICG.VARIANT", variant, VARIANTS)
    margins = {"rho1": default.rho1 if rho1 is None else rho1}
    if default.rho2 is not None:
        margins["rho2"] = default.rho2 if rho2 is None else rho2
    elif rho2 is not None:
        raise UserError(
            f"MODEL.LOSSES.ICG.RHO2 is {rho2}, but {variant} has one margin: leave it None"
        )
    return margins


MAPS_KEY = "MODEL.LOSSES.ICG.MAPS"
MAPS = ("enhanced", "clues")  # whose pooled features the loss works on: f, GeM(F_c)


@LOSS_REGISTRY.register()
class ICGLoss(nn.Module):
    """The paper's ICG loss: scale * (the terms of the variant, on each map), in float32.

    Args:
        scale: weight of the loss (lambda).
        rho1, rho2: margins, see the variant; default: those of VARIANTS.
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
        self.margins = margins_of(variant, rho1, rho2)
        self.variant, self.scale, self.norm = variant, scale, norm
        self.maps, self.gather = tuple(maps), gather

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
            targets = across_ranks(targets, self.gather)
            modalities = across_ranks(modalities, self.gather)
            for name in self.maps:
                features = outputs.features if name == "enhanced" else outputs.pooled(name)
                features = metric_features(features, self.norm, self.gather)
                prefix = "loss_icg" if name == "enhanced" else f"loss_icg_{name}"
                for term, value in self.terms(features, targets, modalities, outputs).items():
                    losses[f"{prefix}_{term}"] = self.scale * value
        return losses

    def terms(
        self, features: Tensor, targets: Tensor, modalities: Tensor, outputs: Outputs
    ) -> dict[str, Tensor]:
        """Unweighted terms of the variant by log name."""
        if self.variant == "pull_push":
            pull, push = pull_push(features, targets, modalities, **self.margins)
            return {"pull": pull, "push": push}
        if self.variant == "rank":
            cross, intra = rank(features, targets, modalities, **self.margins, norm=self.norm)
            return {"cross": cross, "intra": intra}
        if self.variant == "soft_rank":
            return {"list": soft_rank(features, targets, modalities, **self.margins)}
        unenhanced = metric_features(outputs.unenhanced(), self.norm, self.gather)
        pull, push = guided(features, targets, modalities, **self.margins, unenhanced=unenhanced)
        return {"pull": pull, "push": push}


def check(cfg: CfgNode) -> None:
    """Raise UserError on maps or margins that do not fit the variant or the network."""
    node = cfg.MODEL.LOSSES.ICG
    check_maps(cfg, MAPS_KEY, node.MAPS, MAPS)
    if "clues" in node.MAPS and node.VARIANT == "guided":
        raise UserError(
            f"{MAPS_KEY}: VARIANT guided compares the enhanced feature with the "
            "un-enhanced one, so it works on enhanced alone"
        )
    margins_of(node.VARIANT, node.RHO1, node.RHO2)
