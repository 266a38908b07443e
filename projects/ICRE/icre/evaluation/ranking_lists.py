"""Ranking lists: what was found for some queries of a protocol, and which queries to look at."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from icre.datasets.protocol import CAMERA_RULES
from icre.evaluation.features import FeatureSet
from icre.evaluation.matlab import read_permutation
from icre.evaluation.plan import Setting, plan
from icre.evaluation.score import trial_values
from icre.utils.errors import UserError


@dataclass(frozen=True)
class RankingList:
    """One query and what was found for it, as rows of a FeatureSet.

    Args:
        query: row of the query.
        found: rows in the order of the ranking.
        right: whether each of them is of the query's identity.
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


# (pids (Q,), average precisions (Q,), wanted count, seed) -> places of the chosen queries
PICKS: dict[str, Callable[[np.ndarray, np.ndarray, int, int], np.ndarray]] = {
    "even": _even,  # at even distances in the order of identities and cameras
    "random": _random,
    "worst": _worst,  # the lowest average precision, one query of an identity
}


def pick_queries(
    pids: np.ndarray, ap: np.ndarray, pick: str | Sequence[int], count: int, seed: int = 0
) -> np.ndarray:
    """Which of some queries to look at.

    Args:
        pids, ap: (Q,) identity and average precision of each.
        pick: a key of `PICKS`, or identities: then each has its share of `count`, one at least.
        count: how many queries.
        seed: of "random".

    Returns:
        Their places, in the order to show them.

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
        own = np.flatnonzero(pids == pid)
        if not len(own):
            known = np.unique(pids)
            some = ", ".join(map(str, known[:8])) + (", ..." if len(known) > 8 else "")
            raise UserError(f"identity {pid} asks nothing here; {len(known)} do: {some}")
        chosen.append(own[_even(own, ap, max(1, count // len(pick)), seed)])
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
    """The first places of some queries in a protocol's first trial.

    Only queries that have a match are taken. By default they are not chosen by their result.

    Args:
        data: in the order of `FeatureSet.ordered`.
        protocol, draw: a setting, as a record names it.
        permutation_file: where the draw is official.
        queries, top: how many lists, and how long.
        pick, seed: see `pick_queries`.
    """
    if top < 1:
        raise UserError(f"--top {top}: at least 1 is needed")
    permutation = read_permutation(permutation_file) if draw == "official" else None
    setting = _first_trial(plan(data, protocol, draw, permutation))
    asking, gallery = setting.sides()[0]
    values = trial_values(data, [setting])[0][0]
    matched = np.flatnonzero(values.place.numpy() > 0)
    if not len(matched):
        raise UserError(f"{protocol}: no query has a match in the gallery")
    ap = values.ap.numpy()[matched]
    picked = pick_queries(data.pids[asking[matched]], ap, pick, queries, seed)
    chosen = asking[matched[picked]]
    unit = data.features / np.linalg.norm(data.features, axis=1, keepdims=True)
    distance = 1 - unit[chosen] @ unit[gallery].T
    distance[~_allowed(data, setting, chosen, gallery)] = np.inf
    lists = []
    for query, row, precision in zip(chosen, distance, ap[picked]):
        order = np.argsort(row, kind="stable")[:top]
        found = gallery[order[np.isfinite(row[order])]]
        right = data.pids[found] == data.pids[query]
        lists.append(RankingList(int(query), found, right, float(precision)))
    return lists


def _first_trial(setting: Setting) -> Setting:
    return replace(
        setting, galleries=setting.galleries[:1], asked=setting.asked and setting.asked[:1]
    )


def _allowed(
    data: FeatureSet, setting: Setting, asking: np.ndarray, gallery: np.ndarray
) -> np.ndarray:
    """(Q, G) bool, False where the camera rule takes an image from a query's gallery."""
    rule = CAMERA_RULES[setting.protocol.barred]
    if rule is None:
        return np.ones((len(asking), len(gallery)), dtype=bool)
    columns = (data.pids[asking], data.camids[asking], data.pids[gallery], data.camids[gallery])
    return ~rule(*map(torch.from_numpy, columns)).numpy()
