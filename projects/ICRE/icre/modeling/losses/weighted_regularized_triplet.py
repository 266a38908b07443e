"""Weighted regularised triplet loss (AGW: Ye et al., TPAMI 2021); no margin.

For comparison with ICG. Written from the paper and checked against the authors' public code.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from icre.modeling.losses.centres import masked_mean, pairwise_distances
from icre.modeling.losses.feature_loss import ConfiguredLoss, FeatureLoss
from icre.modeling.losses.registry import LOSS_REGISTRY


def weighted_distances(
    features: Tensor, targets: Tensor, epsilon: float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    """The sums over p and n of `WeightedRegularizedTriplet`.

    With an epsilon w_in = exp(-d_in) / (sum_m exp(-d_im) + epsilon), as in the authors' code, where
    it is 1e-6. Once all negatives are more than -log(epsilon) away, some 14 units, these weights
    vanish, and with them the push: positives are pulled together alone.

    Args:
        features: (B, D).
        targets: (B,) identities.
        epsilon: 0: w_in is a softmax.

    Returns:
        sum_p w_ip d_ip and sum_n w_in d_in, (B,) each; (B,) bool, the image has a negative.
    """
    same_id = targets.unsqueeze(1) == targets.unsqueeze(0)  # (B, B)
    distances = pairwise_distances(features, features)  # (B, B)
    positive = (_softmax(distances, same_id) * distances).sum(dim=1)
    negative = (_softmax(-distances, ~same_id) * distances).sum(dim=1)
    if epsilon:
        total = (-distances).masked_fill(same_id, -torch.inf).logsumexp(dim=1)
        negative = negative * torch.sigmoid(total - math.log(epsilon))
    return positive, negative, (~same_id).any(dim=1)


def _softmax(x: Tensor, mask: Tensor) -> Tensor:
    """Softmax of (B, B) along each row over the entries whose mask is true; 0 elsewhere."""
    return x.masked_fill(~mask, torch.finfo(x.dtype).min).softmax(dim=1) * mask


class WeightedRegularizedTriplet(FeatureLoss):
    """Weighted regularised triplet loss (AGW: Ye et al., TPAMI 2021); blind to modality.

    mean_i log(1 + exp(sum_p w_ip d_ip - sum_n w_in d_in))

    w_ip = softmax of d_ip over i's positives (itself among them, as in the authors' code),
    w_in = softmax of -d_in over its negatives. An image without a negative does not count. It has
    no margin and is never 0, however good the features.

    Args:
        epsilon: see `weighted_distances`; 0: exact, 1e-6: as the authors' code.
        normalize, gather: see `FeatureLoss`.

    Call it as `loss(features (B, C), labels (B,), modalities (B,))`; see `FeatureLoss.forward`.

    >>> import torch, icre
    >>> features = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    >>> loss = icre.losses.WeightedRegularizedTriplet()
    >>> loss(features, labels=torch.tensor([7, 7, 9, 9]), modalities=torch.tensor([0, 1, 0, 1]))
    tensor(0.4794)
    """

    epsilon: float

    def __init__(self, epsilon: float = 0.0, *, normalize: bool = False, gather: bool = False):
        super().__init__(normalize=normalize, gather=gather, epsilon=epsilon)

    def formula(self, features: Tensor, labels: Tensor, modalities: Tensor) -> dict[str, Tensor]:
        """One term."""
        positive, negative, counted = weighted_distances(features, labels, self.epsilon)
        return {"wrt": masked_mean(F.softplus(positive - negative), counted)}


@LOSS_REGISTRY.register()
class WeightedRegularizedTripletLoss(ConfiguredLoss):
    """Softly weighted triplets without a margin (AGW, TPAMI 2021).

    `WeightedRegularizedTriplet` in a model; keys: MODEL.LOSSES.WRT.
    """

    node, plain, prefix = "WRT", WeightedRegularizedTriplet, "loss"
