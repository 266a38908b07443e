"""Hetero-centre triplet loss (Liu, Tan, Zhou, TMM 2021, after Zhu et al.'s hetero-centre loss).

For comparison with ICG. Written from the paper and checked against the authors' public code, which
needs P x K images in a fixed order; here a batch may come in any order and mixture.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from icre.modeling.losses.centres import masked_mean, modality_centres, nearest, pairwise_distances
from icre.modeling.losses.feature_loss import ConfiguredLoss, FeatureLoss
from icre.modeling.losses.registry import LOSS_REGISTRY


class HeteroCenterTriplet(FeatureLoss):
    """Hetero-centre triplet loss (Liu, Tan, Zhou, TMM 2021).

    Mean over all 2P centres [ margin + D(c_k^v, c_k^r) - min_{l != k} D(c_k, c_l) ]_+, of the
    centres c of each identity k, l in each modality v, r; the minimum is over both modalities. An
    identity of one modality has itself as its only positive, at distance 0, as in the authors'
    code; without another identity the loss is 0.

    Args:
        margin: of the triplet, in the unit of the features.
        normalize, gather: see `FeatureLoss`.

    Call it as `loss(features (B, C), labels (B,), modalities (B,))`; see `FeatureLoss.forward`.

    >>> import torch, icre
    >>> features = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    >>> loss = icre.losses.HeteroCenterTriplet(margin=0.3)
    >>> loss(features, labels=torch.tensor([7, 7, 9, 9]), modalities=torch.tensor([0, 1, 0, 1]))
    tensor(0.3000)
    """

    margin: float

    def __init__(self, margin: float = 0.3, *, normalize: bool = False, gather: bool = False):
        super().__init__(normalize=normalize, gather=gather, margin=margin)

    def formula(self, features: Tensor, labels: Tensor, modalities: Tensor) -> dict[str, Tensor]:
        """One term."""
        centres = modality_centres(features, labels, modalities)
        positive = torch.where(centres.has_cross, centres.modality_distance, 0.0)  # (B,)
        distances = pairwise_distances(centres.intra, centres.intra)  # (B, B)
        negative, found = nearest(distances, centres.negatives)  # (B,)
        excess = F.relu(self.margin + positive - negative)
        return {"triplet": masked_mean(excess, centres.is_first & found)}


@LOSS_REGISTRY.register()
class HeteroCenterTripletLoss(ConfiguredLoss):
    """Triplets of the identities' centres in each modality (Liu et al., TMM 2021).

    `HeteroCenterTriplet` in a model; keys: MODEL.LOSSES.HC_TRIPLET.
    """

    node, plain, prefix = "HC_TRIPLET", HeteroCenterTriplet, "loss_hc"
