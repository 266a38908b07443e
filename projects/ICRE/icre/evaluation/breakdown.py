"""Where a model fails: a protocol's figures by pair of cameras and by identity."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from icre.evaluation import rank
from icre.evaluation.features import FeatureSet
from icre.evaluation.plan import Setting
from icre.evaluation.score import trial_values

FIGURES = ("Rank-1", "mAP", "mINP")
_OF_QUERY = {
    "Rank-1": lambda one: (one.place == 1).double(),
    "mAP": lambda one: one.ap,
    "mINP": lambda one: one.inp,
}


def by_camera_pair(data: FeatureSet, setting: Setting) -> list[dict[str, Any]]:
    """A camera's queries in a gallery of one camera's images alone.

    Args:
        data: in the order of `FeatureSet.ordered`.
        setting: of it.

    Returns:
        {"query", "gallery": camera, "queries"} and per figure its percent, mean over the trials;
        pairs in which a trial has no query with a match are left out.
    """
    cameras = gallery_cameras(data, setting)
    answers = trial_values(data, [only_camera(data, setting, one) for one in cameras])
    camids = data.camids[asking(setting)]  # (T, Q)
    rows = []
    for query in np.unique(camids).tolist():
        for gallery, trials in zip(cameras, answers):
            valid = matched(trials) & (camids == query)
            if valid.any(axis=1).all():
                row = {"query": query, "gallery": gallery, "queries": int(valid[0].sum())}
                rows.append(row | {name: mean(per_query(trials, name), valid) for name in FIGURES})
    return rows


def by_identity(data: FeatureSet, setting: Setting) -> list[dict[str, Any]]:
    """The queries of each identity.

    Args:
        data, setting: as of `by_camera_pair`.

    Returns:
        {"pid", "queries": in all trials} and per figure its percent over these queries, by
        identity; those who never have a match are left out.
    """
    trials = trial_values(data, [setting])[0]
    valid, pids = matched(trials), data.pids[asking(setting)]  # (T, Q)
    values = {name: per_query(trials, name) for name in FIGURES}
    rows = []
    for pid in np.unique(pids[valid]).tolist():
        own = valid & (pids == pid)
        row = {"pid": pid, "queries": int(own.sum())}
        rows.append(row | {name: float(values[name][own].mean()) for name in FIGURES})
    return rows


def asking(setting: Setting) -> np.ndarray:
    """(T, Q) rows of the queries in each trial."""
    return np.stack(
        [
            setting.query if places is None else setting.query[places]
            for places in setting.asked or [None] * setting.trials
        ]
    )


def matched(trials: Sequence[rank.QueryValues]) -> np.ndarray:
    """(T, Q) bool, the query has a match."""
    return np.stack([one.place.numpy() > 0 for one in trials])


def per_query(trials: Sequence[rank.QueryValues], figure: str) -> np.ndarray:
    """(T, Q) in percent; NaN or 0 where a query has no match."""
    return 100 * np.stack([_OF_QUERY[figure](one).numpy() for one in trials])


def mean(values: np.ndarray, valid: np.ndarray) -> float:
    """Mean over the trials of the mean over the valid queries, both (T, Q)."""
    return float((np.where(valid, values, 0).sum(axis=1) / valid.sum(axis=1)).mean())


def gallery_cameras(data: FeatureSet, setting: Setting) -> list[int]:
    """Cameras that have an image in a trial's gallery."""
    return np.unique(data.camids[np.concatenate(setting.galleries)]).tolist()


def only_camera(data: FeatureSet, setting: Setting, camera: int) -> Setting:
    """The setting with that camera's gallery images alone."""
    galleries = [rows[data.camids[rows] == camera] for rows in setting.galleries]
    return replace(setting, galleries=galleries)
