"""Is the difference between two models real? A paired bootstrap over identities and trials.

Queries of one identity are correlated, so identities are resampled, not queries. Trials (gallery
samples) are resampled too, as another sample is part of what a result could have been. Both models
have the same queries and galleries in every bootstrap sample (Efron and Tibshirani, 1993).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from icre.datasets.protocol import default_names
from icre.datasets.sysu import Permutation
from icre.evaluation import rank
from icre.evaluation.breakdown import (
    METRICS,
    gallery_cameras,
    has_match,
    mean,
    only_camera,
    per_query,
    query_rows,
)
from icre.evaluation.comparison import Comparison
from icre.evaluation.features import FeatureSet
from icre.evaluation.score import score_trials
from icre.evaluation.trials import Trials, build_trials
from icre.utils.errors import UserError


@dataclass(frozen=True)
class Bootstrap:
    """How many samples, from which seed; `level` is the interval's share in percent."""

    samples: int = 2000
    seed: int = 0
    level: float = 95.0

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise UserError(f"{self.samples} bootstrap samples: at least 1 is needed")


def compare(
    first: FeatureSet | str | Path,
    second: FeatureSet | str | Path,
    name: str | None = None,
    draw: str | None = None,
    perm: str | Path | Permutation | None = None,
    bootstrap: Bootstrap = Bootstrap(),
    device: str = "cpu",
) -> Comparison:
    """Compare two models' features of the same images under one protocol.

    Args:
        first, second: FeatureSets, feature files or run folders; same paths, in any order (without
            paths: in the same order).
        name: protocol; None: the first default one of the data set.
        draw, perm, device: as in `score`.
        bootstrap: how many samples, from which seed.

    Returns:
        A dict that prints as tables and has a `frame()`: {"protocol", "draw", "trials", "samples",
        "seed", "level", "all": row, "cameras": [row]}. A row is {"query", "gallery": camera or
        null, "queries", "identities"} and per metric {"first", "second", "difference" (second -
        first), "low", "high"}, in percent. A camera row has the queries of one camera and a gallery
        of one camera's images alone; pairs in which no query has a match are left out.

    Raises:
        UserError: the two sets hold other images, or the protocol does not fit them.

    >>> import numpy as np, icre
    >>> pids, modalities = np.repeat(np.arange(9), 4), np.tile([0, 0, 1, 1], 9)
    >>> noise = np.random.default_rng(0).normal(size=(36, 9))
    >>> good, bad = (
    ...     icre.FeatureSet(np.eye(9)[pids] + scale * noise, pids, modalities, modalities)
    ...     for scale in (0.3, 0.6)
    ... )
    >>> result = icre.compare(good, bad, bootstrap=icre.Bootstrap(samples=500))
    >>> cell = result["all"]["mAP"]
    >>> bool(cell["low"] < cell["difference"] < cell["high"] < 0)
    True
    >>> print(result)  # doctest: +ELLIPSIS
    any-i2v, draw -, 1 trials, not re-ranked; B - A with 95 % intervals from 500 samples ...
    """
    names = tuple(str(one) if isinstance(one, (str, Path)) else "" for one in (first, second))
    first, second = FeatureSet.of(first), FeatureSet.of(second)
    if name is None and first.layout is not None:
        name = default_names(first.layout)[0]
    first, (trials,) = build_trials(first, None if name is None else [name], draw, perm)
    second = second.ordered()
    check_same_data(first, second)
    cameras = gallery_cameras(first, trials)
    chosen = [trials] + [only_camera(first, trials, camera) for camera in cameras]
    scored = [score_trials(data, chosen, device) for data in (first, second)]
    rows = [_row(first, trials, scored[0][0], scored[1][0], bootstrap)]
    if not rows[0]:
        raise UserError(f"{trials.name}: no query has a match in the gallery")
    for query in np.unique(first.camids[trials.query]).tolist():
        for place, gallery in enumerate(cameras, start=1):
            pair = (query, gallery)
            rows.append(_row(first, trials, scored[0][place], scored[1][place], bootstrap, pair))
    result = {
        "protocol": trials.name,
        "draw": trials.draw,
        "trials": len(trials),
        "samples": bootstrap.samples,
        "seed": bootstrap.seed,
        "level": bootstrap.level,
        "all": rows[0],
        "cameras": [row for row in rows[1:] if row],
    }
    return Comparison(result, (names[0] or "first", names[1] or "second"))


