"""Auxiliary ID losses: classify the identities by F_c, or by X_4, alone.

Switched on by its name in MODEL.LOSSES.NAME. The paper names one ID loss, and calls the clue map
identity-guided; from scratch MPFR slows the training without a loss of its own (method card).
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from fastreid.config import CfgNode, configurable

from icre.modeling.head import ICREHead
from icre.modeling.losses.outputs import Outputs, check_maps
from icre.modeling.losses.registry import LOSS_REGISTRY
from icre.modeling.losses.stock import cross_entropy_loss

KEY = "MODEL.LOSSES.AUX_ID.MAPS"
MAPS = ("deep", "clues")  # X_4, F_c


@LOSS_REGISTRY.register()
class AuxiliaryIDLoss(nn.Module):
    """ID losses of single maps: scale * cross-entropy on W BN(GeM(map)), W and BN of each its own.

    They are parameters of the loss: trained as the head is, and not used afterwards.

    Args:
        heads: map ("deep": X_4, "clues": F_c) -> its head.
        scale: weight of each.
        smoothing: fast-reid's `eps` and `alpha` of the cross-entropy, as the ID loss has them.
    """

    node = "AUX_ID"  # below MODEL.LOSSES

    @configurable
    def __init__(
        self, *, heads: Mapping[str, nn.Module], scale: float, smoothing: tuple[float, float]
    ):
        super().__init__()
        self.heads = nn.ModuleDict(heads)
        self.scale = scale
        self.smoothing = smoothing

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Read MODEL.LOSSES.AUX_ID, and MODEL.HEADS for pooling, neck and classifier."""
        check(cfg)
        node, ce = cfg.MODEL.LOSSES[cls.node], cfg.MODEL.LOSSES.CE
        channels = {"deep": cfg.MODEL.BACKBONE.FEAT_DIM, "clues": cfg.MODEL.MPFR.DIM}
        options = {**ICREHead.from_config(cfg), "embedding_dim": 0}
        heads = {name: ICREHead(**{**options, "feat_dim": channels[name]}) for name in node.MAPS}
        return {"heads": heads, "scale": node.SCALE, "smoothing": (ce.EPSILON, ce.ALPHA)}

    def forward(self, outputs: Outputs, targets: Tensor, modalities: Tensor) -> dict[str, Tensor]:
        """See `icre.modeling.losses`; the modalities are not used."""
        losses = {}
        for name, head in self.heads.items():
            logits = head(outputs.feature_map(name), targets)["cls_outputs"].float()
            loss = cross_entropy_loss(logits, targets, *self.smoothing)
            losses[f"loss_cls_{name}"] = self.scale * loss
        return losses


def check(cfg: CfgNode) -> None:
    """Raise UserError on an unknown map, none, or one that this config does not make."""
    check_maps(cfg, KEY, cfg.MODEL.LOSSES.AUX_ID.MAPS, MAPS)
