"""A protocol's metrics by pair of cameras and by identity."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from icre.evaluation import rank
from icre.evaluation.features import FeatureSet
from icre.evaluation.score import score_trials
from icre.evaluation.trials import Trials

METRICS = ("Rank-1", "mAP", "mINP")
_OF_QUERY = {
    "Rank-1": lambda scores: (scores.first_match == 1).double(),
    "mAP": lambda scores: scores.ap,
    "mINP": lambda scores: scores.inp,
}


def by_camera_pair(data: FeatureSet, trials: Trials) -> list[dict[str, Any]]:
    """Metrics of each camera's queries in a gallery of one camera's images alone.

    Args:
        data: in the order of `FeatureSet.ordered`.
        trials: of it.

    Returns:
        {"query", "gallery": camera, "queries"} and per metric its percent, mean over the trials;
        pairs in which a trial has no query with a match are left out.
    """
    cameras = gallery_cameras(data, trials)
    scored = score_trials(data, [only_camera(data, trials, one) for one in cameras])
    camids = data.camids[query_rows(trials)]  # (T, Q)
    rows = []
    for query in np.unique(camids).tolist():
        for gallery, scores in zip(cameras, scored):
            valid = has_match(scores) & (camids == query)
            if valid.any(axis=1).all():
                row = {"query": query, "gallery": gallery, "queries": int(valid[0].sum())}
                rows.append(row | {name: mean(per_query(scores, name), valid) for name in METRICS})
    return rows


def by_identity(data: FeatureSet, trials: Trials) -> list[dict[str, Any]]:
    """Metrics of the queries of each identity.

    Args:
        data, trials: as of `by_camera_pair`.

    Returns:
        {"pid", "queries": in all trials} and per metric its percent over these queries, by
        identity; those who never have a match are left out.
    """
    scores = score_trials(data, [trials])[0]
    valid, pids = has_match(scores), data.pids[query_rows(trials)]  # (T, Q)
    values = {name: per_query(scores, name) for name in METRICS}
    rows = []
    for pid in np.unique(pids[valid]).tolist():
        of_pid = valid & (pids == pid)
        row = {"pid": pid, "queries": int(of_pid.sum())}
        rows.append(row | {name: float(values[name][of_pid].mean()) for name in METRICS})
    return rows


def query_rows(trials: Trials) -> np.ndarray:
    """(T, Q) rows of the queries in each trial."""
    return np.stack([query for query, _ in trials.rows()])


def has_match(scores: Sequence[rank.QueryScores]) -> np.ndarray:
    """(T, Q) bool, the query has a match."""
    return np.stack([one.first_match.numpy() > 0 for one in scores])


def per_query(scores: Sequence[rank.QueryScores], metric: str) -> np.ndarray:
    """(T, Q) in percent; NaN or 0 where a query has no match."""
    return 100 * np.stack([_OF_QUERY[metric](one).numpy() for one in scores])


def mean(values: np.ndarray, valid: np.ndarray) -> float:
    """Mean over the trials of the mean over the valid queries, both (T, Q)."""
    return float((np.where(valid, values, 0).sum(axis=1) / valid.sum(axis=1)).mean())


def gallery_cameras(data: FeatureSet, trials: Trials) -> list[int]:
    """Cameras that have an image in a trial's gallery."""
    return np.unique(data.camids[np.concatenate(trials.galleries)]).tolist()


def only_camera(data: FeatureSet, trials: Trials, camera: int) -> Trials:
    """The trials with that camera's gallery images alone."""
    galleries = [rows[data.camids[rows] == camera] for rows in trials.galleries]
    return replace(trials, galleries=galleries)
