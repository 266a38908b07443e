"""fast-reid's two re-ranking functions as they are installed, for the slow side of the benchmark.

Both run on a CPU with current faiss, numpy and torch without a patch: `compute_jaccard_distance` by
its CPU search (search_option=3), `re_ranking` from distances.
"""

from unittest import mock

import numpy as np
import torch
from torch import Tensor

import icre.compat  # noqa: F401

from fastreid.evaluation.rerank import re_ranking
from fastreid.utils import compute_dist


def jaccard(features: Tensor, queries: int, k1: int, k2: int) -> np.ndarray:
    """utils/compute_dist.py: (Q, G), cut out of the (N, N) that it makes."""
    return compute_dist.compute_jaccard_distance(features, k1, k2, search_option=3)[
        :queries, queries:
    ]


def jaccard_after_search(
    features: Tensor, queries: int, k1: int, k2: int, near: np.ndarray
) -> np.ndarray:
    """`jaccard` whose search answers at once with the given (N, k1) lists."""
    index = mock.Mock(**{"search.return_value": (None, near[:, :k1])})
    with mock.patch.object(compute_dist, "index_init_cpu", lambda dimensions: index):
        return jaccard(features, queries, k1, k2)


def original(features: Tensor, queries: int, k1: int, k2: int, lambda_value: float) -> np.ndarray:
    """evaluation/rerank.py (Zhong et al.) from features: distances, then their function, (Q, G)."""
    query, gallery = features[:queries], features[queries:]
    distances = (
        torch.cdist(*pair).numpy()
        for pair in ((query, gallery), (query, query), (gallery, gallery))
    )
    return re_ranking(*distances, k1, k2, lambda_value)
