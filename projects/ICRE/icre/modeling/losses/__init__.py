"""Losses: plain ones for any training loop, and those that a config names.

A plain loss (`icre.losses`) is made of numbers and called on a batch's features:

    loss = icre.losses.PullPush(margin=0.7)
    loss(features, labels, modalities)   # (B, C), (B,), (B,) -> 0-d, see FeatureLoss.forward

ICG has four readings, PullPush, Rank, SoftRank and Guided; HeteroCenterTriplet, CenterCluster,
QuadrupleCenter, WeightedRegularizedTriplet and EnhancedSquaredDifference are for comparison.

A model's losses are those that `MODEL.LOSSES.NAME` lists, by their names in LOSS_REGISTRY. Such a
loss is a module built from the config, `Loss(cfg)`, and called as
`loss(outputs, targets, modalities) -> {log name: scalar}`, its weight already applied, with

    outputs: the network's results for the batch, an `Outputs`.
    targets: (B,) identities.
    modalities: (B,) integers of `icre.modality`, on the features' device.
"""

# only registration: losses of whole models, which are no plain ones
from icre.modeling.losses import (  # noqa: F401
    auxiliary,
    cross_modality_pattern,
    icg,
    modality_classifier,
    orthogonal_embedding,
    part_id,
    part_separation,
    stock,
)
from icre.modeling.losses.center_cluster import CenterCluster
from icre.modeling.losses.enhanced_squared_difference import EnhancedSquaredDifference
from icre.modeling.losses.feature_loss import FeatureLoss
from icre.modeling.losses.guided import Guided
from icre.modeling.losses.hetero_center_triplet import HeteroCenterTriplet
from icre.modeling.losses.outputs import Outputs
from icre.modeling.losses.pull_push import PullPush
from icre.modeling.losses.quadruple_center import QuadrupleCenter
from icre.modeling.losses.rank import Rank
from icre.modeling.losses.registry import LOSS_REGISTRY, build_losses
from icre.modeling.losses.soft_rank import SoftRank
from icre.modeling.losses.weighted_regularized_triplet import WeightedRegularizedTriplet

__all__ = [
    "LOSS_REGISTRY",
    "CenterCluster",
    "EnhancedSquaredDifference",
    "FeatureLoss",
    "Guided",
    "HeteroCenterTriplet",
    "Outputs",
    "PullPush",
    "QuadrupleCenter",
    "Rank",
    "SoftRank",
    "WeightedRegularizedTriplet",
    "build_losses",
]