def compare_seeds(
    first: list[list[dict[str, Any]]],
    second: list[list[dict[str, Any]]],
    bootstrap: Bootstrap = Bootstrap(),
) -> dict[str, dict[str, float]]:
    """Compare two recipes by several trainings of each, paired by their seeds.

    Identities are resampled as in `compare`, and so are the seeds, in place of the trials, which
    are the same for all. With few seeds the interval is somewhat narrow, with one it covers the
    identities alone.

    Args:
        first, second: per seed, in the same order of seeds, the metrics of each identity under one
            protocol, as `by_identity` gives them.

    Returns:
        Per metric {"difference" (second - first), "low", "high"}, in percent.

    Raises:
        UserError: the lists differ in length, or in the identities or their queries.
    """
    if not first or len(first) != len(second):
        raise UserError(f"{len(first)} and {len(second)} trainings cannot be paired")
    asked = {tuple((one["pid"], one["queries"]) for one in rows) for rows in first + second}
    if len(asked) > 1:
        raise UserError(
            "not the same data: the trainings were tested on other identities or queries"
        )
    queries = np.array([[one["queries"] for one in rows] for rows in first])  # (seeds, I)
    result = {}
    for metric in METRICS:
        ours, theirs = (
            np.array([[one[metric] for one in rows] for rows in side]) for side in (first, second)
        )
        sums = queries * (theirs - ours)
        low, high = _percentiles(sums, queries, bootstrap)
        difference = float((sums.sum(axis=1) / queries.sum(axis=1)).mean())
        result[metric] = {"difference": difference, "low": low, "high": high}
    return result


def check_same_data(first: FeatureSet, second: FeatureSet) -> None:
    """Refuse two ordered sets whose images, identities or cameras differ (UserError)."""
    alone = np.setxor1d(first.paths, second.paths)
    if alone.size:
        side = "first" if alone[0] in first.paths else "second"
        raise UserError(f"not the same data: only the {side} has {alone[0]} ({alone.size} differ)")
    for column in ("pids", "camids", "modalities", "paths"):
        wrong = np.flatnonzero(getattr(first, column) != getattr(second, column))
        if wrong.size:
            raise UserError(f"not the same data: {column} of {first.paths[wrong[0]]} differ")


def interval(
    difference: np.ndarray, valid: np.ndarray, identities: np.ndarray, bootstrap: Bootstrap
) -> tuple[float, float]:
    """Percentile interval of the mean difference.

    Args:
        difference: (T, Q) per trial and query, second - first; ignored where not valid.
        valid: (T, Q) bool, the query has a match.
        identities: (T, Q) integers 0..I-1, the query's identity.

    Returns:
        (low, high), in the unit of `difference`: mean over the resampled trials of the mean over
        the valid queries of the resampled identities.
    """
    trials, count = len(difference), int(identities.max()) + 1
    cells = identities + count * np.arange(trials)[:, None]
    size = trials * count
    sums = np.bincount(cells[valid], difference[valid], size).reshape(trials, count)
    queries = np.bincount(cells[valid], minlength=size).reshape(trials, count)
    # Identities that never have a match are no part of the population.
    seen = queries.any(axis=0)
    return _percentiles(sums[:, seen], queries[:, seen], bootstrap)


def _percentiles(
    sums: np.ndarray, queries: np.ndarray, bootstrap: Bootstrap
) -> tuple[float, float]:
    """The interval, of each identity's sum of differences and number of queries: (T, I) each."""
    generator = np.random.default_rng(bootstrap.seed)
    trials, number = queries.shape
    weights = generator.multinomial(number, np.full(number, 1 / number), bootstrap.samples)
    turns = generator.multinomial(trials, np.full(trials, 1 / trials), bootstrap.samples) / trials
    drawn = weights @ queries.T
    full = (drawn > 0).all(axis=1)  # identities drawn that have no query in some trial give no mean
    if not full.any():
        return float("nan"), float("nan")
    means = (weights @ sums.T)[full] / drawn[full]
    tail = (100 - bootstrap.level) / 2
    low, high = np.percentile((turns[full] * means).sum(axis=1), [tail, 100 - tail])
    return float(low), float(high)


def _row(
    data: FeatureSet,
    trials: Trials,
    first: list[rank.QueryScores],
    second: list[rank.QueryScores],
    bootstrap: Bootstrap,
    pair: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """One row of the result; empty where a trial has no query with a match."""
    rows, valid = query_rows(trials), has_match(first)
    if pair is not None:
        valid &= data.camids[rows] == pair[0]
    if not valid.any(axis=1).all():
        return {}
    pids, identities = np.unique(data.pids[rows], return_inverse=True)
    row: dict[str, Any] = {
        "query": pair and pair[0],
        "gallery": pair and pair[1],
        "queries": int(valid[0].sum()),
        "identities": len(np.unique(pids[identities[valid]])),
    }
    for metric in METRICS:
        a, b = (per_query(side, metric) for side in (first, second))
        low, high = interval(b - a, valid, identities, bootstrap)
        row[metric] = {
            "first": mean(a, valid),
            "second": mean(b, valid),
            "difference": mean(b - a, valid),
            "low": low,
            "high": high,
        }
    return row
