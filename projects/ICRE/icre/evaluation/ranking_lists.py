"""Ranking lists: the first images of some queries in a protocol, and how to choose the queries."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from icre.datasets.sysu import read_permutation
from icre.evaluation.features import FeatureSet
from icre.evaluation.score import score_trials
from icre.evaluation.trials import Trials, make_trials
from icre.utils.errors import UserError


@dataclass(frozen=True)
class RankingList:
    """One query and the first images of its ranking, as rows of a FeatureSet.

    Args:
        query: row of the query.
        found: (K,) rows of the images, best first.
        right: (K,) bool, whether each has the query's identity.
        ap: average precision of the whole ranking, 0 to 1.
    """

    query: int
    found: np.ndarray
    right: np.ndarray
    ap: float


def _even(pids: np.ndarray, ap: np.ndarray, count: int, seed: int) -> np.ndarray:
    return np.linspace(0, len(pids) - 1, min(count, len(pids)), dtype=int)


def _random(pids: np.ndarray, ap: np.ndarray, count: int, seed: int) -> np.ndarray:
    return np.sort(random.Random(seed).sample(range(len(pids)), min(count, len(pids))))


def _worst(pids: np.ndarray, ap: np.ndarray, count: int, seed: int) -> np.ndarray:
    order = np.argsort(ap, kind="stable")
    first = np.sort(np.unique(pids[order], return_index=True)[1])
    return order[first[:count]]


# name -> (pids (Q,), average precisions (Q,), count, seed -> indices of the chosen queries)
PICKS: dict[str, Callable[[np.ndarray, np.ndarray, int, int], np.ndarray]] = {
    "even": _even,  # evenly spaced in the order of identities and cameras
    "random": _random,
    "worst": _worst,  # the lowest average precision, one query of an identity
}


def pick_queries(
    pids: np.ndarray, ap: np.ndarray, pick: str | Sequence[int], count: int, seed: int = 0
) -> np.ndarray:
    """Choose some of Q queries.

    Args:
        pids, ap: (Q,) identity and average precision of each query.
        pick: a key of `PICKS`; or identities, with an equal share of `count` each, at least one.
        count: how many queries.
        seed: of "random".

    Returns:
        Indices of the chosen queries, in the order to show them.

    Raises:
        UserError: an unknown identity (names some), no count.
    """
    if count < 1:
        raise UserError(f"--queries {count}: at least 1 is needed")
    if isinstance(pick, str):
        if pick not in PICKS:
            raise UserError(f"--pick {pick}: use {', '.join(PICKS)} or identities")
        return PICKS[pick](pids, ap, count, seed)
    chosen = []
    for pid in pick:
        queries = np.flatnonzero(pids == pid)
        if not len(queries):
            known = np.unique(pids)
            some = ", ".join(map(str, known[:8])) + (", ..." if len(known) > 8 else "")
            raise UserError(f"identity {pid} has no query here; {len(known)} have: {some}")
        chosen.append(queries[_even(queries, ap, max(1, count // len(pick)), seed)])
    if not chosen:
        raise UserError("no identity is picked: name one or more")
    return np.concatenate(chosen)


def ranking_lists(
    data: FeatureSet,
    protocol: str,
    draw: str | None,
    permutation_file: Path | None = None,
    queries: int = 8,
    top: int = 10,
    pick: str | Sequence[int] = "even",
    seed: int = 0,
) -> list[RankingList]:
    """Rank the gallery of a protocol's first trial for some queries that have a match.

    Args:
        data: in the order of `FeatureSet.ordered`.
        protocol, draw: protocol and gallery sampling, as in a result record.
        permutation_file: read if the gallery sampling is official.
        queries, top: how many lists, and how long.
        pick, seed: see `pick_queries`.
    """
    if top < 1:
        raise UserError(f"--top {top}: at least 1 is needed")
    permutation = None
    if draw == "official" and permutation_file is not None:
        permutation = read_permutation(permutation_file)
    trials = _first_trial(make_trials(data, protocol, draw, permutation))
    query_rows, gallery = trials.rows()[0]
    scores = score_trials(data, [trials])[0][0]
    matched = np.flatnonzero(scores.first_match.numpy() > 0)
    if not len(matched):
        raise UserError(f"{protocol}: no query has a match in the gallery")
    ap = scores.ap.numpy()[matched]
    picked = pick_queries(data.pids[query_rows[matched]], ap, pick, queries, seed)
    chosen = query_rows[matched[picked]]
    unit = data.features / np.linalg.norm(data.features, axis=1, keepdims=True)
    distance = 1 - unit[chosen] @ unit[gallery].T
    distance[trials.excluded(data, chosen, gallery)] = np.inf
    lists = []
    for query, row, precision in zip(chosen, distance, ap[picked]):
        order = np.argsort(row, kind="stable")[:top]
        found = gallery[order[np.isfinite(row[order])]]
        right = data.pids[found] == data.pids[query]
        lists.append(RankingList(int(query), found, right, float(precision)))
    return lists


def _first_trial(trials: Trials) -> Trials:
    subsets = trials.query_subsets and trials.query_subsets[:1]
    return replace(trials, galleries=trials.galleries[:1], query_subsets=subsets)
