"""The registry of losses, and how a config's list of names becomes modules."""

from torch import nn

from icre.compat import registered

from fastreid.config import CfgNode
from fastreid.utils.registry import Registry

from icre.utils.errors import UserError

LOSS_REGISTRY = Registry("LOSS")


def build_losses(cfg: CfgNode) -> list[nn.Module]:
    """Build the losses of `cfg.MODEL.LOSSES.NAME`, in its order.

    Raises:
        UserError: a name that is not registered (fast-reid's Baseline ignores it silently), or
            no name at all.
    """
    known = sorted(registered(LOSS_REGISTRY))
    names = cfg.MODEL.LOSSES.NAME
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UserError(
            f"MODEL.LOSSES.NAME: unknown loss '{unknown[0]}'; known: {', '.join(known)}"
        )
    if not names:
        raise UserError(f"MODEL.LOSSES.NAME is empty; known: {', '.join(known)}")
    return [LOSS_REGISTRY.get(name)(cfg) for name in names]
