"""PCB's head: horizontal strips, each with a feature and a classifier of its own.

"Beyond Part Models: Person Retrieval with Refined Part Pooling", Sun et al., ECCV 2018, without the
refined pooling; the usual part-based baseline of the field on a two-stream backbone. Its loss:
`PartIDLoss`.

Shapes: B images, C channels of the map, P strips, D = MODEL.HEADS.EMBEDDING_DIM per strip.
"""

from typing import Any

import torch
from torch import Tensor, nn

from fastreid.config import CfgNode, configurable
from fastreid.layers import get_norm
from fastreid.modeling.heads import REID_HEADS_REGISTRY, EmbeddingHead


@REID_HEADS_REGISTRY.register()
class PCBHead(nn.Module):
    """Mean of each strip, 1x1 convolution, norm, ReLU, classifier; none shared among strips.

    Args:
        feat_dim: C.
        embedding_dim: D.
        num_classes: identities.
        parts: P.
        norm_type: fast-reid's name of the normalisation.
    """

    @configurable
    def __init__(
        self, *, feat_dim: int, embedding_dim: int, num_classes: int, parts: int, norm_type: str
    ):
        super().__init__()
        self.parts = parts
        self.pool_layer = nn.AdaptiveAvgPool2d((parts, 1))
        width = parts * embedding_dim
        conv = nn.Conv2d(parts * feat_dim, width, 1, groups=parts, bias=False)  # a group per strip
        nn.init.kaiming_normal_(conv.weight, mode="fan_out")
        self.reduce = nn.Sequential(conv, get_norm(norm_type, width), nn.ReLU())
        self.weight = nn.Parameter(torch.empty(parts, num_classes, embedding_dim))
        nn.init.normal_(self.weight, std=0.001)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """The keywords of EmbeddingHead that it has, and MODEL.HEADS.PARTS."""
        stock = EmbeddingHead.from_config(cfg)
        return {
            **{name: stock[name] for name in ("feat_dim", "num_classes", "norm_type")},
            "embedding_dim": stock["embedding_dim"] or stock["feat_dim"],
            "parts": cfg.MODEL.HEADS.PARTS,
        }

    def forward(
        self, features: Tensor, targets: Tensor | None = None
    ) -> Tensor | dict[str, Tensor]:
        """(B, C, h, w) -> (B, P * D) in evaluation.

        In training a dict: `features` (B, P * D), `cls_outputs` (B, P, classes), and
        `pred_class_logits` (B, classes), their mean over the strips.
        """
        with torch.autocast(features.device.type, enabled=False):
            strips = self.pool_layer(features.float())[..., 0]  # (B, C, P)
            f = self.reduce(strips.mT.flatten(1)[..., None, None])[..., 0, 0]  # (B, P * D)
            if not self.training:
                return f
            logits = torch.einsum("bpd,pcd->bpc", f.unflatten(1, (self.parts, -1)), self.weight)
        return {"features": f, "cls_outputs": logits, "pred_class_logits": logits.mean(dim=1)}
