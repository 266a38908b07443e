"""Patches of fastreid.evaluation; import this before it, and before fastreid.engine."""

from collections.abc import Callable

from icre.compat import removed_names

with removed_names():
    import fastreid.evaluation.testing  # noqa: F401

from fastreid.evaluation import ReidEvaluator, reid_evaluation
from fastreid.utils import compute_dist


def _skip_compiler(evaluator: ReidEvaluator) -> None:
    """Let ReidEvaluator start without running `make` inside site-packages.

    fastreid/evaluation/reid_evaluation.py:128 compiles a Cython ranking on first use and ends the
    process where there is no compiler; its NumPy ranking gives the same numbers.
    """


ReidEvaluator._compile_dependencies = _skip_compiler


def replace_jaccard(jaccard: Callable) -> None:
    """Let ReidEvaluator re-rank by `jaccard(query, gallery, k1, k2) -> (Q, G)`.

    fastreid/utils/compute_dist.py:54 searches by GPU functions that current faiss lacks, and makes
    matrices of all images by all images to return the part of the queries and the gallery.
    """

    def build_dist(feat_1, feat_2, metric="euclidean", **kwargs):
        if metric == "jaccard":
            return jaccard(feat_1, feat_2, kwargs["k1"], kwargs["k2"])
        return compute_dist.build_dist(feat_1, feat_2, metric, **kwargs)

    reid_evaluation.build_dist = build_dist
