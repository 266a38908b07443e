"""Ranking metrics of queries against a gallery, on CPU or GPU, without a loop over queries.

A similarity and its gallery place are packed into one integer. Sorting integers is fast, each key
is unique, and so the order is stable: images nearer to each other than 2^-40 (copies of one image,
whose products differ by rounding) rank in the order of the gallery.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from icre.utils.errors import UserError

RANKS = (1, 5, 10, 20)
_STEP_BITS = 40
_BARRED = torch.iinfo(torch.int64).max


@dataclass(frozen=True)
class QueryValues:
    """What each query scored, (Q,) tensors; a query without a match has place 0 and NaN.

    Args:
        place: place of the first hit, from 1, in the list that CMC is counted on (int64).
        ap: average precision, mean over the hits of (hits so far / rank), 0 to 1 (float64).
        inp: number of hits / rank of the last hit, 0 to 1 (float64; Ye et al., TPAMI 2021).
    """

    place: Tensor
    ap: Tensor
    inp: Tensor

    def take(self, places: Tensor) -> Self:
        """The given queries, in that order."""
        return type(self)(self.place[places], self.ap[places], self.inp[places])


def concatenate(blocks: Sequence[QueryValues]) -> QueryValues:
    """Join the values of consecutive query blocks, on the CPU."""
    names = ("place", "ap", "inp")
    return QueryValues(*(torch.cat([getattr(one, name) for one in blocks]).cpu() for name in names))


def order_keys(distance: Tensor, barred: Tensor | None = None) -> Tensor:
    """Turn distances into unique integers of the same order, ties by column.

    Args:
        distance: (Q, G) float64, smaller is nearer.
        barred: (Q, G) bool, True where the camera rule takes an image from a query's gallery.

    Returns:
        (Q, G) int64. Any subset of the columns keeps the order, so one call serves all draws.

    Raises:
        UserError: a distance is not finite, or too large for the integers.
    """
    columns = distance.shape[1]
    bits = max(columns - 1, 1).bit_length()
    low, high = distance.aminmax()
    limit = 2.0 ** (62 - _STEP_BITS - bits)
    if not (low > -limit and high < limit):
        raise UserError(f"distances lie in [{low:g}, {high:g}], they must be within +-{limit:g}")
    steps = torch.round(distance * 2.0**_STEP_BITS).to(torch.int64)
    keys = (steps << bits) | torch.arange(columns, device=distance.device)
    return keys if barred is None else keys.masked_fill_(barred, _BARRED)


def query_values(
    keys: Tensor, query_pids: Tensor, gallery_pids: Tensor, dedup: bool
) -> QueryValues:
    """Score every query.

    Args:
        keys: (Q, G), from `order_keys`.
        query_pids, gallery_pids: (Q,) and (G,) integers.
        dedup: CMC counts each identity once, at its first image; AP and INP count every image.
    """
    same = (query_pids[:, None] == gallery_pids) & (keys != _BARRED)
    hits = same.sum(1)
    hit_keys = _hit_keys(keys, same, hits)
    ranks = torch.searchsorted(_sorted_rows(keys), hit_keys) + 1
    nth = torch.arange(1, ranks.shape[1] + 1, device=keys.device)
    precision = (nth / ranks.double()).masked_fill(nth > hits[:, None], 0.0)
    last = ranks.gather(1, (hits - 1).clamp(min=0)[:, None]).squeeze(1)
    unmatched = hits == 0
    place = _identity_place(keys, gallery_pids, hit_keys[:, :1]) if dedup else ranks[:, 0]
    return QueryValues(
        place=place.masked_fill(unmatched, 0),
        ap=precision.sum(1) / hits,
        inp=(hits / last.double()).masked_fill(unmatched, torch.nan),
    )


def figures(values: QueryValues) -> dict[str, float]:
    """Mean over the queries that have a match, in percent: Rank-k, mAP and mINP.

    A gallery of fewer than 20 identities carries its last CMC value on.

    Raises:
        UserError: no query has a match.
    """
    valid = values.place > 0
    if not valid.any():
        raise UserError("no query has a match in the gallery")
    place = values.place[valid]
    result = {f"Rank-{k}": 100 * (place <= k).double().mean().item() for k in RANKS}
    result["mAP"] = 100 * values.ap[valid].mean().item()
    result["mINP"] = 100 * values.inp[valid].mean().item()
    return result


def _hit_keys(keys: Tensor, same: Tensor, hits: Tensor) -> Tensor:
    """The keys of each query's hits, nearest first, (Q, most hits); padded with the barred key."""
    rows, columns = same.nonzero(as_tuple=True)
    slots = torch.arange(len(rows), device=keys.device) - (hits.cumsum(0) - hits)[rows]
    padded = keys.new_full((len(keys), max(1, int(hits.max()))), _BARRED)
    padded[rows, slots] = keys[rows, columns]
    return padded.sort(dim=1).values


def _identity_place(keys: Tensor, gallery_pids: Tensor, first: Tensor) -> Tensor:
    """1 + the number of identities whose nearest image comes before the key `first` (Q, 1)."""
    identities, group = gallery_pids.unique(return_inverse=True)
    nearest = keys.new_full((len(keys), len(identities)), _BARRED)
    nearest.scatter_reduce_(1, group.expand_as(keys), keys, "amin")
    return (nearest < first).sum(1) + 1


def _sorted_rows(keys: Tensor) -> Tensor:
    if keys.device.type != "cpu":
        return keys.sort(dim=1).values
    # numpy's sort of integers is vectorised and about eight times faster than torch's on a CPU.
    return torch.from_numpy(np.sort(keys.numpy(), axis=1))
