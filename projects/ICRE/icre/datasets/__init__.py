"""Data sets: one file each, with folder layout, split, protocols and published counts.

Importing this package registers them with fast-reid.
"""

from icre.datasets import sysu, regdb, llcm, table  # noqa: F401, I001  (registration, in this order)
from icre.datasets.build import load_dataset, name_in_features

__all__ = ["load_dataset", "name_in_features"]
