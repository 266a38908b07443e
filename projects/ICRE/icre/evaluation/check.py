"""Checks of TEST.*: what the protocols of a data set, or fast-reid's evaluator, cannot do."""

import icre.compat  # noqa: F401
from icre.compat import registered

from fastreid.config import CfgNode
from fastreid.data.datasets import DATASET_REGISTRY

from icre.config.load import register_check
from icre.datasets.base import VisibleInfraredSet
from icre.datasets.protocol import SEEDED, find
from icre.evaluation.rerank_options import reranking
from icre.utils.errors import UserError


@register_check
def check_protocols(cfg: CfgNode) -> None:
    """Refuse unknown protocols, and those that cannot score held-out training identities."""
    for name in cfg.TEST.PROTOCOLS:
        try:
            draws = find(name).draws
        except UserError as error:
            raise UserError(f"TEST.PROTOCOLS: {error}") from None
        if cfg.DATASETS.VALIDATION and draws and SEEDED not in draws:
            raise UserError(
                f"TEST.PROTOCOLS: {name} has an official draw only, which holds no identities of "
                "DATASETS.VALIDATION: leave it out"
            )


@register_check
def check_evaluator(cfg: CfgNode) -> None:
    """Refuse options of fast-reid's evaluator where a data set is scored by its protocols."""
    sets = registered(DATASET_REGISTRY)
    ours = [n for n in cfg.DATASETS.TESTS if issubclass(sets.get(n, object), VisibleInfraredSet)]
    asked = {
        "TEST.AQE.ENABLED True": cfg.TEST.AQE.ENABLED,
        "TEST.ROC.ENABLED True": cfg.TEST.ROC.ENABLED,
        f"TEST.METRIC {cfg.TEST.METRIC}": cfg.TEST.METRIC != "cosine",
    }
    for key, on in asked.items():
        if on and ours:
            raise UserError(
                f"{key} is for fast-reid's evaluator, but {ours[0]} is scored by its protocols, "
                "which have no such thing: leave it out"
            )
    choice = reranking(cfg)
    if choice and choice.algorithm != "fastreid" and len(ours) < len(cfg.DATASETS.TESTS):
        raise UserError(
            f"TEST.RERANK.ALGORITHM {choice.algorithm}: fast-reid's evaluator, which scores its "
            "own data sets, knows fastreid alone"
        )
