"""ICREHead: fast-reid's embedding head, in float32 under autocast.

f = GeM_{p=3}(F_e), b = BN(f) with a frozen bias, logits = W b without a bias (BNNeck, Luo et al.,
CVPRW 2019). All of that is fast-reid's EmbeddingHead with MODEL.HEADS.POOL_LAYER
"GeneralizedMeanPooling", WITH_BNNECK True and CLS_LAYER "Linear".
"""

import torch
from torch import Tensor

from fastreid.config import CfgNode, configurable
from fastreid.modeling.heads import REID_HEADS_REGISTRY, EmbeddingHead

from icre.utils.choice import pick

# MODEL.HEADS.TEST_FEAT: (head, maps) -> feature
TEST_FEATURES = {
    "after": lambda head, maps: head.bottleneck(head.pool_layer(maps))[..., 0, 0],
    "before": lambda head, maps: head.pool_layer(maps)[..., 0, 0],
}


@REID_HEADS_REGISTRY.register()
class ICREHead(EmbeddingHead):
    """Pooling, neck and classifier; built from a config or from keywords.

    Args:
        test_feat: one of TEST_FEATURES; the feature in evaluation, behind or before the neck.
        stock: EmbeddingHead's keywords.
    """

    @configurable
    def __init__(self, *, test_feat: str = "after", **stock):
        super().__init__(**stock)
        self.test_feature = pick("MODEL.HEADS.TEST_FEAT", test_feat, TEST_FEATURES)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
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
            if not self.training:
                return self.test_feature(self, features.float())
            return super().forward(features.float(), targets)
