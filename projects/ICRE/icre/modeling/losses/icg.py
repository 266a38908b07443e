"""ICG loss: identity clues guide the enhanced features, through modality-aware centres.

Identity Clues Guided loss of ICRE (arXiv 2512.04522). The paper states its aim (classes compact
across modalities, a diverse representation space), modality-aware centres and two swept numbers,
lambda and rho_1; the equations are our reading, nearest to MSCMNet's quadruple centre, MPANet's
centre cluster and SAAI's slack (method card, projects/ICRE/README.md).

Centres are those of the batch, with gradient; under DDP those of the rank's own batch.

Shapes: B features of D dimensions.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from fastreid.config import CfgNode, configurable
from torch import Tensor, nn

from icre.modeling.losses.registry import LOSS_REGISTRY


def group_means(features: Tensor, member: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of each row's group.

    Args:
        features: (B, D).
        member: (B, B) bool; row i says which features make up i's group.

    Returns:
        The means (B, D), zero where a group is empty, and (B,) bool: the group has a member.
    """
    count = member.sum(dim=1)
    means = member.to(features.dtype) @ features / count.clamp_min(1).unsqueeze(1)
    return means, count > 0


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of `values` where `mask` is true; a differentiable 0 where it is true nowhere."""
    return (values * mask).sum() / mask.sum().clamp_min(1)


def pull_push(
    features: Tensor, targets: Tensor, modalities: Tensor, rho1: float, rho2: float
) -> tuple[Tensor, Tensor]:
    """Pull each feature to its identity's other modality, push identities apart.

    pull = mean_i [ ||f_i - c_{y_i}^{other modality of i}|| - rho2 ]_+
    push = mean_{k != l} [ rho1 - ||c_k - c_l|| ]_+ ,  c_k = (c_k^v + c_k^r) / 2

    An identity seen in one modality only has no pull, and the centre it has for c_k. One identity
    alone has no push; an empty batch has neither. What does not exist is a differentiable 0.

    Args:
        features: (B, D).
        targets: (B,) identities.
        modalities: (B,) integers of `icre.modality`.
        rho1: distance that two identities' centres keep.
        rho2: slack of the pull.

    Returns:
        pull and push, 0-d each.
    """
    # B x B masks instead of torch.unique: a GPU is never waited for.
    same_id = targets.unsqueeze(1) == targets.unsqueeze(0)
    same_modality = modalities.unsqueeze(1) == modalities.unsqueeze(0)
    own, _ = group_means(features, same_id & same_modality)  # (B, D), c of i's modality
    other, paired = group_means(features, same_id & ~same_modality)  # (B, D), c of the other one
    # vector_norm and cdist give a zero gradient, not NaN, between coinciding points.
    gap = torch.linalg.vector_norm(features - other, dim=1)  # (B,)
    pull = masked_mean(F.relu(gap - rho2), paired)

    centres = torch.where(paired.unsqueeze(1), (own + other) / 2, own)  # (B, D), c_{y_i}
    first = ~same_id.tril(diagonal=-1).any(dim=1)  # (B,), one row for each identity
    pairs = first.unsqueeze(1) & first.unsqueeze(0) & ~same_id  # (B, B), k != l
    # The matrix-multiplication form of cdist loses the small distances that matter here.
    distances = torch.cdist(centres, centres, compute_mode="donot_use_mm_for_euclid_dist")
    push = masked_mean(F.relu(rho1 - distances), pairs)
    return pull, push


@LOSS_REGISTRY.register()
class ICGLoss(nn.Module):
    """scale * (pull + push) on f, in float32; logged as its two terms.

    Args:
        scale: weight of the loss (lambda).
        rho1: distance that two identities' centres keep.
        rho2: slack of the pull.
        norm: L2-normalise the features first, so that rho1 and rho2 have a fixed unit.
    """

    @configurable
    def __init__(self, *, scale: float, rho1: float, rho2: float, norm: bool):
        super().__init__()
        self.scale = scale
        self.rho1 = rho1
        self.rho2 = rho2
        self.norm = norm

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Read MODEL.LOSSES.ICG."""
        node = cfg.MODEL.LOSSES.ICG
        return {"scale": node.SCALE, "rho1": node.RHO1, "rho2": node.RHO2, "norm": node.NORM}

    def forward(
        self, outputs: Mapping[str, Tensor], targets: Tensor, modalities: Tensor
    ) -> dict[str, Tensor]:
        """See `icre.modeling.losses`; needs outputs["features"] (B, D)."""
        with torch.autocast(targets.device.type, enabled=False):
            features = outputs["features"].float()
            if self.norm:
                features = F.normalize(features, dim=1)
            pull, push = pull_push(features, targets, modalities, self.rho1, self.rho2)
            return {"loss_icg_pull": self.scale * pull, "loss_icg_push": self.scale * push}
