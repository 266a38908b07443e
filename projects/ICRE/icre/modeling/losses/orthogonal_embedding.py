"""Orthogonality of the embeddings that a backbone generates (DEEN: Zhang and Wang, CVPR 2023)."""

import itertools

import torch
from torch import Tensor, nn

from fastreid.config import CfgNode, configurable

from icre.modeling.losses.outputs import Outputs
from icre.modeling.losses.registry import LOSS_REGISTRY


def orthogonal_embedding(features: Tensor, embeddings: int) -> Tensor:
    """Sum over images and pairs of generated embeddings of their dot product, over R * B.

    Args:
        features: (R * B, D), one embedding of all images behind the other; the first is no
            generated one. They are means of ReLUs, so that no dot product is negative.
        embeddings: R.

    Returns:
        0-d; a differentiable 0 of fewer than three embeddings.
    """
    generated = features.chunk(embeddings)[1:]
    products = [(one * other).sum() for one, other in itertools.combinations(generated, 2)]
    return torch.stack([features.sum() * 0, *products]).sum() / max(len(features), 1)


@LOSS_REGISTRY.register()
class OrthogonalEmbeddingLoss(nn.Module):
    """DEEN's orthogonality of the generated embeddings (CVPR 2023).

    scale * `orthogonal_embedding`; key: MODEL.LOSSES.ORTHOGONAL.SCALE.
    """

    @configurable
    def __init__(self, *, scale: float):
        super().__init__()
        self.scale = scale

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, float]:
        """Read MODEL.LOSSES.ORTHOGONAL."""
        return {"scale": cfg.MODEL.LOSSES.ORTHOGONAL.SCALE}

    def forward(self, outputs: Outputs, targets: Tensor, modalities: Tensor) -> dict[str, Tensor]:
        """See `icre.modeling.losses`; targets and modalities are not used."""
        with torch.autocast(targets.device.type, enabled=False):
            loss = orthogonal_embedding(outputs.features.float(), outputs.embeddings)
        return {"loss_orthogonal": self.scale * loss}
