"""ICREHead: fast-reid's embedding head, in float32 under autocast.

f = GeM_{p=3}(F_e), b = BN(f) with a frozen bias, logits = W b without a bias (BNNeck, Luo et al.,
CVPRW 2019). All of that is fast-reid's EmbeddingHead with MODEL.HEADS.POOL_LAYER
"GeneralizedMeanPooling", WITH_BNNECK True and CLS_LAYER "Linear".
"""

from typing import Any

import torch
from torch import Tensor

from fastreid.config import CfgNode, configurable
from fastreid.modeling.heads import REID_HEADS_REGISTRY, EmbeddingHead

from icre.utils.choice import one_of

TEST_FEATURES = ("after", "before")  # MODEL.HEADS.TEST_FEAT


@REID_HEADS_REGISTRY.register()
class ICREHead(EmbeddingHead):
    """Pooling, neck and classifier; built from a config or from keywords.

    Args:
        test_feat: feature in evaluation: "after" the neck (b) or "before" it (f).
        stock: keywords of EmbeddingHead.
    """

    @configurable
    def __init__(self, *, test_feat: str = "after", **stock: Any):
        super().__init__(**stock)
        self.test_feat = one_of("MODEL.HEADS.TEST_FEAT", test_feat, TEST_FEATURES)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """EmbeddingHead's keywords, and MODEL.HEADS.TEST_FEAT."""
        return {**super().from_config(cfg), "test_feat": cfg.MODEL.HEADS.TEST_FEAT}

    def forward(
        self, features: Tensor, targets: Tensor | None = None
    ) -> Tensor | dict[str, Tensor]:
        """Pool and classify.

        GeM cubes its input: in bfloat16 the pooled feature would keep two digits.

        Args:
            features: F_e, (B, C, h, w).
            targets: (B,) identities, in training.

        Returns:
            In evaluation the neck feature b or the pooled feature f, (B, C), not L2-normalised (the
            evaluation compares by cosine). In training a dict: `features` f (B, C),
            `pred_class_logits` and `cls_outputs` (B, classes), without and with the margin of
            `CLS_LAYER`.
        """
        with torch.autocast(features.device.type, enabled=False):
            features = features.float()
            if self.training:
                return super().forward(features, targets)
            x = self.pool_layer(features)  # f: (B, C, 1, 1)
            if self.test_feat == "after":
                x = self.bottleneck(x)  # b: (B, C, 1, 1)
            return x[..., 0, 0]
