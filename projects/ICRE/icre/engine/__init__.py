"""Trainer, hooks and launcher; importing it registers the project with fast-reid."""

import icre.compat

# only registration
import icre.datasets.llcm
import icre.datasets.regdb
import icre.datasets.sysu
import icre.modeling  # noqa: F401
from icre import compat
from icre.evaluation.rerank import jaccard_distance

compat.replace_jaccard(jaccard_distance)
