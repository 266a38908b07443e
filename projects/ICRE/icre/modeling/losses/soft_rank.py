"""ICG as a smooth ranking, over all centres of the batch.

One of our readings, see `icg`.

Shapes: B features of D dimensions; k, l identities; v, r modalities.
"""

import torch
from torch import Tensor

from icre.modeling.losses.centres import masked_mean, modality_centres, pairwise_distances
from icre.modeling.losses.feature_loss import FeatureLoss


class SoftRank(FeatureLoss):
    """Rank each feature's identity in the other modality before every other centre of the batch.

    mean_i log(1 + sum_{l != y_i, m} exp(margin + ||f_i - c_{y_i}^{other}|| - ||f_i - c_l^m||))

    over both modalities m of every other identity l, so the feature's own modality has negatives
    too. A smooth `Rank`, never 0: no negative is ever far enough to be left out. Nearest to the
    multi-class N-pair loss (Sohn, NeurIPS 2016), with modality-aware centres in place of images.

    Args:
        margin: rho_1, of the ranking.
        normalize: L2-normalise the features first.
        gather: see `FeatureLoss`.

    Call it as `loss(features (B, C), labels (B,), modalities (B,))`; see `FeatureLoss.forward`.

    >>> import torch, icre
    >>> features = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    >>> loss = icre.losses.SoftRank(margin=0)
    >>> loss(features, labels=torch.tensor([7, 7, 9, 9]), modalities=torch.tensor([0, 1, 0, 1]))
    tensor(0.9387)
    """

    margin: float

    def __init__(self, margin: float = 0.3, *, normalize: bool = True, gather: bool = False):
        super().__init__(normalize=normalize, gather=gather, margin=margin)

    def formula(self, features: Tensor, labels: Tensor, modalities: Tensor) -> dict[str, Tensor]:
        """One term."""
        centres = modality_centres(features, labels, modalities)
        positive = torch.linalg.vector_norm(features - centres.cross, dim=1)  # (B,)
        negative = pairwise_distances(features, centres.intra)  # (B, B)
        logits = self.margin + positive.unsqueeze(1) - negative
        logits = logits.masked_fill(~centres.negatives, -torch.inf)
        logits = torch.cat([logits, logits.new_zeros(len(logits), 1)], dim=1)  # exp(0): the 1
        return {"list": masked_mean(logits.logsumexp(dim=1), centres.has_cross)}
