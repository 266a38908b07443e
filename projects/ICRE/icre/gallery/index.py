"""The kinds of faiss index that a gallery can have, each as one function, with one habit of search.

Features are unit vectors, so the inner product is the cosine similarity. How fast and how good each
kind is: `tools/benchmark.py search`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import faiss
import numpy as np
from tqdm import tqdm

from icre.utils.errors import UserError

BLOCK = 65_536  # vectors that are added at a time
_INNER = faiss.METRIC_INNER_PRODUCT
_PER_CELL = 40  # vectors that training looks at for each cell


@dataclass(frozen=True)
class Kind:
    """One kind of index.

    Args:
        make: (dimensions, number of vectors) -> an empty, untrained index.
        effort: name of faiss's parameter that trades speed for recall; None: exact.
        least: vectors that its training needs.
        widen: candidates that are looked at exactly for each result that is asked for.
        text: what it is good for.
    """

    make: Callable[[int, int], faiss.Index]
    effort: str | None
    least: int
    widen: int
    text: str


def _lists(count: int) -> int:
    """Number of cells: 4 sqrt(N), with 39 vectors to learn each from (faiss's own advice).

    Building costs vectors times cells; past 2,048 the search gains little from it.
    """
    return max(1, min(int(4 * count**0.5), count // 39, 2048))


def _flat(dimensions: int, count: int) -> faiss.Index:
    return faiss.IndexFlatIP(dimensions)


def _ivf(dimensions: int, count: int) -> faiss.Index:
    cells = _lists(count)
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dimensions), dimensions, cells, _INNER)
    return _trainable(index, cells)


def _ivfpq(dimensions: int, count: int) -> faiss.Index:
    # Four dimensions to a byte; codes need a divisor of D.
    parts = max(part for part in range(1, dimensions // 4 + 1) if dimensions % part == 0)
    cells, coarse = _lists(count), faiss.IndexFlatIP(dimensions)
    index = faiss.IndexIVFPQ(coarse, dimensions, cells, parts, 8, _INNER)
    index.pq.cp.max_points_per_centroid = _PER_CELL
    index.pq.cp.niter, index.pq.cp.min_points_per_centroid = 10, 1
    return _trainable(index, cells)


def _trainable(index: faiss.IndexIVF, cells: int) -> faiss.Index:
    index.cp.niter, index.cp.max_points_per_centroid = 10, _PER_CELL
    index.cp.min_points_per_centroid = 1
    # A small gallery's cells are so small that one in twelve would not hold the wanted matches.
    index.nprobe = min(cells, max(16, cells // 12))
    return index


def _hnsw(dimensions: int, count: int) -> faiss.Index:
    index = faiss.IndexHNSWFlat(dimensions, 16, _INNER)
    index.hnsw.efConstruction, index.hnsw.efSearch = 40, 512
    return index


KINDS: dict[str, Kind] = {
    "flat": Kind(_flat, None, 1, 1, "exact; up to some hundred thousand images"),
    "ivf": Kind(_ivf, "nprobe", 1, 1, "cells, exact inside; quick to build"),
    "hnsw": Kind(_hnsw, "efSearch", 1, 1, "a graph of neighbours; the fastest search"),
    "ivfpq": Kind(_ivfpq, "nprobe", 256, 20, "compressed in cells; the least memory"),
}


def find(kind: str) -> Kind:
    """The kind of that name; an unknown name raises a UserError that lists the names."""
    if kind not in KINDS:
        raise UserError(f"unknown index '{kind}'; the names are {', '.join(KINDS)}")
    return KINDS[kind]


def build(kind: str, features: np.ndarray, progress: bool = True) -> faiss.Index:
    """Make an index of (N, D) float32 unit vectors (may be a memory map).

    Raises:
        UserError: unknown kind, or fewer images than its training needs.
    """
    made, (count, dimensions) = find(kind), features.shape
    require_enough(kind, count)
    index = made.make(dimensions, count)
    if not index.is_trained:
        wanted = _PER_CELL * max(index.nlist, 256)
        chosen = np.random.default_rng(0).permutation(count)[:wanted]
        index.train(np.ascontiguousarray(features[np.sort(chosen)]))
    with tqdm(total=count, desc=f"{kind} index", unit="img", disable=not progress) as bar:
        for start in range(0, count, BLOCK):
            block = np.ascontiguousarray(features[start : start + BLOCK])
            index.add(block)
            bar.update(len(block))
    return index


def require_enough(kind: str, count: int) -> None:
    """Raise UserError where `kind` cannot be made of so few images."""
    if count < find(kind).least:
        raise UserError(
            f"--index {kind} needs {find(kind).least} images, here are {count}: "
            "use flat, which is exact"
        )


def set_effort(kind: str, index: faiss.Index, value: int) -> None:
    """Set faiss's nprobe or efSearch; more is slower and finds more. Exact kinds have none."""
    name = find(kind).effort
    if name is not None:
        setattr(index.hnsw if kind == "hnsw" else index, name, value)


def nearest(
    kind: str, index: faiss.Index, features: np.ndarray, queries: np.ndarray, top: int
) -> tuple[np.ndarray, np.ndarray]:
    """Search, with exact similarities of what is found.

    Args:
        index: made by `build` from `features` (N, D).
        queries: (Q, D) unit vectors.
        top: results per query.

    Returns:
        rows (Q, K) int64 and cosine similarities (Q, K) float32, best first, K = min(top, N). An
        approximate index may find fewer: then -1 and -inf stand at the end.
    """
    count = min(top * find(kind).widen, len(features))
    similarity, rows = index.search(np.ascontiguousarray(queries, dtype=np.float32), count)
    if find(kind).widen > 1:
        similarity = _exact(features, queries, rows)
        order = np.argsort(-similarity, axis=1, kind="stable")
        rows, similarity = (np.take_along_axis(one, order, 1) for one in (rows, similarity))
    top = min(top, count)
    return rows[:, :top], np.where(rows[:, :top] < 0, -np.inf, similarity[:, :top])


def _exact(features: np.ndarray, queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    scores = np.full(rows.shape, -np.inf, dtype=np.float32)
    for query, row, score in zip(queries, rows, scores):
        found = row >= 0
        score[found] = features[row[found]] @ query
    return scores
