"""The kinds of faiss index that a gallery can have, and searching them.

Features are unit vectors, so the inner product is the cosine similarity. Speed and recall of each
kind are measured by `tools/benchmark.py search`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
import torch
from tqdm import tqdm

from icre.utils.errors import UserError
from icre.utils.faiss_gpu import faiss_on, require_one_package, resources

require_one_package()

BLOCK = 65_536  # vectors that are added at a time
_INNER_PRODUCT = faiss.METRIC_INNER_PRODUCT
_TRAINING_VECTORS = 40  # per cell


@dataclass(frozen=True)
class Kind:
    """One kind of index.

    Args:
        create: (dimensions, number of vectors) -> an empty, untrained index.
        effort: name of faiss's parameter that trades speed for recall; None: the search is exact.
        minimum: vectors that its training needs.
        candidates: vectors per wanted result whose exact similarity is computed, to rank them.
    """

    create: Callable[[int, int], faiss.Index]
    effort: str | None
    minimum: int = 1
    candidates: int = 1


def _cell_count(count: int) -> int:
    """Number of cells: 4 sqrt(N), with at least 39 vectors to learn each from (faiss's advice).

    Building costs vectors times cells; past 2,048 cells the search gains little.
    """
    return max(1, min(int(4 * count**0.5), count // 39, 2048))


def _create_flat(dimensions: int, count: int) -> faiss.Index:
    return faiss.IndexFlatIP(dimensions)


def _create_ivf(dimensions: int, count: int) -> faiss.Index:
    cells = _cell_count(count)
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dimensions), dimensions, cells, _INNER_PRODUCT)
    return _configure_cells(index, cells)


def _create_ivfpq(dimensions: int, count: int) -> faiss.Index:
    # One byte for about four dimensions; the number of bytes must divide D.
    codes = max(number for number in range(1, dimensions // 4 + 1) if dimensions % number == 0)
    cells, coarse = _cell_count(count), faiss.IndexFlatIP(dimensions)
    index = faiss.IndexIVFPQ(coarse, dimensions, cells, codes, 8, _INNER_PRODUCT)
    index.pq.cp.max_points_per_centroid = _TRAINING_VECTORS
    index.pq.cp.niter, index.pq.cp.min_points_per_centroid = 10, 1
    return _configure_cells(index, cells)


def _configure_cells(index: faiss.IndexIVF, cells: int) -> faiss.Index:
    index.cp.niter, index.cp.max_points_per_centroid = 10, _TRAINING_VECTORS
    index.cp.min_points_per_centroid = 1
    # The cells of a small gallery are so small that one in twelve would miss matches.
    index.nprobe = min(cells, max(16, cells // 12))
    return index


def _create_hnsw(dimensions: int, count: int) -> faiss.Index:
    index = faiss.IndexHNSWFlat(dimensions, 16, _INNER_PRODUCT)
    index.hnsw.efConstruction, index.hnsw.efSearch = 40, 512
    return index


KINDS: dict[str, Kind] = {
    "flat": Kind(_create_flat, None),
    "ivf": Kind(_create_ivf, "nprobe"),
    "hnsw": Kind(_create_hnsw, "efSearch"),
    "ivfpq": Kind(_create_ivfpq, "nprobe", minimum=256, candidates=20),
}

ON_GPU = ("flat", "ivf")


def find(kind: str) -> Kind:
    """The kind of that name; an unknown name raises a UserError that lists the names."""
    if kind not in KINDS:
        raise UserError(f"unknown index '{kind}'; the names are {', '.join(KINDS)}")
    return KINDS[kind]


def build(kind: str, features: np.ndarray, progress: bool = True) -> faiss.Index:
    """Build an index of (N, D) float32 unit vectors (may be a memory map).

    Raises:
        UserError: unknown kind, or fewer vectors than its training needs.
    """
    count, dimensions = features.shape
    require_enough(kind, count)
    index = find(kind).create(dimensions, count)
    if not index.is_trained:
        wanted = _TRAINING_VECTORS * max(index.nlist, 256)
        chosen = np.random.default_rng(0).permutation(count)[:wanted]
        index.train(np.ascontiguousarray(features[np.sort(chosen)]))
    with tqdm(total=count, desc=f"{kind} index", unit="img", disable=not progress) as bar:
        for start in range(0, count, BLOCK):
            block = np.ascontiguousarray(features[start : start + BLOCK])
            index.add(block)
            bar.update(len(block))
    return index


def require_enough(kind: str, count: int) -> None:
    """Raise UserError if an index of this kind cannot be built of `count` vectors."""
    minimum = find(kind).minimum
    if count < minimum:
        raise UserError(
            f"--index {kind} needs {minimum} images, here are {count}: use flat, which is exact"
        )


def on_device(kind: str, index: faiss.Index, device: torch.device) -> faiss.Index:
    """The index on a GPU, where faiss's package for GPUs is installed; else as it is.

    Only flat and ivf: a GPU has no hnsw, and limits the codes of ivfpq.

    Args:
        kind: key of `KINDS`.
        index: built by `build`, which does so on the CPU; files hold that one.
        device: auto's choice, or the one that was named.
    """
    module = faiss_on(device) if kind in ON_GPU else None
    if module is None:
        return index
    return module.index_cpu_to_gpu(resources(module, device.index), device.index, index)


def set_effort(kind: str, index: faiss.Index, value: int) -> None:
    """Set faiss's nprobe or efSearch; more is slower and finds more. No effect on exact kinds."""
    name = find(kind).effort
    if name is not None:
        setattr(index.hnsw if kind == "hnsw" else index, name, value)


def nearest(
    kind: str,
    index: faiss.Index,
    features: np.ndarray,
    queries: np.ndarray,
    top: int,
    allowed: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Search; the similarities of what is found are exact for every kind.

    Args:
        kind: key of `KINDS`.
        index: built by `build` from `features` (N, D).
        queries: (Q, D) unit vectors.
        top: results per query.
        allowed: (N,) which rows may be found; None: all. The fewer they are, the more effort.

    Returns:
        rows (Q, K) int64 and cosine similarities (Q, K) float32, best first, K = min(top, N). An
        approximate index may find fewer: the rest is -1 and -inf.
    """
    candidates = find(kind).candidates
    count = min(top * candidates, len(features))
    parameters, _kept = _parameters(kind, index, allowed)
    vectors = np.ascontiguousarray(queries, dtype=np.float32)
    similarity, rows = index.search(vectors, count, params=parameters)
    if rows.size and rows.max() >= len(features):
        raise UserError(
            f"the index names image {rows.max()} of a gallery of {len(features)}: it is damaged; "
            "index again"
        )
    if candidates > 1:
        similarity = _exact_similarity(features, queries, rows)
        order = np.argsort(-similarity, axis=1, kind="stable")
        rows, similarity = (np.take_along_axis(one, order, 1) for one in (rows, similarity))
    top = min(top, count)
    return rows[:, :top], np.where(rows[:, :top] < 0, -np.inf, similarity[:, :top])


def _parameters(
    kind: str, index: faiss.Index, allowed: np.ndarray | None
) -> tuple[faiss.SearchParameters | None, list[Any]]:
    """Parameters that search among the allowed rows alone, and what has to live as long."""
    if allowed is None:
        return None, []
    bits = np.packbits(allowed, bitorder="little")
    selector = faiss.IDSelectorBitmap(bits)
    more = max(1.0, len(allowed) / max(int(allowed.sum()), 1))
    if kind == "flat":
        return faiss.SearchParameters(sel=selector), [bits, selector]
    if kind == "hnsw":
        effort = int(index.hnsw.efSearch * more)
        return faiss.SearchParametersHNSW(efSearch=effort, sel=selector), [bits, selector]
    effort = min(index.nlist, int(index.nprobe * more))
    create = faiss.SearchParametersIVF if kind == "ivf" else faiss.IVFPQSearchParameters
    return create(nprobe=effort, sel=selector), [bits, selector]


def _exact_similarity(features: np.ndarray, queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    similarity = np.full(rows.shape, -np.inf, dtype=np.float32)
    for query, row, target in zip(queries, rows, similarity):
        found = row >= 0
        target[found] = features[row[found]] @ query
    return similarity
