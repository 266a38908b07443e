"""Checks of MODEL.*: registered names, and parts that do not fit each other."""

from collections.abc import Iterator

import icre.compat  # noqa: F401
from icre.compat import STOCK_ARCHITECTURES, registered

from fastreid.config import CfgNode
from fastreid.modeling.backbones import BACKBONE_REGISTRY
from fastreid.modeling.heads import REID_HEADS_REGISTRY
from fastreid.modeling.meta_arch import META_ARCH_REGISTRY

from icre.config.imports import LEAVING_OUT, refusal
from icre.config.load import register_check
from icre.modeling.losses import LOSS_REGISTRY, auxiliary, icg, part_separation
from icre.modeling.mpfr import check_stages
from icre.utils.choice import pick
from icre.utils.errors import UserError

# fast-reid ignores an unknown loss, and ends in a traceback over any other unknown name.
REGISTRIES = {
    "MODEL.META_ARCHITECTURE": META_ARCH_REGISTRY,
    "MODEL.BACKBONE.NAME": BACKBONE_REGISTRY,
    "MODEL.HEADS.NAME": REID_HEADS_REGISTRY,
    "MODEL.LOSSES.NAME": LOSS_REGISTRY,
}

# fastreid/modeling/meta_arch/mgn.py:92
MGN_BACKBONES = (("build_resnet_backbone", "50x"), ("build_resnet_backbone", "101x"))

OWN_RESNETS = ("build_two_stream_resnet_backbone", "build_deen_backbone", "build_mpanet_backbone")
STOCK_HEADS = ("EmbeddingHead", "ClasHead")
# Keys of MODEL.HEADS that a head does not read, with the values of fast-reid and of Base-VI.yml.
_POOLS = ("GlobalAvgPool", "GeneralizedMeanPooling")
UNREAD: dict[str, dict[str, tuple]] = {
    "MPANetHead": {"POOL_LAYER": _POOLS},
    "PCBHead": {
        "TEST_FEAT": ("after",),
        "TEST_NORM": (False,),
        "NECK_FEAT": ("before",),
        "POOL_LAYER": _POOLS,
        "CLS_LAYER": ("Linear",),
    },
    **{name: {"TEST_NORM": (False,)} for name in STOCK_HEADS},
}
# What fast-reid's own meta-architectures know; they ignore any other name in silence.
STOCK_LOSSES = {
    "Baseline": ("CrossEntropyLoss", "TripletLoss", "CircleLoss", "Cosface"),
    "MGN": ("CrossEntropyLoss", "TripletLoss"),
}


def _unknown_names(cfg: CfgNode) -> Iterator[tuple[str, str]]:
    """(key, name) of what nobody has registered."""
    model = cfg.MODEL
    for key, names in (
        ("MODEL.META_ARCHITECTURE", [model.META_ARCHITECTURE]),
        ("MODEL.BACKBONE.NAME", [model.BACKBONE.NAME]),
        ("MODEL.HEADS.NAME", [model.HEADS.NAME]),
        ("MODEL.LOSSES.NAME", model.LOSSES.NAME),
    ):
        known = registered(REGISTRIES[key])
        yield from ((key, name) for name in names if name not in known)


@LEAVING_OUT.append
def _leave_out_losses(cfg: CfgNode) -> None:
    """Losses are needed for training only; a model whose parts are unknown is refused."""
    cfg.MODEL.LOSSES.NAME = ("CrossEntropyLoss",)  # which needs no keys of the modules
    for key, name in _unknown_names(cfg):
        raise refusal(key, name, cfg)


@register_check
def check_model(cfg: CfgNode) -> None:
    """Raise UserError on an unknown name in `cfg.MODEL`, or parts that do not fit each other."""
    for key, name in _unknown_names(cfg):
        known = ", ".join(sorted(registered(REGISTRIES[key])))
        raise UserError(f"{key}: unknown name {name!r}; known: {known}")
    _check_parts(cfg)
    if cfg.MODEL.META_ARCHITECTURE == "ICRE":
        _check_icre(cfg)


def _check_parts(cfg: CfgNode) -> None:
    """What fast-reid's own architectures and heads cannot do, and would not say."""
    model = cfg.MODEL
    names = list(model.LOSSES.NAME)
    if len(set(names)) < len(names):
        raise UserError(f"MODEL.LOSSES.NAME names a loss twice: {', '.join(names)}")
    if model.META_ARCHITECTURE in STOCK_ARCHITECTURES:
        if model.BACKBONE.NAME == "build_two_stream_resnet_backbone":
            raise UserError(
                f"MODEL.BACKBONE.NAME {model.BACKBONE.NAME} does not fit MODEL.META_ARCHITECTURE "
                f"{model.META_ARCHITECTURE}, which knows no modalities: take build_resnet_backbone"
            )
        known = STOCK_LOSSES.get(model.META_ARCHITECTURE, STOCK_LOSSES["Baseline"])
        for name in names:
            pick(f"MODEL.LOSSES.NAME of {model.META_ARCHITECTURE}", name, dict.fromkeys(known))
    backbone = (model.BACKBONE.NAME, model.BACKBONE.DEPTH)
    if model.META_ARCHITECTURE == "MGN" and backbone not in MGN_BACKBONES:
        raise UserError(
            f"MODEL.META_ARCHITECTURE MGN takes apart a ResNet of bottleneck blocks, not "
            f"MODEL.BACKBONE.NAME {backbone[0]} of MODEL.BACKBONE.DEPTH {backbone[1]}: set DEPTH "
            "50x or 101x"
        )
    if model.BACKBONE.POOL_PADDING and model.BACKBONE.NAME not in OWN_RESNETS:
        raise UserError(
            f"MODEL.BACKBONE.POOL_PADDING {model.BACKBONE.POOL_PADDING} needs MODEL.BACKBONE.NAME "
            f"{' or '.join(OWN_RESNETS)}, not {model.BACKBONE.NAME}: set it to 0"
        )
    timm = model.BACKBONE.NAME == "build_timm_backbone"
    if timm != bool(model.BACKBONE.TIMM):
        cure = "name a network of timm" if timm else "set MODEL.BACKBONE.NAME build_timm_backbone"
        raise UserError(
            f"MODEL.BACKBONE.TIMM is {model.BACKBONE.TIMM!r} with MODEL.BACKBONE.NAME "
            f"{model.BACKBONE.NAME}: {cure}"
        )
    if model.HEADS.NAME in STOCK_HEADS and model.HEADS.TEST_FEAT != "after":
        raise UserError(
            f"MODEL.HEADS.TEST_FEAT {model.HEADS.TEST_FEAT} needs MODEL.HEADS.NAME ICREHead; "
            f"{model.HEADS.NAME} gives the feature after its neck"
        )
    _check_unread(model.HEADS)


def _check_unread(heads: CfgNode) -> None:
    for key, allowed in UNREAD.get(heads.NAME, {}).items():
        if heads[key] not in allowed:
            raise UserError(
                f"MODEL.HEADS.{key} {heads[key]} has no effect on MODEL.HEADS.NAME {heads.NAME}: "
                f"leave it {allowed[0]}"
            )


def _check_icre(cfg: CfgNode) -> None:
    model = cfg.MODEL
    if model.MPFR.ENABLED:
        check_stages(model.MPFR.STAGES, model.SDCE.PLACE)
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
    if "PartSeparationLoss" in model.LOSSES.NAME:
        part_separation.check(cfg)
