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

from icre.gallery.arrays import BLOCK
from icre.gallery.exact import best
from icre.utils.errors import UserError, first_line
from icre.utils.faiss_gpu import faiss_on, require_one_package, resources
from icre.utils.progress import progress_bar

require_one_package()

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
    with progress_bar(None, f"{kind} index", total=count, unit="img", disable=not progress) as bar:
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


def can_be_on(kind: str, device: torch.device) -> bool:
    """Whether the device is a GPU on which faiss can search this kind; needs its package for GPUs.

    Only flat and ivf: a GPU has no hnsw, and limits the codes of ivfpq.
    """
    return kind in ON_GPU and faiss_on(device) is not None


def on_device(kind: str, index: faiss.Index, device: torch.device) -> faiss.Index:
    """The index on a GPU where `can_be_on` says so; else as it is.

    Args:
        kind: key of `KINDS`.
        index: built by `build`, which does so on the CPU; files hold that one.
        device: auto's choice, or the one that was named.
    """
    if not can_be_on(kind, device):
        return index
    module: Any = faiss_on(device)
    return module.index_cpu_to_gpu(resources(module, device.index), device.index, index)


def set_effort(kind: str, index: faiss.Index, value: int) -> None:
    """Set faiss's nprobe or efSearch; more is slower and finds more. No effect on exact kinds."""
    name = find(kind).effort
    if name is not None:
        setattr(index.hnsw if kind == "hnsw" else index, name, value)


def nearest(
    kind: str,
    index: faiss.Index,
    features: Any,
    queries: np.ndarray,
    top: int,
    slots: np.ndarray | None = None,
    allowed: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Search an index; the similarities of what is found are exact for every kind.

    Args:
        kind: key of `KINDS`.
        index: built by `build` from M vectors.
        features: (N, D) those of the rows, indexed by rows (n,).
        queries: (Q, D) unit vectors.
        top: results per query.
        slots: (M,) the row of each vector of the index, -1 where it was removed; None: M = N, and
            rows are in the index's order.
        allowed: (N,) which rows may be found; None: all. The fewer they are, the more effort.

    Returns:
        rows (Q, K) int64 and cosine similarities (Q, K) float32, best first, K = min(top, N). An
        approximate index may find fewer: the rest is -1 and -inf.
    """
    total = len(features) if slots is None else len(slots)
    valid = None if slots is None else slots >= 0
    if allowed is not None:
        valid = allowed if slots is None else valid & allowed[slots]
    count = min(top * find(kind).candidates, total)
    parameters, _kept = _parameters(kind, index, valid)
    vectors = np.ascontiguousarray(queries, dtype=np.float32)
    similarity, found = index.search(vectors, count, params=parameters)
    if found.size and found.max() >= total:
        raise UserError(
            f"the index names image {found.max()} of a gallery of {total}: it is damaged; "
            "index again"
        )
    rows = found if slots is None else np.where(found < 0, -1, slots[found])
    if find(kind).candidates > 1:
        similarity = _exact_similarity(features, queries, rows)
    similarity = np.where(rows < 0, -np.inf, similarity)
    return best(rows, similarity, min(top, count))


def remove(kind: str, index: faiss.Index, slots: np.ndarray) -> None:
    """Delete vectors (n,) of an index by their numbers; the others keep theirs.

    A graph holds no vector (see `save`) and no more than the numbers of neighbours: what is removed
    is left out by `nearest`.
    """
    if kind != "hnsw":
        index.remove_ids(faiss.IDSelectorBatch(np.ascontiguousarray(slots, dtype=np.int64)))


def save(kind: str, index: faiss.Index, write: Callable[[Any], int]) -> None:
    """Write an index; of a graph its edges alone, as its vectors are the gallery's features."""
    flags = faiss.IO_FLAG_SKIP_STORAGE if kind == "hnsw" else 0
    faiss.write_index(index, faiss.PyCallbackIOWriter(write), flags)


def load(
    kind: str, path: str, count: int, dimensions: int, held: int, mapped: bool = True
) -> faiss.Index:
    """Read an index that `save` wrote.

    Args:
        kind, path: what and where.
        count: vectors that it was built of.
        dimensions: D.
        held: vectors that it holds.
        mapped: lists of cells stay on the disk; such an index cannot be changed.

    Raises:
        ValueError: it is no index, or another one.
    """
    graph = kind == "hnsw"
    flags = faiss.IO_FLAG_MMAP if mapped else 0
    try:
        index = faiss.read_index(path, faiss.IO_FLAG_SKIP_STORAGE if graph else flags)
    except (RuntimeError, MemoryError) as error:
        raise ValueError(f"it is no index ({first_line(error)[-100:]})") from None
    check(kind, index, count, dimensions, held)
    if graph:
        neighbors = faiss.vector_to_array(index.hnsw.neighbors)
        if len(neighbors) and not -1 <= neighbors.min() <= neighbors.max() < count:
            raise ValueError(f"its graph names vector {neighbors.max()} of {count}")
    return index


def check(kind: str, index: faiss.Index, count: int, dimensions: int, held: int) -> None:
    """Raise ValueError unless an index is of this kind and size; arguments as of `load`."""
    expected = type(find(kind).create(dimensions, max(count, 1)))
    if type(index) is not expected:
        raise ValueError(f"it is a {type(index).__name__}, not a {expected.__name__}")
    total = count if kind == "hnsw" else held
    shape = (index.ntotal, index.d)
    if shape != (total, dimensions) or index.metric_type != _INNER_PRODUCT:
        raise ValueError(f"it holds {shape[0]} x {shape[1]}, expected {total} x {dimensions}")


def set_vectors(index: faiss.Index, vectors: faiss.IndexFlatIP) -> None:
    """Give a graph that `load` read its vectors, in the order of its building."""
    index.storage, index.own_fields = vectors, False
    index.referenced_objects = [vectors]  # faiss keeps a bare pointer


def _parameters(
    kind: str, index: faiss.Index, valid: np.ndarray | None
) -> tuple[faiss.SearchParameters | None, list[Any]]:
    """Parameters that search among the valid vectors (M,) alone, and what has to live as long."""
    if valid is None:
        return None, []
    bits = np.packbits(valid, bitorder="little")
    selector = faiss.IDSelectorBitmap(bits)
    more = max(1.0, len(valid) / max(int(valid.sum()), 1))
    if kind == "hnsw":
        effort = int(index.hnsw.efSearch * more)
        return faiss.SearchParametersHNSW(efSearch=effort, sel=selector), [bits, selector]
    if kind == "flat":
        return faiss.SearchParameters(sel=selector), [bits, selector]
    effort = min(index.nlist, int(index.nprobe * more))
    create = faiss.SearchParametersIVF if kind == "ivf" else faiss.IVFPQSearchParameters
    return create(nprobe=effort, sel=selector), [bits, selector]


def _exact_similarity(features: Any, queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    similarity = np.full(rows.shape, -np.inf, dtype=np.float32)
    for query, row, target in zip(queries, rows, similarity):
        found = row >= 0
        target[found] = features[row[found]] @ query
    return similarity
