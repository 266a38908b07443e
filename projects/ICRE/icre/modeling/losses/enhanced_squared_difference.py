"""Enhanced squared difference of CAJ (Ye et al., ICCV 2021): weighted triplets, squared.

Written from the paper and checked against the authors' public code (its TripletLoss_ADP with
`square 1`). Users of that code report that it collapses all features to a point: where positives
are farther than negatives, the square pushes hardest, and one common point ends the loss at log 2.
CAJ's configs use the weighted regularised triplet loss, and name this one as an option.
"""

import torch.nn.functional as F
from torch import Tensor

from icre.modeling.losses.centres import masked_mean
from icre.modeling.losses.feature_loss import ConfiguredLoss, FeatureLoss
from icre.modeling.losses.registry import LOSS_REGISTRY
from icre.modeling.losses.weighted_regularized_triplet import weighted_distances

LARGEST = 88.0  # of the squared difference, as in the public code: exp of more overflows float32


class EnhancedSquaredDifference(FeatureLoss):
    """Enhanced squared difference (CAJ: Ye et al., ICCV 2021); blind to modality.

    mean_i log(1 + exp(sign(z_i) min(z_i^2, 88))), z_i = sum_p w_ip d_ip - sum_n w_in d_in, with the
    weights w of `WeightedRegularizedTriplet`. It may collapse the features, see the module.

    Args:
        normalize, gather: see `FeatureLoss`.

    Call it as `loss(features (B, C), labels (B,), modalities (B,))`; see `FeatureLoss.forward`.

    >>> import torch, icre
    >>> features = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    >>> loss = icre.losses.EnhancedSquaredDifference()
    >>> loss(features, labels=torch.tensor([7, 7, 9, 9]), modalities=torch.tensor([0, 1, 0, 1]))
    tensor(0.5820)
    """

    def __init__(self, *, normalize: bool = False, gather: bool = False):
        super().__init__(normalize=normalize, gather=gather)

    def formula(self, features: Tensor, labels: Tensor, modalities: Tensor) -> dict[str, Tensor]:
        """One term."""
        positive, negative, counted = weighted_distances(features, labels)
        difference = positive - negative
        squared = difference.square().clamp_max(LARGEST)
        loss = F.softplus(difference.detach().sign() * squared)
        return {"squared": masked_mean(loss, counted)}


@LOSS_REGISTRY.register()
class EnhancedSquaredDifferenceLoss(ConfiguredLoss):
    """Weighted triplets with a squared difference (CAJ, ICCV 2021); may collapse.

    `EnhancedSquaredDifference` in a model; keys: MODEL.LOSSES.SQUARED_DIFFERENCE.
    """

    node, plain, prefix = "SQUARED_DIFFERENCE", EnhancedSquaredDifference, "loss"
