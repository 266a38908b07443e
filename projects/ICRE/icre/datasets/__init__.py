"""Data sets: one file each, with folder layout, split, protocols and published counts.

`any` has protocols for what is of no set.

Importing this package registers them with fast-reid.
"""

from icre.datasets import sysu, regdb, llcm, any  # noqa: F401, I001  (registration, in this order)
from icre.datasets.build import load_dataset

__all__ = ["load_dataset"]
