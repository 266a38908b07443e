"""Centre cluster loss (MPANet: Wu et al., CVPR 2021): compact identities, their centres apart.

For comparison with ICG. Written from the paper and checked against the authors' public code, which
weights the pairs of the push by their images; with K images per identity that is the same.
"""

import torch
from torch import Tensor

from icre.modeling.losses.centres import group_means, masked_mean, push_apart
from icre.modeling.losses.feature_loss import FeatureLoss
from icre.modeling.losses.registry import LOSS_REGISTRY


def center_cluster(features: Tensor, targets: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """Pull features to their identity's centre, push the centres apart.

    pull = mean_i ||f_i - c_{y_i}||,  push = mean_{k != l} [ margin - ||c_k - c_l|| ]_+

    c_k is the mean of all of k's images, whatever their modality.

    Args:
        features: (B, D).
        targets: (B,) identities.
        margin: distance below which two centres repel each other.

    Returns:
        pull and push, 0-d each.
    """
    same_id = targets.unsqueeze(1) == targets.unsqueeze(0)
    centres, present = group_means(features, same_id)
    pull = masked_mean(torch.linalg.vector_norm(features - centres, dim=1), present)
    return pull, push_apart(centres, same_id, margin)


@LOSS_REGISTRY.register()
class CenterClusterLoss(FeatureLoss):
    """Pulls features to their identity's centre, pushes the centres apart (MPANet, CVPR 2021).

    `center_cluster`; keys: MODEL.LOSSES.CENTER_CLUSTER.
    """

    node = "CENTER_CLUSTER"

    def terms(self, features: Tensor, targets: Tensor, modalities: Tensor) -> dict[str, Tensor]:
        """Pull and push."""
        pull, push = center_cluster(features, targets, self.options["margin"])
        return {"loss_cluster_pull": pull, "loss_cluster_push": push}
