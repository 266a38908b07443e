"""Centre cluster loss (MPANet: Wu et al., CVPR 2021): compact identities, their centres apart.

For comparison with ICG. Written from the paper and checked against the authors' public code, which
weights the pairs of the push by their images; with K images per identity that is the same.
"""

import torch
from torch import Tensor

from icre.modeling.losses.centres import group_means, masked_mean, push_apart
from icre.modeling.losses.feature_loss import ConfiguredLoss, FeatureLoss
from icre.modeling.losses.registry import LOSS_REGISTRY


class CenterCluster(FeatureLoss):
    """Centre cluster loss (MPANet: Wu et al., CVPR 2021); blind to modality.

    pull = mean_i ||f_i - c_{y_i}||
    push = mean_{k != l} [ margin - ||c_k - c_l|| ]_+

    c_k is the mean of all of the identity k's images, whatever their modality.

    Args:
        margin: distance below which two centres repel each other, in the unit of the features.
        normalize, gather: see `FeatureLoss`.

    Call it as `loss(features (B, C), labels (B,), modalities (B,))`; see `FeatureLoss.forward`.

    >>> import torch, icre
    >>> features = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    >>> loss = icre.losses.CenterCluster(margin=2)
    >>> batch = features, torch.tensor([7, 7, 9, 9]), torch.tensor([0, 1, 0, 1])
    >>> loss.terms(*batch)
    {'pull': tensor(0.7071), 'push': tensor(0.5858)}
    >>> loss(*batch)
    tensor(1.2929)
    """

    margin: float

    def __init__(self, margin: float = 0.7, *, normalize: bool = False, gather: bool = False):
        super().__init__(normalize=normalize, gather=gather, margin=margin)

    def formula(self, features: Tensor, labels: Tensor, modalities: Tensor) -> dict[str, Tensor]:
        """Pull and push."""
        same_id = labels.unsqueeze(1) == labels.unsqueeze(0)
        centres, present = group_means(features, same_id)
        pull = masked_mean(torch.linalg.vector_norm(features - centres, dim=1), present)
        return {"pull": pull, "push": push_apart(centres, same_id, self.margin)}


@LOSS_REGISTRY.register()
class CenterClusterLoss(ConfiguredLoss):
    """Pulls features to their identity's centre, pushes the centres apart (MPANet, CVPR 2021).

    `CenterCluster` in a model; keys: MODEL.LOSSES.CENTER_CLUSTER.
    """

    node, plain, prefix = "CENTER_CLUSTER", CenterCluster, "loss_cluster"
