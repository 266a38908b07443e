"""ICREHead: fast-reid's embedding head, in float32 under autocast.

f = GeM_{p=3}(F_e), b = BN(f) with a frozen bias, logits = W b without a bias (BNNeck, Luo et al.,
CVPRW 2019). All of that is fast-reid's EmbeddingHead with MODEL.HEADS.POOL_LAYER
"GeneralizedMeanPooling", WITH_BNNECK True and CLS_LAYER "Linear".
"""

import torch
from fastreid.modeling.heads import REID_HEADS_REGISTRY, EmbeddingHead
from torch import Tensor


@REID_HEADS_REGISTRY.register()
class ICREHead(EmbeddingHead):
    """Pooling, neck and classifier; built from a config or from EmbeddingHead's keywords."""

    def forward(
        self, features: Tensor, targets: Tensor | None = None
    ) -> Tensor | dict[str, Tensor]:
        """Pool and classify.

        GeM cubes its input: in bfloat16 the pooled feature would keep two digits.

        Args:
            features: F_e, (B, C, h, w).
            targets: (B,) identities, in training.

        Returns:
            In evaluation the neck feature b, (B, C), not L2-normalised (the evaluation compares
            by cosine). In training a dict: `features` f (B, C), `pred_class_logits` and
            `cls_outputs` (B, classes), without and with the margin of `CLS_LAYER`.
        """
        with torch.autocast(features.device.type, enabled=False):
            return super().forward(features.float(), targets)
