"""Cross-modality pattern loss of DEEN (Zhang and Wang, CVPR 2023).

Written from the paper and checked against the authors' public code, of which it has value and
gradient on batches of K images per identity and modality.

Shapes: B images, D dimensions; i, j identities.
"""

import torch
from torch import Tensor, nn

from fastreid.config import CfgNode, configurable

from icre.modeling.losses.centres import (
    Centres,
    masked_mean,
    modality_centres,
    nearest,
    pairwise_distances,
)
from icre.modeling.losses.outputs import Outputs
from icre.modeling.losses.registry import LOSS_REGISTRY


def cross_modality_pattern(
    features: Tensor, generated: Tensor, targets: Tensor, modalities: Tensor, margin: float
) -> Tensor:
    """Bring an identity's generated centre nearer to its other modality than to anything else.

    With c_i the centre of i in one modality, o_i in the other, g_i that of the generated features
    of the first modality, and d_i = ||o_i - g_i||, the mean over identities and modalities of

        [margin - ||c_i - g_i|| + d_i]_+                   (no gradient through ||c_i - g_i||)
        + 1/2 [margin - min_j ||g_i - g_j|| + d_i]_+
        + 1/2 [margin - min_j ||c_i - c_j|| + d_i]_+

    Args:
        features: (B, D), the images' first embeddings.
        generated: (B, D), another embedding of the same images.
        targets, modalities: (B,).
        margin: see above.

    Returns:
        0-d; a differentiable 0 if no identity has both modalities.
    """
    own = modality_centres(features, targets, modalities)
    new = modality_centres(generated, targets, modalities)
    across = torch.linalg.vector_norm(own.cross - new.intra, dim=1)  # (B,)
    within = torch.linalg.vector_norm(own.intra - new.intra, dim=1).detach()
    counted = own.is_first & own.has_cross
    loss = (margin - within + across).relu()
    for centres in (new, own):
        distance, exists = _nearest_identity(centres)
        loss = loss + 0.5 * (margin - distance + across).relu() * exists
    return masked_mean(loss, counted)


def _nearest_identity(centres: Centres) -> tuple[Tensor, Tensor]:
    """(B,) distance to the nearest other identity's centre in the modality; (B,) is there one."""
    allowed = centres.negatives & centres.same_modality
    return nearest(pairwise_distances(centres.intra, centres.intra), allowed)


@LOSS_REGISTRY.register()
class CrossModalityPatternLoss(nn.Module):
    """DEEN's CPM loss of the generated embeddings (CVPR 2023).

    scale * the sum over the embeddings but the first of `cross_modality_pattern`; keys:
    MODEL.LOSSES.CPM.
    """

    @configurable
    def __init__(self, *, scale: float, margin: float):
        super().__init__()
        self.scale, self.margin = scale, margin

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, float]:
        """Read MODEL.LOSSES.CPM."""
        node = cfg.MODEL.LOSSES.CPM
        return {"scale": node.SCALE, "margin": node.MARGIN}

    def forward(self, outputs: Outputs, targets: Tensor, modalities: Tensor) -> dict[str, Tensor]:
        """See `icre.modeling.losses`."""
        count = outputs.embeddings
        with torch.autocast(targets.device.type, enabled=False):
            first, *others = outputs.features.float().chunk(count)
            batch = targets.chunk(count)[0], modalities.chunk(count)[0], self.margin
            terms = [cross_modality_pattern(first, other, *batch) for other in others]
        return {"loss_cpm": self.scale * torch.stack(terms).sum()}
