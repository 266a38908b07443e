"""ICG loss: identity clues guide the enhanced features, through modality-aware centres.

Identity Clues Guided loss of ICRE (arXiv 2512.04522). The paper states its aim (classes compact
across modalities, a diverse representation space), modality-aware centres and two swept numbers,
lambda and rho_1; the equations are our readings (method card, projects/ICRE/README.md), one
function each, in VARIANTS.

An identity that the batch shows in one modality only, an identity alone, an empty batch: a term
that then does not exist is a differentiable 0. Centres are those of the batch, with gradient; under
DDP those of the rank's own batch, or with MODEL.LOSSES.GATHER of all ranks' batches together.

Shapes: B features of D dimensions; k, l identities; v, r modalities.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastreid.config import CfgNode, configurable

from icre.modeling.losses.centres import (
    Centres,
    apart,
    gaps,
    masked_mean,
    modality_centres,
    nearest,
    pairwise,
)
from icre.modeling.losses.gather import across_ranks
from icre.modeling.losses.outputs import Outputs, check_maps
from icre.modeling.losses.registry import LOSS_REGISTRY
from icre.utils.choice import pick
from icre.utils.errors import UserError

Unenhanced = Callable[[], Tensor]


def joint(centres: Centres) -> Tensor:
    """(B, D) c_k = (c_k^v + c_k^r) / 2; the centre it has where y_i has one modality only."""
    both = (centres.own + centres.other) / 2
    return torch.where(centres.paired.unsqueeze(1), both, centres.own)


def pull_push(
    features: Tensor,
    targets: Tensor,
    modalities: Tensor,
    rho1: float,
    rho2: float,
    unenhanced: Unenhanced | None = None,
    norm: bool = True,
) -> tuple[Tensor, Tensor]:
    """Pull each feature to its identity's other modality, push identities apart.

    pull = mean_i [ ||f_i - c_{y_i}^{other modality of i}|| - rho2 ]_+
    push = mean_{k != l} [ rho1 - ||c_k - c_l|| ]_+ ,  c_k = (c_k^v + c_k^r) / 2

    Nearest to MSCMNet's quadruple centre, MPANet's centre cluster and SAAI's slack.

    Args:
        features: f, (B, D).
        targets: (B,) identities.
        modalities: (B,) integers of `icre.modality`.
        rho1: distance that two identities' centres keep.
        rho2: slack of the pull.
        unenhanced, norm: not used.

    Returns:
        pull and push, 0-d each.
    """
    centres = modality_centres(features, targets, modalities)
    # vector_norm and cdist give a zero gradient, not NaN, between coinciding points.
    gap = torch.linalg.vector_norm(features - centres.other, dim=1)  # (B,)
    pull = masked_mean(F.relu(gap - rho2), centres.paired)
    return pull, apart(joint(centres), centres.same_id, rho1)


def rank(
    features: Tensor,
    targets: Tensor,
    modalities: Tensor,
    rho1: float,
    rho2: float,
    unenhanced: Unenhanced | None = None,
    norm: bool = True,
) -> tuple[Tensor, Tensor]:
    """Rank an identity's other modality before all other identities, by its centres.

    cross = mean over k, both directions [ rho1 + D(c_k^v, c_k^r) - min_{l != k} D(c_k^v, c_l^r) ]_+
    intra = 0.1 * mean over k, both modalities m [ rho2 - min_{l != k} D(c_k^m, c_l^m) ]_+

    Nearest to eBDTR and the hetero-centre triplet. `cross` is of the identities that are seen in
    both modalities and have another identity in the other one.

    Args:
        features, targets, modalities: as in `pull_push`.
        rho1: margin of the ranking.
        rho2: distance that identities keep inside a modality.
        unenhanced: not used.
        norm: whether the centres are L2-normalised.

    Returns:
        cross and intra, 0-d each.
    """
    centres = modality_centres(features, targets, modalities)
    if norm:
        centres = centres._replace(
            own=F.normalize(centres.own, dim=1), other=F.normalize(centres.other, dim=1)
        )
    distances, rivals = pairwise(centres.own, centres.own), centres.rivals
    across, found = nearest(distances, rivals & ~centres.same_modality)
    cross = masked_mean(
        F.relu(rho1 + gaps(centres) - across), centres.lead & centres.paired & found
    )
    within, found = nearest(distances, rivals & centres.same_modality)
    return cross, 0.1 * masked_mean(F.relu(rho2 - within), centres.lead & found)


def soft_rank(
    features: Tensor,
    targets: Tensor,
    modalities: Tensor,
    rho1: float,
    rho2: None = None,
    unenhanced: Unenhanced | None = None,
    norm: bool = True,
) -> tuple[Tensor]:
    """Rank each feature's identity in the other modality before every other centre of the batch.

    list = mean_i log(1 + sum_{l != y_i, m} exp(rho1 + ||f_i - c_{y_i}^{other}|| - ||f_i - c_l^m||))

    over both modalities m of every other identity l, so a rival of the feature's own modality counts
    too. A smooth `rank`: no centre is ever far enough to be left out. Nearest to the multi-class
    N-pair loss (Sohn, NeurIPS 2016), with modality-aware centres in place of images.

    Args:
        features, targets, modalities: as in `pull_push`.
        rho1: margin of the ranking.
        rho2, unenhanced, norm: not used.

    Returns:
        The list's loss, 0-d.
    """
    centres = modality_centres(features, targets, modalities)
    gap = torch.linalg.vector_norm(features - centres.other, dim=1)  # (B,)
    behind = rho1 + gap.unsqueeze(1) - pairwise(features, centres.own)  # (B, B)
    behind = behind.masked_fill(~centres.rivals, -torch.inf)
    none = behind.new_zeros(len(behind), 1)  # the 1 of log(1 + sum)
    return (masked_mean(torch.cat([behind, none], dim=1).logsumexp(dim=1), centres.paired),)


def guided(
    features: Tensor,
    targets: Tensor,
    modalities: Tensor,
    rho1: float,
    rho2: float,
    unenhanced: Unenhanced,
    norm: bool = True,
) -> tuple[Tensor, Tensor]:
    """The enhancement must bring an identity's modalities closer than they were without it.

    pull = mean_k [ D(c'_k^v, c'_k^r) - stopgrad D(c_k^v, c_k^r) + rho1 ]_+
    push = mean_{k != l} [ rho2 - ||c'_k - c'_l|| ]_+

    with c' of the enhanced and c of the un-enhanced feature. Nearest to IDKL's centroid loss.
    Without an enhancement, and with INIT_SCALE 0 in the first step, the pull is at its kink: 0.

    Args:
        features, targets, modalities: as in `pull_push`.
        rho1: by how much closer.
        rho2: distance that two identities' centres keep.
        unenhanced: gives the un-enhanced feature (B, D).
        norm: not used.

    Returns:
        pull and push, 0-d each.
    """
    centres = modality_centres(features, targets, modalities)
    before = gaps(modality_centres(unenhanced().detach(), targets, modalities))
    pull = masked_mean(F.relu(gaps(centres) - before + rho1), centres.lead & centres.paired)
    return pull, apart(joint(centres), centres.same_id, rho2)


class Variant(NamedTuple):
    """A reading of the loss: its function, the log names of its terms, its own margins.

    rho2 is None where the reading has no second margin.
    """

    function: Callable[..., tuple[Tensor, ...]]
    terms: tuple[str, ...]
    rho1: float
    rho2: float | None


# MODEL.LOSSES.ICG.VARIANT
VARIANTS = {
    "pull_push": Variant(pull_push, ("pull", "push"), 0.7, 0.01),
    "rank": Variant(rank, ("cross", "intra"), 0.5, 0.1),
    "soft_rank": Variant(soft_rank, ("list",), 0.3, None),
    "guided": Variant(guided, ("pull", "push"), 0.0, 0.7),
}

MAPS_KEY = "MODEL.LOSSES.ICG.MAPS"
# whose pooled features (B, channels) the loss works on
MAPS: dict[str, Callable[[Outputs], Tensor]] = {
    "enhanced": lambda outputs: outputs.features,  # f
    "clues": lambda outputs: outputs.pooled("clues"),
}


@LOSS_REGISTRY.register()
class ICGLoss(nn.Module):
    """scale * (all terms of the variant, on each map), in float32; logged term by term.

    Args:
        scale: weight of the loss (lambda).
        rho1, rho2: margins, see the variant; None: the variant's own.
        norm: L2-normalise the features first (and rank's centres), so that rho1 and rho2 have a fixed
            unit.
        variant: one of VARIANTS.
        maps: some of MAPS. "clues" asks of the clue map what is asked of the enhanced one.
        gather: over the features of all ranks.
    """

    node = "ICG"

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
        self.variant = pick("MODEL.LOSSES.ICG.VARIANT", variant, VARIANTS)
        self.scale = scale
        self.rho1 = self.variant.rho1 if rho1 is None else rho1
        self.rho2 = self.variant.rho2 if rho2 is None else rho2
        self.norm, self.maps, self.gather = norm, tuple(maps), gather

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Read MODEL.LOSSES.ICG."""
        check(cfg)
        node = cfg.MODEL.LOSSES[cls.node]
        return {
            "scale": node.SCALE,
            "rho1": node.RHO1,
            "rho2": node.RHO2,
            "norm": node.NORM,
            "variant": node.VARIANT,
            "maps": node.MAPS,
            "gather": cfg.MODEL.LOSSES.GATHER,
        }

    def forward(self, outputs: Outputs, targets: Tensor, modalities: Tensor) -> dict[str, Tensor]:
        """See `icre.modeling.losses`."""
        losses = {}
        with torch.autocast(targets.device.type, enabled=False):
            targets, modalities = (across_ranks(x, self.gather) for x in (targets, modalities))
            for name in self.maps:
                terms = self.variant.function(
                    self._unit(MAPS[name](outputs)),
                    targets,
                    modalities,
                    self.rho1,
                    self.rho2,
                    lambda: self._unit(outputs.unenhanced()),
                    self.norm,
                )
                prefix = "loss_icg" if name == "enhanced" else f"loss_icg_{name}"
                losses |= {
                    f"{prefix}_{term}": self.scale * value
                    for term, value in zip(self.variant.terms, terms)
                }
        return losses

    def _unit(self, features: Tensor) -> Tensor:
        """(B, D) in float32, of length 1 where `norm` is on, and of all ranks where `gather` is."""
        unit = F.normalize(features.float(), dim=1) if self.norm else features.float()
        return across_ranks(unit, self.gather)


def check(cfg: CfgNode) -> None:
    """Raise UserError on maps or margins that the variant cannot work on, or that are not there."""
    node = cfg.MODEL.LOSSES.ICG
    check_maps(cfg, MAPS_KEY, node.MAPS, MAPS)
    if "clues" in node.MAPS and node.VARIANT == "guided":
        raise UserError(
            f"{MAPS_KEY}: VARIANT guided compares the enhanced feature with the "
            "un-enhanced one, so it works on enhanced alone"
        )
    if node.RHO2 is not None and VARIANTS[node.VARIANT].rho2 is None:
        raise UserError(
            f"MODEL.LOSSES.ICG.RHO2 is {node.RHO2}, but {node.VARIANT} has one margin: "
            "leave it None"
        )
