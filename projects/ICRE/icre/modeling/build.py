"""Build the model that a config describes, on its device."""

import logging

import torch
from torch import nn

from icre.compat import is_two_stream

from fastreid.config import CfgNode
from fastreid.modeling.meta_arch import build_model as build_meta_architecture

from icre.modeling import pretrained  # noqa: F401  (its loading, for fast-reid's backbones)
from icre.utils.device import resolve_device, resolve_memory_format
from icre.utils.errors import UserError

logger = logging.getLogger("fastreid.icre")


def build_model(cfg: CfgNode, device: torch.device | str | None = None) -> nn.Module:
    """Build `cfg.MODEL.META_ARCHITECTURE` in SOLVER.LAYOUT; the log file gets its structure.

    Pretrained weights are loaded as `icre.modeling.pretrained` does, in fast-reid's backbones too.

    Args:
        cfg: a merged config; it is not changed.
        device: where the parameters go; default `cfg.MODEL.DEVICE`.

    Raises:
        UserError: there is no such device, parts do not fit each other, or the pretrained weights
            are missing, damaged or of another network.
    """
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = str(resolve_device(cfg.MODEL.DEVICE) if device is None else device)
    model = build_meta_architecture(cfg)
    # in training as in all that loads its checkpoint: kernels of another layout round differently
    model.to(memory_format=resolve_memory_format(cfg.SOLVER.LAYOUT, torch.device(cfg.MODEL.DEVICE)))
    backbone = getattr(model, "backbone", None)
    if getattr(backbone, "two_stream", False) and not is_two_stream(type(model)):
        raise UserError(
            f"MODEL.BACKBONE.NAME {cfg.MODEL.BACKBONE.NAME} has two streams, and "
            f"MODEL.META_ARCHITECTURE {cfg.MODEL.META_ARCHITECTURE} knows no modalities: take "
            "another of the two"
        )
    logger.debug("Model:\n%s", model)
    return model
