"""ICG as guidance: the enhancement must bring an identity's modalities closer.

One of our readings, see `icg`.

Shapes: B features of D dimensions; k, l identities; v, r modalities.
"""

import torch.nn.functional as F
from torch import Tensor

from icre.modeling.losses.centres import masked_mean, modality_centres, push_apart
from icre.modeling.losses.feature_loss import FeatureLoss


class Guided(FeatureLoss):
    """An enhancement must bring an identity's modalities closer than they were without it.

    pull = mean_k [ D(c'_k^v, c'_k^r) - stopgrad D(c_k^v, c_k^r) + gain ]_+
    push = mean_{k != l} [ margin - ||c'_k - c'_l|| ]_+

    with c' of the enhanced and c of the un-enhanced feature. Nearest to IDKL's centroid loss.
    Without an enhancement, and with INIT_SCALE 0 in the first step, the pull is at its kink: 0.

    Args:
        gain: rho_1, by how much closer.
        margin: rho_2, distance below which two identities' centres repel each other.
        normalize: L2-normalise both features first.
        gather: see `FeatureLoss`.

    Call it as `loss(features, labels (B,), modalities (B,), unenhanced)`, both features (B, C).

    >>> import torch, icre
    >>> before = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    >>> features = torch.tensor([[1.0, 0], [1, 0], [-1, 0], [-1, 0]])
    >>> loss = icre.losses.Guided()
    >>> batch = torch.tensor([7, 7, 9, 9]), torch.tensor([0, 1, 0, 1])
    >>> loss(features, *batch, unenhanced=before), loss(before, *batch, unenhanced=features)
    (tensor(0.), tensor(1.4142))
    """

    gain: float
    margin: float

    def __init__(
        self,
        gain: float = 0.0,
        margin: float = 0.7,
        *,
        normalize: bool = True,
        gather: bool = False,
    ):
        super().__init__(normalize=normalize, gather=gather, gain=gain, margin=margin)

    def formula(  # type: ignore[override]
        self, features: Tensor, labels: Tensor, modalities: Tensor, unenhanced: Tensor
    ) -> dict[str, Tensor]:
        """Pull and push."""
        centres = modality_centres(features, labels, modalities)
        before = modality_centres(unenhanced.detach(), labels, modalities)
        excess = F.relu(centres.modality_distance - before.modality_distance + self.gain)  # (B,)
        return {
            "pull": masked_mean(excess, centres.is_first & centres.has_cross),
            "push": push_apart(centres.identity, centres.same_id, self.margin),
        }
