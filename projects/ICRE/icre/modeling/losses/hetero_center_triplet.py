"""Hetero-centre triplet loss (Liu, Tan, Zhou, TMM 2021, after Zhu et al.'s hetero-centre loss).

For comparison with ICG. Written from the paper and checked against the authors' public code, which
needs P x K images in a fixed order; here a batch may come in any order and mixture.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from icre.modeling.losses.centres import masked_mean, modality_centres, nearest, pairwise_distances
from icre.modeling.losses.feature_loss import FeatureLoss
from icre.modeling.losses.registry import LOSS_REGISTRY


def hetero_center_triplet(
    features: Tensor, targets: Tensor, modalities: Tensor, margin: float
) -> Tensor:
    """Mean over all 2P centres [ margin + D(c_k^v, c_k^r) - min_{l != k} D(c_k, c_l) ]_+.

    The minimum is over both modalities. An identity of one modality has itself as its only
    positive, at distance 0, as in the authors' code; without another identity the loss is 0.

    Args:
        features: (B, D).
        targets: (B,) identities.
        modalities: (B,) integers of `icre.modality`.
        margin: of the triplet.

    Returns:
        The loss, 0-d.
    """
    centres = modality_centres(features, targets, modalities)
    positive = torch.where(centres.has_cross, centres.modality_distance, 0.0)  # (B,)
    distances = pairwise_distances(centres.intra, centres.intra)  # (B, B)
    negative, found = nearest(distances, centres.negatives)  # (B,)
    return masked_mean(F.relu(margin + positive - negative), centres.is_first & found)


@LOSS_REGISTRY.register()
class HeteroCenterTripletLoss(FeatureLoss):
    """Triplets of the identities' centres in each modality (Liu et al., TMM 2021).

    `hetero_center_triplet`; keys: MODEL.LOSSES.HC_TRIPLET.
    """

    node = "HC_TRIPLET"

    def terms(self, features: Tensor, targets: Tensor, modalities: Tensor) -> dict[str, Tensor]:
        """One term."""
        loss = hetero_center_triplet(features, targets, modalities, self.options["margin"])
        return {"loss_hc_triplet": loss}
