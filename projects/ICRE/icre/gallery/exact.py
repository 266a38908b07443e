"""Exact search: queries are compared with every feature, block by block."""

from collections.abc import Iterable

import numpy as np

_PRODUCTS = 1 << 24  # similarities that are held at a time


def best(rows: np.ndarray, similarity: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    """The `top` best of (Q, M) rows and similarities, best first."""
    order = np.argsort(-similarity, axis=1, kind="stable")[:, :top]
    return np.take_along_axis(rows, order, 1), np.take_along_axis(similarity, order, 1)


def exact(
    parts: Iterable[tuple[int, np.ndarray, np.ndarray | None]], queries: np.ndarray, top: int
) -> tuple[np.ndarray, np.ndarray]:
    """Compare queries (Q, D) with all features, part by part.

    Args:
        parts: (row of the first, features (n, D), rows (m,) of them to compare; None: all).
        queries: (Q, D) unit vectors.
        top: results per query.

    Returns:
        As `nearest`, K = min(top, rows to compare).
    """
    total = 0
    vectors = np.ascontiguousarray(queries, dtype=np.float32)
    rows = np.empty((len(vectors), 0), dtype=np.int64)
    similarity = np.empty((len(vectors), 0), dtype=np.float32)
    size = max(1, _PRODUCTS // max(len(vectors), 1))
    for start, features, chosen in parts:
        total += len(features) if chosen is None else len(chosen)
        others = None
        if chosen is not None and len(chosen) > len(features) / 8:  # a copy would take longer
            others = np.ones(len(features), dtype=bool)
            others[chosen], chosen = False, None
        numbers = np.arange(len(features)) if chosen is None else chosen
        for first in range(0, len(numbers), size):
            some = numbers[first : first + size]
            block = features[first : first + size] if chosen is None else features[some]
            # NumPy's product, as faiss.knn takes two to eight times as long
            products = vectors @ block.T
            if others is not None:
                products[:, others[first : first + size]] = -np.inf
            places, values = _candidates(products, similarity, top)
            found = np.where((places < 0) | (values == -np.inf), -1, some[places] + start)
            together = np.concatenate([rows, found], 1), np.concatenate([similarity, values], 1)
            rows, similarity = best(*together, top)
    return rows[:, :total], similarity[:, :total]


def _candidates(products: np.ndarray, known: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    """Places and values in products (Q, n) that may be among the `top` best, beside the known ones.

    The known (Q, K) are sorted. Places are -1 and values -inf where a query has fewer.
    """
    count = products.shape[1]
    if known.shape[1] == top:  # few are better than the worst of the known
        query, place = np.nonzero(products > known[:, -1:])
        begin = np.searchsorted(query, np.arange(len(products) + 1))
        width = int(np.diff(begin).max(initial=0))
        if width <= 4 * top:
            places = np.full((len(products), width), -1)
            values = np.full((len(products), width), -np.inf, dtype=np.float32)
            column = np.arange(len(query)) - begin[query]
            places[query, column] = place
            values[query, column] = products[query, place]
            return places, values
    if count <= top:
        return np.broadcast_to(np.arange(count), products.shape), products
    places = np.argpartition(products, count - top, axis=1)[:, count - top :]
    return places, np.take_along_axis(products, places, 1)
