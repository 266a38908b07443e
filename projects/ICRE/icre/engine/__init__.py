"""Trainer, hooks and launcher; importing it registers the project with fast-reid."""

import icre.compat  # noqa: F401  (before any fastreid import)

# only registration
import icre.datasets.llcm  # noqa: F401
import icre.datasets.regdb  # noqa: F401
import icre.datasets.sysu  # noqa: F401
import icre.modeling  # noqa: F401
from icre import compat
from icre.evaluation.rerank import jaccard_distance

compat.replace_jaccard(jaccard_distance)
