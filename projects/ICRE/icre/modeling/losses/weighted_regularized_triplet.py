"""Weighted regularised triplet loss (AGW: Ye et al., TPAMI 2021); no margin.

For comparison with ICG. Written from the paper and checked against the authors' public code.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from icre.modeling.losses.centres import masked_mean, pairwise_distances
from icre.modeling.losses.feature_loss import FeatureLoss
from icre.modeling.losses.registry import LOSS_REGISTRY


def weighted_regularized_triplet(features: Tensor, targets: Tensor) -> Tensor:
    """mean_i log(1 + exp(sum_p w_ip d_ip - sum_n w_in d_in)).

    w_ip = softmax of d_ip over i's positives (itself among them, as in the authors' code),
    w_in = softmax of -d_in over its negatives. An image without a negative does not count. Never
    0, however good the features.

    Args:
        features: (B, D).
        targets: (B,) identities.

    Returns:
        The loss, 0-d.
    """
    same_id = targets.unsqueeze(1) == targets.unsqueeze(0)  # (B, B)
    distances = pairwise_distances(features, features)  # (B, B)
    positive = (_softmax(distances, same_id) * distances).sum(dim=1)  # (B,)
    negative = (_softmax(-distances, ~same_id) * distances).sum(dim=1)  # (B,)
    return masked_mean(F.softplus(positive - negative), (~same_id).any(dim=1))


def _softmax(x: Tensor, mask: Tensor) -> Tensor:
    """Softmax of (B, B) along each row over the entries whose mask is true; 0 elsewhere."""
    return x.masked_fill(~mask, torch.finfo(x.dtype).min).softmax(dim=1) * mask


@LOSS_REGISTRY.register()
class WeightedRegularizedTripletLoss(FeatureLoss):
    """Softly weighted triplets without a margin (AGW, TPAMI 2021).

    `weighted_regularized_triplet`; keys: MODEL.LOSSES.WRT.
    """

    node = "WRT"

    def terms(self, features: Tensor, targets: Tensor, modalities: Tensor) -> dict[str, Tensor]:
        """One term."""
        return {"loss_wrt": weighted_regularized_triplet(features, targets)}
