"""Losses by name: `MODEL.LOSSES.NAME` lists names of LOSS_REGISTRY.

A loss is a module built from the config, `Loss(cfg)`, and called as
`loss(outputs, targets, modalities) -> {log name: scalar}`, its weight already applied, with
    outputs: the head's dict: `features` (B, C), `cls_outputs` (B, classes), ...
    targets: (B,) identities.
    modalities: (B,) integers of `icre.modality`, on the features' device.
"""

from icre.modeling.losses import icg, stock  # noqa: F401  (only registration)
from icre.modeling.losses.registry import LOSS_REGISTRY, build_losses

__all__ = ["LOSS_REGISTRY", "build_losses"]
