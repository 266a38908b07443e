"""Losses of other work, for the ablation table: what ICG is compared with.

Written from the papers and checked against their authors' public code; batches may come in any
order and mixture here, where that code needs P x K images in a fixed order. On f, in float32.

Shapes: B features of D dimensions.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastreid.config import CfgNode, configurable

from icre.modeling.losses.centres import (
    apart,
    gaps,
    group_means,
    masked_mean,
    modality_centres,
    nearest,
    pairwise,
)
from icre.modeling.losses.gather import across_ranks
from icre.modeling.losses.outputs import Outputs
from icre.modeling.losses.registry import LOSS_REGISTRY


def hetero_center_triplet(
    features: Tensor, targets: Tensor, modalities: Tensor, margin: float
) -> Tensor:
    """Hetero-centre triplet loss (Liu, Tan, Zhou, TMM 2021, after Zhu et al.'s hetero-centre loss).

    mean over all 2P centres [ margin + D(c_k^v, c_k^r) - min_{l != k, any modality} D(c_k, c_l) ]_+

    An identity of one modality has itself as its only positive, at distance 0, as in the authors'
    code; without another identity there is no triplet.

    Args:
        features: (B, D).
        targets: (B,) identities.
        modalities: (B,) integers of `icre.modality`.
        margin: of the triplet.
    """
    centres = modality_centres(features, targets, modalities)
    positive = torch.where(centres.paired, gaps(centres), 0.0)
    negative, found = nearest(pairwise(centres.own, centres.own), centres.rivals)
    return masked_mean(F.relu(margin + positive - negative), centres.lead & found)


def center_cluster(features: Tensor, targets: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """Centre cluster loss (MPANet: Wu et al., CVPR 2021): compact identities, centres apart.

    pull = mean_i ||f_i - c_{y_i}||,  push = mean_{k != l} [ margin - ||c_k - c_l|| ]_+

    c_k is the mean of all of k's images, whatever their modality. (The authors' code weighs the
    pairs of the push by images; with K images of each identity that is the same.)

    Args:
        features: (B, D).
        targets: (B,) identities.
        margin: distance that two identities' centres keep.

    Returns:
        pull and push, 0-d each.
    """
    same_id = targets.unsqueeze(1) == targets.unsqueeze(0)
    centres, present = group_means(features, same_id)
    pull = masked_mean(torch.linalg.vector_norm(features - centres, dim=1), present)
    return pull, apart(centres, same_id, margin)


def weighted_regularized_triplet(features: Tensor, targets: Tensor) -> Tensor:
    """Weighted regularised triplet loss (AGW: Ye et al., TPAMI 2021); no margin.

    mean_i log(1 + exp(sum_p w_ip d_ip - sum_n w_in d_in)), w_ip = softmax of d_ip over i's
    positives (itself among them, as in the authors' code), w_in = softmax of -d_in over its
    negatives. An image without a negative has no triplet. Never 0, however good the features.

    Args:
        features: (B, D).
        targets: (B,) identities.
    """
    same_id = targets.unsqueeze(1) == targets.unsqueeze(0)
    distances = pairwise(features, features)
    positive = (_softmax(distances, same_id) * distances).sum(dim=1)
    negative = (_softmax(-distances, ~same_id) * distances).sum(dim=1)
    return masked_mean(F.softplus(positive - negative), (~same_id).any(dim=1))


def _softmax(x: Tensor, mask: Tensor) -> Tensor:
    """Softmax of (B, B) along each row over the entries that `mask` has; 0 elsewhere."""
    return x.masked_fill(~mask, torch.finfo(x.dtype).min).softmax(dim=1) * mask


class _OnFeatures(nn.Module):
    """Float32 features, L2-normalised where `norm` is on, and a weight of the loss.

    Args:
        scale: weight of the loss.
        norm: L2-normalise the features first.
        gather: over the features of all ranks.
        options: the remaining keys of the loss's node, in lower case.
    """

    node: str  # below MODEL.LOSSES

    @configurable
    def __init__(self, *, scale: float, norm: bool, gather: bool = False, **options: float):
        super().__init__()
        self.scale = scale
        self.norm, self.gather = norm, gather
        self.options = options

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Read the loss's node of MODEL.LOSSES."""
        own = {key.lower(): value for key, value in cfg.MODEL.LOSSES[cls.node].items()}
        return {**own, "gather": cfg.MODEL.LOSSES.GATHER}

    def terms(self, features: Tensor, targets: Tensor, modalities: Tensor) -> dict[str, Tensor]:
        """Unweighted terms of the loss by log name."""
        raise NotImplementedError

    def forward(self, outputs: Outputs, targets: Tensor, modalities: Tensor) -> dict[str, Tensor]:
        """See `icre.modeling.losses`."""
        with torch.autocast(targets.device.type, enabled=False):
            features = outputs.features.float()
            features = F.normalize(features, dim=1) if self.norm else features
            terms = self.terms(
                *(across_ranks(x, self.gather) for x in (features, targets, modalities))
            )
        return {name: self.scale * value for name, value in terms.items()}


@LOSS_REGISTRY.register()
class HeteroCenterTripletLoss(_OnFeatures):
    """`hetero_center_triplet`; MODEL.LOSSES.HC_TRIPLET."""

    node = "HC_TRIPLET"

    def terms(self, features: Tensor, targets: Tensor, modalities: Tensor) -> dict[str, Tensor]:
        """One term."""
        loss = hetero_center_triplet(features, targets, modalities, **self.options)
        return {"loss_hc_triplet": loss}


@LOSS_REGISTRY.register()
class CenterClusterLoss(_OnFeatures):
    """`center_cluster`; MODEL.LOSSES.CENTER_CLUSTER."""

    node = "CENTER_CLUSTER"

    def terms(self, features: Tensor, targets: Tensor, modalities: Tensor) -> dict[str, Tensor]:
        """Pull and push."""
        pull, push = center_cluster(features, targets, **self.options)
        return {"loss_cluster_pull": pull, "loss_cluster_push": push}


@LOSS_REGISTRY.register()
class WeightedRegularizedTripletLoss(_OnFeatures):
    """`weighted_regularized_triplet`; MODEL.LOSSES.WRT."""

    node = "WRT"

    def terms(self, features: Tensor, targets: Tensor, modalities: Tensor) -> dict[str, Tensor]:
        """One term."""
        return {"loss_wrt": weighted_regularized_triplet(features, targets)}
