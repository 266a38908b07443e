"""ICG as a ranking of centres: the identity's other modality before all other identities.

One of our readings, see `icg`.

Shapes: B features of D dimensions; k, l identities; v, r modalities.
"""

import torch.nn.functional as F
from torch import Tensor

from icre.modeling.losses.centres import masked_mean, modality_centres, nearest, pairwise_distances
from icre.modeling.losses.feature_loss import FeatureLoss


class Rank(FeatureLoss):
    """Rank an identity's other modality before all other identities, by its centres.

    cross = mean over k, both ways [ margin + D(c_k^v, c_k^r) - min_{l != k} D(c_k^v, c_l^r) ]_+
    intra = 0.1 * mean over k, both modalities m [ intra_margin - min_{l != k} D(c_k^m, c_l^m) ]_+

    Nearest to eBDTR and the hetero-centre triplet. `cross` is over the identities that the batch
    has in both modalities and that have a negative in the other one.

    Args:
        margin: rho_1, of the ranking.
        intra_margin: rho_2, distance below which two identities repel each other in a modality.
        normalize: L2-normalise the features first, and the centres.
        gather: see `FeatureLoss`.

    Call it as `loss(features (B, C), labels (B,), modalities (B,))`; see `FeatureLoss.forward`.

    >>> import torch, icre
    >>> features = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    >>> loss = icre.losses.Rank(margin=0.5)
    >>> loss(features, labels=torch.tensor([7, 7, 9, 9]), modalities=torch.tensor([0, 1, 0, 1]))
    tensor(0.5000)
    """

    margin: float
    intra_margin: float

    def __init__(
        self,
        margin: float = 0.5,
        intra_margin: float = 0.1,
        *,
        normalize: bool = True,
        gather: bool = False,
    ):
        super().__init__(
            normalize=normalize, gather=gather, margin=margin, intra_margin=intra_margin
        )

    def formula(self, features: Tensor, labels: Tensor, modalities: Tensor) -> dict[str, Tensor]:
        """Cross and intra."""
        centres = modality_centres(features, labels, modalities)
        if self.normalize:
            centres = centres._replace(
                intra=F.normalize(centres.intra, dim=1), cross=F.normalize(centres.cross, dim=1)
            )
        distances = pairwise_distances(centres.intra, centres.intra)  # (B, B)
        same_modality, negatives = centres.same_modality, centres.negatives
        negative, found = nearest(distances, negatives & ~same_modality)  # (B,)
        cross = masked_mean(
            F.relu(self.margin + centres.modality_distance - negative),
            centres.is_first & centres.has_cross & found,
        )
        negative, found = nearest(distances, negatives & same_modality)
        intra = masked_mean(F.relu(self.intra_margin - negative), centres.is_first & found)
        return {"cross": cross, "intra": 0.1 * intra}
