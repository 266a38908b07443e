"""A registered data set from a config."""

from typing import Any

import icre.compat  # noqa: F401
from icre.compat import registered

from fastreid.config import CfgNode
from fastreid.data.datasets import DATASET_REGISTRY

from icre.datasets.base import VisibleInfraredSet
from icre.utils.errors import UserError


def load_dataset(cfg: CfgNode, name: str, validation: bool = False) -> Any:
    """The registered data set `name` under DATASETS.ROOT.

    Args:
        cfg: DATASETS.* is read.
        name: as registered.
        validation: hold out training identities in place of the test ones.

    Raises:
        UserError: unknown name (lists the known), or what the data set is missing.
    """
    known = registered(DATASET_REGISTRY)
    if name not in known:
        raise UserError(f"DATASETS: unknown data set {name!r}; known: {', '.join(sorted(known))}")
    dataset = known[name]
    options = {"combineall": True} if cfg.DATASETS.COMBINEALL else {}
    if issubclass(dataset, VisibleInfraredSet):
        return dataset.from_config(cfg, validation=validation, **options)
    if validation:
        raise UserError(f"DATASETS.VALIDATION: {name} has no held-out identities; set it False")
    return dataset(root=cfg.DATASETS.ROOT, **options)
