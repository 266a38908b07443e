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
        test_norm: L2-normalise the feature in evaluation; "both" always is.
        stock: keywords of EmbeddingHead.
    """

    @configurable
    def __init__(self, *, test_feat: str = "after", test_norm: bool = False, **stock: Any):
        super().__init__(**stock)
        self.test_feat = one_of("MODEL.HEADS.TEST_FEAT", test_feat, TEST_FEATURES)
        self.test_norm = test_norm
        self.gives_all = False  # see `all_test_features`

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """EmbeddingHead's keywords, MODEL.HEADS.TEST_FEAT and TEST_NORM."""
        node = cfg.MODEL.HEADS
        options = {"test_feat": node.TEST_FEAT, "test_norm": node.TEST_NORM}
        return {**super().from_config(cfg), **options}

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
            dict: `features` (B, C), f or b by NECK_FEAT; `neck` b (B, C); `pred_class_logits` and
            `cls_outputs` (B, classes), without and with the margin of `CLS_LAYER`.
        """
        with torch.autocast(features.device.type, enabled=False):
            f = self.pool_layer(features.float())  # (B, C, 1, 1)
            if self.training:
                return self._classified(f, targets)
            if self.gives_all:
                return {name: self._test_feature(name, f) for name in TEST_FEATURES}
            return self._test_feature(self.test_feat, f)

    def _classified(self, f: Tensor, targets: Tensor | None) -> dict[str, Tensor]:
        """EmbeddingHead's results in training, which keep b to themselves, and b."""
        b = self.bottleneck(f)[..., 0, 0]
        linear = type(self.cls_layer).__name__ == "Linear"
        pair = (b, self.weight) if linear else (F.normalize(b), F.normalize(self.weight))
        logits = F.linear(*pair)
        return {
            "features": {"before": f[..., 0, 0], "after": b}[self.neck_feat],
            "neck": b,
            "cls_outputs": self.cls_layer(logits.clone(), targets),  # which works in place
            "pred_class_logits": logits * self.cls_layer.s,
        }

    def _test_feature(self, name: str, f: Tensor) -> Tensor:
        if name == "both":
            parts = [self._test_feature(one, f) for one in ("before", "after")]
            return torch.cat([F.normalize(part) for part in parts], dim=1)
        feature = (f if name == "before" else self.bottleneck(f))[..., 0, 0]
        return F.normalize(feature) if self.test_norm else feature


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
