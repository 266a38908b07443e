"""What the metric losses share: features in float32, normalised and gathered as the config says."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastreid.config import CfgNode, configurable

from icre.modeling.losses.gather import across_ranks
from icre.modeling.losses.outputs import Outputs


def metric_features(features: Tensor, norm: bool, gather: bool) -> Tensor:
    """(B, D) -> float32, of length 1 with `norm`, of all ranks with `gather`."""
    features = features.float()
    return across_ranks(F.normalize(features, dim=1) if norm else features, gather)


class FeatureLoss(nn.Module):
    """A loss on f, in float32 also under autocast; subclasses define `node` and `terms`.

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
        self.scale, self.norm, self.gather = scale, norm, gather
        self.options = options

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Read the loss's node of MODEL.LOSSES."""
        options = {key.lower(): value for key, value in cfg.MODEL.LOSSES[cls.node].items()}
        return {**options, "gather": cfg.MODEL.LOSSES.GATHER}

    def terms(self, features: Tensor, targets: Tensor, modalities: Tensor) -> dict[str, Tensor]:
        """Unweighted terms of the loss by log name."""
        raise NotImplementedError

    def forward(self, outputs: Outputs, targets: Tensor, modalities: Tensor) -> dict[str, Tensor]:
        """See `icre.modeling.losses`."""
        with torch.autocast(targets.device.type, enabled=False):
            terms = self.terms(
                metric_features(outputs.features, self.norm, self.gather),
                across_ranks(targets, self.gather),
                across_ranks(modalities, self.gather),
            )
        return {name: self.scale * value for name, value in terms.items()}
