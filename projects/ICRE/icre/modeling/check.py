"""Every key of the model that takes one name out of several, checked before anything is built."""

import functools

import icre.compat  # noqa: F401

from fastreid.config import CfgNode
from fastreid.layers import any_softmax, pooling
from fastreid.modeling.backbones import BACKBONE_REGISTRY
from fastreid.modeling.meta_arch import META_ARCH_REGISTRY

from icre.modeling.enhance import OUTPUTS
from icre.modeling.head import TEST_FEATURES
from icre.modeling.losses import auxiliary, icg
from icre.modeling.mpfr import ALIGNMENTS, FUSIONS, MASKS, check_stages
from icre.modeling.sdce import ORDERS, QUERIES
from icre.modeling.two_stream import SPLITS
from icre.utils.choice import pick
from icre.utils.errors import UserError

# key -> what it may be
CHOICES = {
    "MODEL.BACKBONE.SPECIFIC_STAGES": SPLITS,
    "MODEL.MPFR.ALIGN": ALIGNMENTS,
    "MODEL.MPFR.MASK": MASKS,
    "MODEL.MPFR.FUSE": FUSIONS,
    "MODEL.SDCE.QUERY": QUERIES,
    "MODEL.SDCE.ORDER": ORDERS,
    "MODEL.SDCE.OUTPUT": OUTPUTS,
    "MODEL.HEADS.TEST_FEAT": TEST_FEATURES,
    "MODEL.HEADS.NECK_FEAT": dict.fromkeys(("before", "after")),
    "MODEL.HEADS.POOL_LAYER": dict.fromkeys(pooling.__all__),
    "MODEL.HEADS.CLS_LAYER": dict.fromkeys(any_softmax.__all__),
    "MODEL.LOSSES.ICG.VARIANT": icg.VARIANTS,
}

# What fast-reid's own meta-architectures know; they ignore any other name in silence.
STOCK_LOSSES = {
    "Baseline": ("CrossEntropyLoss", "TripletLoss", "CircleLoss", "Cosface"),
    "MGN": ("CrossEntropyLoss", "TripletLoss"),
}


def check_model(cfg: CfgNode) -> None:
    """Raise UserError on a value of `cfg.MODEL` that no part of the model knows.

    Args:
        cfg: a merged config whose registered names (meta-architecture, backbone, head, losses) are
            known to exist.
    """
    for key, table in CHOICES.items():
        pick(key, functools.reduce(getattr, key.split("."), cfg), table)
    for key in ("RHO1", "RHO2"):
        value = cfg.MODEL.LOSSES.ICG[key]
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise UserError(f"MODEL.LOSSES.ICG.{key} is {value!r}; it must be a number or None")
    _check_parts(cfg)
    if cfg.MODEL.META_ARCHITECTURE == "ICRE":
        _check_icre(cfg)


def _check_parts(cfg: CfgNode) -> None:
    """fast-reid's meta-architectures with its own backbones and losses, ICRE with ours."""
    model = cfg.MODEL
    stock = _is_stock(META_ARCH_REGISTRY, model.META_ARCHITECTURE)
    if stock != _is_stock(BACKBONE_REGISTRY, model.BACKBONE.NAME):
        raise UserError(
            f"MODEL.BACKBONE.NAME {model.BACKBONE.NAME} does not fit MODEL.META_ARCHITECTURE "
            f"{model.META_ARCHITECTURE}: ICRE takes build_two_stream_resnet_backbone, fast-reid's "
            "models take fast-reid's backbones"
        )
    names = list(model.LOSSES.NAME)
    if len(set(names)) < len(names):
        raise UserError(f"MODEL.LOSSES.NAME names a loss twice: {', '.join(names)}")
    known = STOCK_LOSSES.get(model.META_ARCHITECTURE, STOCK_LOSSES["Baseline"])
    for name in names if stock else ():
        pick(f"MODEL.LOSSES.NAME of {model.META_ARCHITECTURE}", name, dict.fromkeys(known))
    if model.HEADS.NAME != "ICREHead" and model.HEADS.TEST_FEAT != "after":
        raise UserError(
            f"MODEL.HEADS.TEST_FEAT {model.HEADS.TEST_FEAT} needs MODEL.HEADS.NAME ICREHead; "
            f"{model.HEADS.NAME} gives the feature after its neck"
        )


def _is_stock(registry, name: str) -> bool:
    """Whether fast-reid itself registered the name."""
    return registry.get(name).__module__.startswith("fastreid.")


def _check_icre(cfg: CfgNode) -> None:
    model = cfg.MODEL
    if model.MPFR.ENABLED:
        check_stages(model.MPFR.STAGES)
    if model.MPFR.ENABLED and not model.SDCE.ENABLED and model.SDCE.OUTPUT == "replace":
        raise UserError(
            "MODEL.SDCE.OUTPUT replace with MODEL.SDCE.ENABLED False would leave layer4 without "
            "use; take residual or concat"
        )
    if model.SDCE.ENABLED and model.MPFR.DIM % model.SDCE.HEADS:
        raise UserError(
            f"MODEL.SDCE.HEADS {model.SDCE.HEADS} does not divide MODEL.MPFR.DIM {model.MPFR.DIM}"
        )
    if "AuxiliaryIDLoss" in model.LOSSES.NAME:
        auxiliary.check(cfg)
    if "ICGLoss" in model.LOSSES.NAME:
        icg.check(cfg)
