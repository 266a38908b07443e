"""Quadruple centre loss of MSCMNet (Hua et al., 2024): towards the other modality's centre.

"MSCMNet: Multi-scale Semantic Correlation Mining for Visible-Infrared Person Re-Identification".
The nearest published relative of ICG's `pull_push`, which has a slack and pushes centres, not
features. Written from the paper and checked against the authors' public code (its
QuarCenterTripletLoss, whose weight `a` of single views is 0 there). Two views of both modalities
(INPUT.VIEWS 4) are its four.
"""

import torch
from torch import Tensor

from icre.modeling.losses.centres import group_means, masked_mean, pairwise_distances
from icre.modeling.losses.feature_loss import ConfiguredLoss, FeatureLoss
from icre.modeling.losses.registry import LOSS_REGISTRY


class QuadrupleCenter(FeatureLoss):
    """Quadruple centre loss (MSCMNet: Hua et al., 2024).

    pull = mean_i ||f_i - c_{y_i}^{other modality of i}||
    push = mean_i mean_{j: y_j != y_i} [ margin - ||f_i - c_{y_j}|| ]_+

    c_k^m is the mean of k's features in the modality m, c_k that of all of k's; images of all
    views. MSCMNet halves the sum.

    Args:
        margin: distance below which another identity's centre repels a feature.
        normalize, gather: see `FeatureLoss`.

    Call it as `loss(features (B, C), labels (B,), modalities (B,))`; see `FeatureLoss.forward`.

    >>> import torch, icre
    >>> features = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    >>> loss = icre.losses.QuadrupleCenter(margin=2)
    >>> batch = features, torch.tensor([7, 7, 9, 9]), torch.tensor([0, 1, 0, 1])
    >>> loss.terms(*batch)
    {'pull': tensor(1.4142), 'push': tensor(0.4189)}
    """

    margin: float

    def __init__(self, margin: float = 0.7, *, normalize: bool = False, gather: bool = False):
        super().__init__(normalize=normalize, gather=gather, margin=margin)

    def formula(self, features: Tensor, labels: Tensor, modalities: Tensor) -> dict[str, Tensor]:
        """Pull and push."""
        same_id = labels.unsqueeze(1) == labels.unsqueeze(0)
        same_modality = modalities.unsqueeze(1) == modalities.unsqueeze(0)
        cross, has_cross = group_means(features, same_id & ~same_modality)
        pull = masked_mean(torch.linalg.vector_norm(features - cross, dim=1), has_cross)
        centres, _ = group_means(features, same_id)
        hinge = (self.margin - pairwise_distances(features, centres)).relu()
        negatives = (~same_id).sum(dim=1)  # (B,)
        per_image = (hinge * ~same_id).sum(dim=1) / negatives.clamp_min(1)
        return {"pull": pull, "push": masked_mean(per_image, negatives > 0)}


@LOSS_REGISTRY.register()
class QuadrupleCenterLoss(ConfiguredLoss):
    """Pulls features to the other modality's centre, pushes them from other identities' (MSCMNet).

    `QuadrupleCenter` in a model; keys: MODEL.LOSSES.QUADRUPLE_CENTER.
    """

    node, plain, prefix = "QUADRUPLE_CENTER", QuadrupleCenter, "loss_quadruple"
