"""Ranking metrics of queries against a gallery, on CPU or GPU, without a loop over queries.

A distance and its gallery column are packed into one integer. Sorting integers is fast, each key is
unique, and so the order is stable: distances that differ by less than 2^-40 (copies of one image,
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
_EXCLUDED = torch.iinfo(torch.int64).max


@dataclass(frozen=True)
class QueryScores:
    """Scores of each query, (Q,) tensors; without a match `first_match` is 0 and the others NaN.

    Args:
        first_match: rank of the first match, from 1, in the list that CMC is counted on (int64).
        ap: average precision, mean over the matches of (matches so far / rank), 0 to 1 (float64).
        inp: number of matches / rank of the last match, 0 to 1 (float64; Ye et al., TPAMI 2021).
    """

    first_match: Tensor
    ap: Tensor
    inp: Tensor

    def take(self, rows: Tensor) -> Self:
        """The given queries, in that order."""
        return type(self)(self.first_match[rows], self.ap[rows], self.inp[rows])


def concatenate(blocks: Sequence[QueryScores]) -> QueryScores:
    """Join the values of consecutive query blocks, on the CPU."""
    names = ("first_match", "ap", "inp")
    return QueryScores(*(torch.cat([getattr(one, name) for one in blocks]).cpu() for name in names))


def order_keys(distance: Tensor, excluded: Tensor | None = None) -> Tensor:
    """Turn distances into unique integers of the same order, ties by column.

    Args:
        distance: (Q, G) float64, smaller is nearer.
        excluded: (Q, G) bool, True where an image is excluded from a query's gallery.

    Returns:
        (Q, G) int64. Any subset of the columns keeps the order, so one call serves all trials.

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
    return keys if excluded is None else keys.masked_fill_(excluded, _EXCLUDED)


def score_queries(
    keys: Tensor, query_pids: Tensor, gallery_pids: Tensor, dedup: bool
) -> QueryScores:
    """Score every query.

    Args:
        keys: (Q, G), from `order_keys`.
        query_pids, gallery_pids: (Q,) and (G,) integers.
        dedup: CMC counts each identity once, at its first image; AP and INP count every image.
    """
    same = (query_pids[:, None] == gallery_pids) & (keys != _EXCLUDED)
    matches = same.sum(1)
    match_keys = _match_keys(keys, same, matches)
    ranks = torch.searchsorted(_sorted_rows(keys), match_keys) + 1
    nth = torch.arange(1, ranks.shape[1] + 1, device=keys.device)
    precision = (nth / ranks.double()).masked_fill(nth > matches[:, None], 0.0)
    last = ranks.gather(1, (matches - 1).clamp(min=0)[:, None]).squeeze(1)
    unmatched = matches == 0
    rank = _identity_rank(keys, gallery_pids, match_keys[:, :1]) if dedup else ranks[:, 0]
    return QueryScores(
        first_match=rank.masked_fill(unmatched, 0),
        ap=precision.sum(1) / matches,
        inp=(matches / last.double()).masked_fill(unmatched, torch.nan),
    )


def metrics(scores: QueryScores) -> dict[str, float]:
    """Mean over the queries that have a match, in percent: Rank-k, mAP and mINP.

    A gallery of fewer than 20 identities carries its last CMC value on.

    Raises:
        UserError: no query has a match.
    """
    valid = scores.first_match > 0
    if not valid.any():
        raise UserError("no query has a match in the gallery")
    rank = scores.first_match[valid]
    result = {f"Rank-{k}": 100 * (rank <= k).double().mean().item() for k in RANKS}
    result["mAP"] = 100 * scores.ap[valid].mean().item()
    result["mINP"] = 100 * scores.inp[valid].mean().item()
    return result


def _match_keys(keys: Tensor, same: Tensor, matches: Tensor) -> Tensor:
    """(Q, most matches) keys of each query's matches, nearest first; padded with _EXCLUDED."""
    rows, columns = same.nonzero(as_tuple=True)
    slots = torch.arange(len(rows), device=keys.device) - (matches.cumsum(0) - matches)[rows]
    padded = keys.new_full((len(keys), max(1, int(matches.max()))), _EXCLUDED)
    padded[rows, slots] = keys[rows, columns]
    return padded.sort(dim=1).values


def _identity_rank(keys: Tensor, gallery_pids: Tensor, first: Tensor) -> Tensor:
    """1 + the number of identities whose nearest image comes before the key `first` (Q, 1)."""
    identities, group = gallery_pids.unique(return_inverse=True)
    nearest = keys.new_full((len(keys), len(identities)), _EXCLUDED)
    nearest.scatter_reduce_(1, group.expand_as(keys), keys, "amin")
    return (nearest < first).sum(1) + 1


def _sorted_rows(keys: Tensor) -> Tensor:
    if keys.device.type != "cpu":
        return keys.sort(dim=1).values
    # numpy's sort of integers is vectorised and about eight times faster than torch's on a CPU.
    return torch.from_numpy(np.sort(keys.numpy(), axis=1))
