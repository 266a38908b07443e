"""k-reciprocal codes with torch alone, for GPUs: what `rerank_compiled` does, without loops.

N images, Q of them queries, G in the gallery. A code is a sparse row of weights over all N images;
how much two codes overlap is the sum of their smaller weights.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from icre.evaluation.rerank_options import Lists

# Entries of the largest temporary table of a step.
_ENTRIES = {"cpu": 2**22, "other": 2**26}


@dataclass(frozen=True)
class Codes:
    """Queries' codes by row and the gallery's by column, each as (offsets, places, weights)."""

    queries: tuple[Tensor, Tensor, Tensor]
    gallery: tuple[Tensor, Tensor, Tensor]
    images: int


def encode(features: Tensor, nearest: Tensor, scale: Tensor, lists: Lists, queries: int) -> Codes:
    """Turn neighbour lists into codes; arguments as those of `rerank_compiled.encode`."""
    full = _reciprocal(nearest[:, : lists.full])
    half = _reciprocal(nearest[:, : lists.half])
    rows, columns = _members(full, half)
    weights = torch.empty(len(rows), device=features.device)
    for part in _parts(len(rows), _entries(features) // features.shape[1]):
        difference = features[rows[part]] - features[columns[part]]
        weights[part] = torch.exp(-difference.square().sum(1) * scale[rows[part]])
    sums = torch.zeros(len(features), device=features.device).index_add_(0, rows, weights)
    weights /= sums[rows]
    if lists.expand > 1:
        rows, columns, weights = _averaged(rows, columns, weights, nearest[:, : lists.expand])
    is_query = rows < queries
    by_query = _compressed(rows[is_query], columns[is_query], weights[is_query], queries)
    in_gallery = ~is_query
    by_column = _compressed(
        columns[in_gallery], rows[in_gallery] - queries, weights[in_gallery], len(features)
    )
    return Codes(by_query, by_column, len(features) - queries)


def overlap(codes: Codes, rows: slice) -> Tensor:
    """(q, G) float32: the overlap of some queries with every gallery image, 0 to 1."""
    offsets, columns, weights = codes.queries
    starts, images, others = codes.gallery
    count = offsets.diff()[rows]
    result = torch.zeros(len(count) * codes.images, device=weights.device)
    entries = _ranges(offsets[:-1][rows], count)
    line = torch.arange(len(count), device=count.device).repeat_interleave(count)
    length = starts.diff()[columns[entries]]
    for part in _bounded(length, _entries(weights)):
        column = columns[entries[part]]
        places = _ranges(starts[column], length[part])
        cell = (line[part] * codes.images).repeat_interleave(length[part]) + images[places]
        weight = weights[entries[part]].repeat_interleave(length[part])
        result.index_add_(0, cell, torch.minimum(weight, others[places]))
    return result.view(len(count), codes.images)


def _reciprocal(lists: Tensor) -> Tensor:
    """(N, w) neighbours that have the row in their own list; -1 in place of the others."""
    result = torch.full_like(lists, -1)
    width = lists.shape[1]
    for part in _parts(len(lists), _entries(lists) // width**2):
        own = torch.arange(part.start, part.stop, device=lists.device)
        mutual = (lists[lists[part]] == own[:, None, None]).any(2)
        result[part] = torch.where(mutual, lists[part], -1)
    return result


def _members(full: Tensor, half: Tensor) -> tuple[Tensor, Tensor]:
    """(row, column) pairs, sorted: R(i) and each half list with over two thirds inside R(i)."""
    found = []
    for part in _parts(len(full), _entries(full) // (full.shape[1] ** 2 * half.shape[1])):
        own = full[part]
        candidates = half[own].masked_fill((own < 0)[..., None], -1)  # (n, full, half)
        inside = (candidates[..., None] == own[:, None, None]).any(3) & (candidates >= 0)
        accepted = 3 * inside.sum(2) > 2 * (candidates >= 0).sum(2)
        candidates = candidates.masked_fill(~accepted[..., None], -1).flatten(1)
        row = torch.arange(part.start, part.stop, device=full.device)[:, None]
        members = torch.cat([own, candidates], 1)
        pairs = (row * len(full) + members)[members >= 0]
        found.append(pairs.unique())
    pairs = torch.cat(found)
    return pairs // len(full), pairs % len(full)


def _averaged(
    rows: Tensor, columns: Tensor, weights: Tensor, nearest: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Each row's mean over its nearest rows, as (row, column, weight) sorted by row."""
    images, width = nearest.shape
    offsets = _offsets(rows, images)
    length = offsets.diff()[nearest]
    found = []
    for part in _bounded(length.sum(1), _entries(weights)):
        count = length[part].flatten()
        places = _ranges(offsets[nearest[part].flatten()], count)
        row = torch.arange(part.start, part.stop, device=rows.device).repeat_interleave(
            length[part].sum(1)
        )
        pairs, slot = (row * images + columns[places]).unique(return_inverse=True)
        mean = torch.zeros(len(pairs), device=weights.device)
        found.append((pairs, mean.index_add_(0, slot, weights[places]) / width))
    pairs, weights = (torch.cat(parts) for parts in zip(*found))
    return pairs // images, pairs % images, weights


def _compressed(
    rows: Tensor, columns: Tensor, weights: Tensor, count: int
) -> tuple[Tensor, Tensor, Tensor]:
    order = rows.argsort(stable=True)
    return _offsets(rows, count), columns[order], weights[order]


def _offsets(rows: Tensor, count: int) -> Tensor:
    sizes = torch.bincount(rows, minlength=count)
    return torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])


def _ranges(starts: Tensor, lengths: Tensor) -> Tensor:
    """The concatenated ranges start .. start + length."""
    shift = starts - (lengths.cumsum(0) - lengths)
    return shift.repeat_interleave(lengths) + torch.arange(int(lengths.sum()), device=starts.device)


def _parts(total: int, size: int) -> list[slice]:
    size = max(1, size)
    return [slice(start, min(start + size, total)) for start in range(0, total, size)]


def _bounded(sizes: Tensor, limit: int) -> list[slice]:
    """Consecutive slices of at most `limit` in all each, or of one element that is larger."""
    bins = torch.div(sizes.cumsum(0), limit, rounding_mode="floor")
    ends = torch.cat([bins.diff().nonzero().flatten() + 1, bins.new_tensor([len(sizes)])]).tolist()
    return [slice(start, end) for start, end in zip([0, *ends], ends) if end > start]


def _entries(tensor: Tensor) -> int:
    return _ENTRIES["cpu" if tensor.device.type == "cpu" else "other"]
