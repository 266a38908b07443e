"""ICREHead: fast-reid's embedding head, in float32 under autocast.

f = GeM_{p=3}(F_e), b = BN(f) with a frozen bias, logits = W b without a bias (BNNeck, Luo et al.,
CVPRW 2019). All of that is fast-reid's EmbeddingHead with MODEL.HEADS.POOL_LAYER
"GeneralizedMeanPooling", WITH_BNNECK True and CLS_LAYER "Linear".
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastreid.config import CfgNode, configurable
from fastreid.modeling.heads import REID_HEADS_REGISTRY, EmbeddingHead

from icre.utils.choice import one_of

TEST_FEATURES = ("after", "before", "both")  # MODEL.HEADS.TEST_FEAT


@REID_HEADS_REGISTRY.register()
class ICREHead(EmbeddingHead):
    """Pooling, neck and classifier; built from a config or from keywords.

    Args:
        test_feat: feature in evaluation: "after" the neck (b), "before" it (f), or "both": the two,
            each L2-normalised, one behind the other, so that their cosines are averaged (as DEEN,
            Zhang et al., CVPR 2023, adds them).
        stock: keywords of EmbeddingHead.
    """

    @configurable
    def __init__(self, *, test_feat: str = "after", **stock: Any):
        super().__init__(**stock)
        self.test_feat = one_of("MODEL.HEADS.TEST_FEAT", test_feat, TEST_FEATURES)
        self.gives_all = False  # see `all_test_features`

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
            In evaluation the test feature, (B, C) or for "both" (B, 2C), not L2-normalised (the
            evaluation compares by cosine); within `all_test_features` a dict of all. In training a
            dict: `features` f (B, C), `pred_class_logits` and `cls_outputs` (B, classes), without
            and with the margin of `CLS_LAYER`.
        """
        with torch.autocast(features.device.type, enabled=False):
            features = features.float()
            if self.training:
                return super().forward(features, targets)
            f = self.pool_layer(features)  # (B, C, 1, 1)
            if self.gives_all:
                return {name: self._test_feature(name, f) for name in TEST_FEATURES}
            return self._test_feature(self.test_feat, f)

    def _test_feature(self, name: str, f: Tensor) -> Tensor:
        if name == "before":
            return f[..., 0, 0]
        b = self.bottleneck(f)[..., 0, 0]
        if name == "after":
            return b
        return torch.cat([F.normalize(f[..., 0, 0]), F.normalize(b)], dim=1)


@contextmanager
def all_test_features(model: nn.Module) -> Iterator[None]:
    """While it lasts, a model with an ICREHead evaluates to {name of TEST_FEATURES: feature}."""
    heads = [module for module in model.modules() if isinstance(module, ICREHead)]
    for head in heads:
        head.gives_all = True
    try:
        yield
    finally:
        for head in heads:
            head.gives_all = False
