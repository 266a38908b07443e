"""k-reciprocal codes on a CPU: loops over neighbour lists, compiled by numba, one thread per core.

N images, Q of them queries, G in the gallery. A code is a sparse row of weights over all N images
(Zhong et al., CVPR 2017, eq. 7); how much two codes overlap is the sum of their smaller weights.
The kernels let go of the interpreter's lock, and plain threads share out the rows: numba's own
parallel loops compile longer and bring a second thread pool beside torch's.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from icre.evaluation.rerank_options import Lists

_ROWS = 512  # rows of a thread's turn


def _compiled(function: Callable) -> Callable:
    # reassoc lets a sum run in vector lanes; its order does not matter here.
    options: dict[str, Any] = {"nogil": True, "fastmath": {"reassoc", "contract"}}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # neither the package's folder nor the user's can keep the machine code
        return numba.njit(**options)(function)


@dataclass(frozen=True)
class Codes:
    """Queries' codes by row, (Q, N), and the gallery's by column, (G, N); sparse matrices."""

    queries: scipy.sparse.csr_array
    gallery: scipy.sparse.csc_array


def encode(features: Tensor, nearest: Tensor, scale: Tensor, lists: Lists, queries: int) -> Codes:
    """Turn neighbour lists into codes.

    Args:
        features: (N, D) float32, the queries first.
        nearest: (N, >= lists.search) int64, see `neighbours.nearest`.
        scale: (N,) float32; a weight is exp(-scale * squared distance), then a row sums to 1.
        lists: how many neighbours each step looks at.
        queries: Q.
    """
    values, near = features.numpy(), nearest.to(torch.int32).numpy()
    full, half = (_reciprocal(near, width) for width in (lists.full, lists.half))
    codes = _stacked(
        near, lambda start, stop: _weigh(start, stop, values, scale.numpy(), full, half)
    )
    if lists.expand > 1:
        first = np.ascontiguousarray(near[:, : lists.expand])
        before = (codes.indptr, codes.indices, codes.data)
        codes = _stacked(near, lambda start, stop: _average(start, stop, first, *before))
    return Codes(codes[:queries], codes[queries:].tocsc())


def overlap(codes: Codes, rows: slice) -> Tensor:
    """(q, G) float32: the overlap of some queries with every gallery image, 0 to 1."""
    lines, columns = codes.queries[rows], codes.gallery
    result = np.zeros((lines.shape[0], columns.shape[0]), dtype=np.float32)
    _by_rows(
        len(result),
        lambda start, stop: _overlap(
            start,
            stop,
            lines.indptr,
            lines.indices,
            lines.data,
            columns.indptr,
            columns.indices,
            columns.data,
            result,
        ),
    )
    return torch.from_numpy(result)


def _by_rows(rows: int, work: Callable[[int, int], object], size: int = _ROWS) -> list:
    """`work(start, stop)` over all rows, in turns on as many threads as torch uses."""
    workers = torch.get_num_threads()
    size = max(1, min(size, -(-rows // workers)))
    with ThreadPoolExecutor(workers) as executor:
        return list(
            executor.map(lambda start: work(start, min(start + size, rows)), range(0, rows, size))
        )


def _stacked(near: np.ndarray, work: Callable) -> scipy.sparse.csr_array:
    """The sparse (N, N) matrix whose rows `work` makes as (lengths, columns, weights)."""
    lengths, columns, weights = (np.concatenate(parts) for parts in zip(*_by_rows(len(near), work)))
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    return scipy.sparse.csr_array((weights, columns, offsets), shape=(len(near), len(near)))


def _reciprocal(near: np.ndarray, width: int) -> np.ndarray:
    """(N, width) neighbours that have the row in their own list, filled up with -1."""
    result = np.full((len(near), width), -1, dtype=np.int32)
    _by_rows(len(near), lambda start, stop: _mutual(start, stop, near, width, result))
    return result


@_compiled
def _mutual(start, stop, near, width, result):
    for row in range(start, stop):
        count = 0
        for other in near[row, :width]:
            for back in near[other, :width]:
                if back == row:
                    result[row, count] = other
                    count += 1
                    break


@_compiled
def _weigh(start, stop, features, scale, full, half):
    # mark[image] is 2 row + 1 in R(row) and 2 row + 2 where an accepted half list added it.
    mark = np.zeros(len(features), dtype=np.int64)
    lengths = np.zeros(stop - start, dtype=np.int32)
    width = full.shape[1] * (1 + half.shape[1])
    columns = np.empty((stop - start) * width, dtype=np.int32)
    weights = np.empty((stop - start) * width, dtype=np.float32)
    end = 0
    for row in range(start, stop):
        begin = end
        for member in full[row]:
            if member < 0:
                break
            mark[member] = 2 * row + 1
            columns[end] = member
            end += 1
        for candidate in columns[begin:end].copy():
            size, inside = 0, 0
            for member in half[candidate]:
                if member < 0:
                    break
                size += 1
                inside += mark[member] == 2 * row + 1
            if 3 * inside > 2 * size:
                for member in half[candidate, :size]:
                    if mark[member] < 2 * row + 1:
                        mark[member] = 2 * row + 2
                        columns[end] = member
                        end += 1
        total = np.float32(0)
        for place in range(begin, end):
            distance = np.float32(0)
            for x, y in zip(features[row], features[columns[place]]):
                distance += (x - y) * (x - y)
            weights[place] = np.exp(-scale[row] * distance)
            total += weights[place]
        weights[begin:end] /= total
        lengths[row - start] = end - begin
    return lengths, columns[:end].copy(), weights[:end].copy()


@_compiled
def _average(start, stop, near, offsets, columns, weights):
    size = 0
    for row in range(start, stop):
        for other in near[row]:
            size += offsets[other + 1] - offsets[other]
    lengths = np.zeros(stop - start, dtype=np.int32)
    new_columns = np.empty(size, dtype=np.int32)
    new_weights = np.empty(size, dtype=np.float32)
    sums = np.zeros(len(offsets) - 1, dtype=np.float32)
    end = 0
    for row in range(start, stop):
        begin = end
        for other in near[row]:
            for place in range(offsets[other], offsets[other + 1]):
                if sums[columns[place]] == 0:
                    new_columns[end] = columns[place]
                    end += 1
                sums[columns[place]] += weights[place]
        for place in range(begin, end):
            new_weights[place] = sums[new_columns[place]] / near.shape[1]
            sums[new_columns[place]] = 0
        lengths[row - start] = end - begin
    return lengths, new_columns[:end].copy(), new_weights[:end].copy()


@_compiled
def _overlap(start, stop, offsets, columns, weights, starts, images, others, result):
    for row in range(start, stop):
        line = result[row]
        for place in range(offsets[row], offsets[row + 1]):
            column, weight = columns[place], weights[place]
            for answer in range(starts[column], starts[column + 1]):
                line[images[answer]] += min(weight, others[answer])
