"""ICG as pull and push: towards the identity's other modality, away from other identities.

One of our readings, see `icg`.

Shapes: B features of D dimensions; k, l identities; v, r modalities.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from icre.modeling.losses.centres import masked_mean, modality_centres, push_apart
from icre.modeling.losses.feature_loss import FeatureLoss


class PullPush(FeatureLoss):
    """Pull each feature to its identity's other modality, push identities apart: ICG's default.

    pull = mean_i [ ||f_i - c_{y_i}^{other modality of i}|| - slack ]_+
    push = mean_{k != l} [ margin - ||c_k - c_l|| ]_+ ,  c_k = (c_k^v + c_k^r) / 2

    Nearest to MSCMNet's quadruple centre, MPANet's centre cluster and SAAI's slack.

    Args:
        margin: rho_1, distance below which two identities' centres repel each other.
        slack: rho_2, distance that costs a feature nothing.
        normalize: L2-normalise the features first, which gives the margins a fixed unit.
        gather: see `FeatureLoss`.

    Call it as `loss(features (B, C), labels (B,), modalities (B,))`; see `FeatureLoss.forward`.

    >>> import torch, icre
    >>> features = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    >>> loss = icre.losses.PullPush(margin=1.5)
    >>> batch = features, torch.tensor([7, 7, 9, 9]), torch.tensor([0, 1, 0, 1])
    >>> loss(*batch)
    tensor(1.4900)
    >>> loss.terms(*batch)
    {'pull': tensor(1.4042), 'push': tensor(0.0858)}
    """

    margin: float
    slack: float

    def __init__(
        self,
        margin: float = 0.7,
        slack: float = 0.01,
        *,
        normalize: bool = True,
        gather: bool = False,
    ):
        super().__init__(normalize=normalize, gather=gather, margin=margin, slack=slack)

    def formula(self, features: Tensor, labels: Tensor, modalities: Tensor) -> dict[str, Tensor]:
        """Pull and push."""
        centres = modality_centres(features, labels, modalities)
        # vector_norm and cdist give a zero gradient, not NaN, between coinciding points.
        distance = torch.linalg.vector_norm(features - centres.cross, dim=1)  # (B,)
        return {
            "pull": masked_mean(F.relu(distance - self.slack), centres.has_cross),
            "push": push_apart(centres.identity, centres.same_id, self.margin),
        }
