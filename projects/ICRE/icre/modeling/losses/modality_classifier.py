"""Modality-specific classifiers that learn from each other (MPANet: Wu et al., CVPR 2021).

A classifier of visible and one of infrared images see the feature behind the neck; each one's
prediction is drawn to that of a slow copy of the other modality's classifier, through which no
gradient flows. Written from the paper and checked against the authors' public code.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastreid.config import CfgNode, configurable

from icre.modality import NAMES
from icre.modeling.losses.centres import masked_mean
from icre.modeling.losses.outputs import Outputs
from icre.modeling.losses.registry import LOSS_REGISTRY
from icre.utils.errors import UserError


@LOSS_REGISTRY.register()
class ModalityClassifierLoss(nn.Module):
    """ID losses of two modality classifiers, and KL divergence to slow copies (MPANet, CVPR 2021).

    For images of modality m, with logits W_m b, and S_other the copy of the other's W:

        id = cross-entropy(W_m b, y), its mean over each modality's images, summed
        kl = KL(softmax(W_m b) || softmax(S_other b)), its mean over all images

    In each step S <- (1 - rate) S + rate W before it is used. Keys:
    MODEL.LOSSES.MODALITY_CLASSIFIER.

    Args:
        feat_dim: C of b.
        num_classes: identities.
        scale, scale_kl: weights of id and kl.
        rate: of the copies.
    """

    copies: Tensor  # (2, classes, C)

    @configurable
    def __init__(
        self, *, feat_dim: int, num_classes: int, scale: float, scale_kl: float, rate: float
    ):
        super().__init__()
        self.scale, self.scale_kl, self.rate = scale, scale_kl, rate
        self.weight = nn.Parameter(torch.empty(len(NAMES), num_classes, feat_dim))
        nn.init.uniform_(self.weight, -(feat_dim**-0.5), feat_dim**-0.5)  # as nn.Linear
        self.register_buffer("copies", self.weight.detach().clone())

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Read MODEL.LOSSES.MODALITY_CLASSIFIER and the width of the head's feature."""
        node, heads = cfg.MODEL.LOSSES.MODALITY_CLASSIFIER, cfg.MODEL.HEADS
        if heads.NAME not in ("ICREHead", "MPANetHead"):
            raise UserError(
                "MODEL.LOSSES.NAME ModalityClassifierLoss needs MODEL.HEADS.NAME ICREHead or "
                f"MPANetHead, not {heads.NAME}, which gives no feature behind a neck"
            )
        parts = heads.PARTS + 1 if heads.NAME == "MPANetHead" else 1
        return {
            "feat_dim": heads.EMBEDDING_DIM or cfg.MODEL.BACKBONE.FEAT_DIM * parts,
            "num_classes": heads.NUM_CLASSES,
            "scale": node.SCALE,
            "scale_kl": node.SCALE_KL,
            "rate": node.RATE,
        }

    def forward(self, outputs: Outputs, targets: Tensor, modalities: Tensor) -> dict[str, Tensor]:
        """See `icre.modeling.losses`."""
        assert outputs.neck is not None
        with torch.autocast(targets.device.type, enabled=False):
            b = outputs.neck.float()
            every = torch.einsum("bd,mcd->mbc", b, self.weight)  # (2, B, classes)
            image = torch.arange(len(b), device=b.device)
            logits = every[modalities, image]
            log_p = logits.log_softmax(dim=1)
            with torch.no_grad():
                self.copies.lerp_(self.weight, self.rate)
                slow = torch.einsum("bd,mcd->mbc", b, self.copies)[1 - modalities, image]
                log_q = slow.log_softmax(dim=1)
            wrong = F.cross_entropy(logits, targets, reduction="none")
            classified = [masked_mean(wrong, modalities == m) for m in range(len(NAMES))]
            divergence = (log_p.exp() * (log_p - log_q)).sum(dim=1).mean()
        return {
            "loss_cls_modality": self.scale * torch.stack(classified).sum(),
            "loss_mutual": self.scale_kl * divergence,
        }
