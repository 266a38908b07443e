"""Losses by name: `MODEL.LOSSES.NAME` lists names of LOSS_REGISTRY.

A loss is a module built from the config, `Loss(cfg)`, and called as
`loss(outputs, targets, modalities) -> {log name: scalar}`, its weight already applied, with
    outputs: the network's results for the batch, an `Outputs`.
    targets: (B,) identities.
    modalities: (B,) integers of `icre.modality`, on the features' device.
"""

# only registration
from icre.modeling.losses import (  # noqa: F401
    auxiliary,
    center_cluster,
    hetero_center_triplet,
    icg,
    stock,
    weighted_regularized_triplet,
)
from icre.modeling.losses.outputs import Outputs
from icre.modeling.losses.registry import LOSS_REGISTRY, build_losses

__all__ = ["LOSS_REGISTRY", "Outputs", "build_losses"]
