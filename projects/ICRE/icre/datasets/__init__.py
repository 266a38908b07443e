"""Data sets: one file each, with folder layout, split, protocols and published counts.

Importing this package registers them with fast-reid.
"""

from icre.datasets import llcm, regdb, sysu  # noqa: F401  (only registration)
from icre.datasets.build import load_dataset

__all__ = ["load_dataset"]
