"""From features to result records: all protocols of a data set in one pass over the queries."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from icre.datasets.protocol import Protocol
from icre.datasets.sysu import Permutation
from icre.evaluation import rank
from icre.evaluation.calibration import SimilarityCalibration
from icre.evaluation.features import FeatureSet
from icre.evaluation.records import Scores, record
from icre.evaluation.rerank import reranker as as_reranker
from icre.evaluation.rerank_options import Reranking
from icre.evaluation.reranked import Reranker, reranked_scores
from icre.evaluation.trials import Trials, build_trials, exclusion_on
from icre.utils.device import exact
from icre.utils.errors import UserError
from icre.utils.progress import progress_bar

# Query-gallery pairs held at once, and threads that each hold so many. A CPU's block is some tens
# of megabytes, near to its caches; an accelerator wants few large ones.
_BLOCKS = {"cpu": (2**20, min(8, os.cpu_count() or 1)), "other": (2**25, 1)}


def score_trials(
    data: FeatureSet,
    chosen: list[Trials],
    device: str | torch.device = "cpu",
    calibration: SimilarityCalibration | None = None,
) -> list[list[rank.QueryScores]]:
    """The scores of each trial's queries, on the CPU, for each protocol.

    Protocols with the same queries share their similarities and the keys made of them. Similarity
    is the cosine in float64, or with a calibration the comparable one; ties rank in the order of
    the rows.
    """
    scores: list[list[rank.QueryScores]] = []
    with _one_thread():
        for _, group in groupby(
            chosen,
            key=lambda one: (
                one.protocol.query,
                one.protocol.excluded,
                one.protocol.mixed,
                one.protocol.cross,
            ),
        ):
            scores += _score_group(data, list(group), torch.device(device), calibration)
    return scores


def score(
    features: FeatureSet | str | Path | np.ndarray | Tensor,
    protocols: str | Sequence[str] | None = None,
    draw: str | None = None,
    perm: str | Path | Permutation | None = None,
    device: str | torch.device = "cpu",
    reranker: Reranker | Reranking | str | None = None,
    calibration: SimilarityCalibration | None = None,
    *,
    pids: Any = None,
    camids: Any = None,
    modalities: Any = None,
    paths: Any = None,
    **labels: Any,
) -> Scores:
    """Score features under test protocols.

    Args:
        features: a whole test set, rows in any order: a FeatureSet, a feature file or run folder
            (`FeatureSet.load`), or an array or tensor (N, D).
        protocols: a name or several; None: the default ones of the paths' data set, with every
            gallery sampling in use (SYSU-MM01's official one needs `perm`); without paths
            "any-i2v" and "any-v2i", see `icre.datasets.protocol`.
        draw: "official", "seeded" or None, see `protocol.settings`.
        perm: SYSU-MM01's rand_perm_cam.mat, or its content from `read_permutation`.
        device: where to compute; results do not depend on it beyond rounding.
        reranker: score re-ranked distances too: "fastreid" or "original", or their numbers.
        calibration: rank by comparable similarities, see `icre.evaluation.calibration`; not with
            a re-ranker, which knows features alone.
        pids, camids, modalities, paths: (N,) columns of an array, see `FeatureSet`.
        labels: fields of the record that the caller knows: split, flip, seed, epoch.

    Returns:
        A list that prints as a table and has a `frame()`: one record per protocol and sampling
        (`records.record`); then, with a re-ranker, one more each, with its label in the field
        `rerank`. Rank-k, mAP and mINP are in percent.

    Raises:
        UserError: protocol, sampling, permutation and features do not fit each other.

    >>> import numpy as np, icre
    >>> pids, modalities = np.repeat(np.arange(6), 4), np.tile([0, 0, 1, 1], 6)
    >>> features = np.eye(6)[pids] + np.random.default_rng(0).normal(0, 0.5, (24, 6))
    >>> scores = icre.score(
    ...     features, pids=pids, camids=modalities, modalities=modalities, protocols="any-i2v"
    ... )
    >>> scores[0]["protocol"], scores[0]["queries"], round(scores[0]["mAP"]["mean"], 2)
    ('any-i2v', 12, 60.19)
    >>> print(scores)  # doctest: +ELLIPSIS
    Not re-ranked, in percent:
    | protocol   | draw   | trials   | std over   | rerank   | queries   | gallery   | Rank-1 ...
    """
    data = FeatureSet.of(features, pids=pids, camids=camids, modalities=modalities, paths=paths)
    protocols = [protocols] if isinstance(protocols, str) else protocols
    reranker = as_reranker(reranker)
    if calibration and reranker:
        raise UserError("re-ranking is of features and takes no calibration: leave one of them out")
    data, chosen = build_trials(data, protocols, draw, perm)
    if calibration:
        labels = labels | {"calibration": calibration.label}
    with exact(device):
        results = score_trials(data, chosen, device, calibration)
        plain = Scores(_record(data, one, values, labels) for one, values in zip(chosen, results))
        if reranker is None:
            return plain
        labels = labels | {"rerank": reranker.label}
        bar = progress_bar(chosen, "re-ranking", leave=False)
        reranked = (reranked_scores(data, one, reranker, torch.device(device)) for one in bar)
        plain.extend(_record(data, one, values, labels) for one, values in zip(chosen, reranked))
    return plain


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep each operation to one CPU thread; whole blocks run side by side instead.

    The operations are thousands of short ones: threads inside them gain nothing on a quiet machine,
    and where other processes hold a core their waiting for each other costs tenfold.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _record(
    data: FeatureSet, trials: Trials, scores: list[rank.QueryScores], labels: dict[str, Any]
) -> dict[str, Any]:
    try:
        metrics = [rank.metrics(one) for one in scores]
    except UserError as error:
        raise UserError(f"{trials.name}: {error}") from None
    rows = np.concatenate([trials.query, *trials.galleries])
    return record(
        metrics,
        trials.name,
        trials.draw,
        queries=len(scores[0].first_match),
        valid_queries=int((scores[0].first_match > 0).sum()),
        gallery=len(trials.galleries[0]),
        identities=len(np.unique(data.pids[rows])),
        **labels,
    )


def _score_group(
    data: FeatureSet,
    group: list[Trials],
    device: torch.device,
    calibration: SimilarityCalibration | None,
) -> list[list[rank.QueryScores]]:
    """`score_trials` of protocols that share their queries and exclusion rule."""
    pool = np.unique(np.concatenate([rows for one in group for rows in one.galleries]))
    columns = [
        [torch.from_numpy(np.searchsorted(pool, rows)).to(device) for rows in one.galleries]
        for one in group
    ]
    make_keys = _key_maker(data, group[0].protocol, pool, device, calibration)
    pids = torch.from_numpy(data.pids).to(device)
    pool_pids = pids[torch.from_numpy(pool).to(device)]

    def score_block(queries: Tensor) -> list[list[rank.QueryScores]]:
        keys = make_keys(queries)
        # gather reads along the rows; index_select takes three times as long here.
        return [
            [
                rank.score_queries(
                    keys.gather(1, gallery.expand(len(keys), -1)),
                    pids[queries],
                    pool_pids[gallery],
                    trials.protocol.dedup,
                )
                for gallery in galleries
            ]
            for trials, galleries in zip(group, columns)
        ]

    pairs, workers = _BLOCKS["cpu" if device.type == "cpu" else "other"]
    queries = torch.from_numpy(group[0].query).to(device).split(max(1, pairs // len(pool)))
    with ThreadPoolExecutor(workers) as executor:
        blocks = list(executor.map(score_block, queries))
    return [
        _per_trial(trials, [rank.concatenate(parts) for parts in zip(*of_protocol)])
        for trials, of_protocol in zip(group, zip(*blocks))
    ]


def _key_maker(
    data: FeatureSet,
    protocol: Protocol,
    pool: np.ndarray,
    device: torch.device,
    calibration: SimilarityCalibration | None,
) -> Callable[[Tensor], Tensor]:
    """A function from the rows of some queries, (Q,), to their keys against the pool, (Q, P)."""
    features = torch.from_numpy(data.features).to(device, torch.float64)
    features = torch.nn.functional.normalize(features, dim=1)
    modalities = torch.from_numpy(data.modalities).to(device)
    if calibration:
        features = calibration.unit(features, modalities)
    rows = torch.from_numpy(pool).to(device)
    gallery, excluded = features[rows], exclusion_on(protocol, data, device)

    def make_keys(queries: Tensor) -> Tensor:
        similarity = features[queries] @ gallery.T
        if calibration:
            similarity = calibration.comparable(similarity, modalities[queries], modalities[rows])
        return rank.order_keys(1 - similarity, excluded(queries, rows))

    return make_keys


def _per_trial(trials: Trials, scores: list[rank.QueryScores]) -> list[rank.QueryScores]:
    """One QueryScores per trial, of its queries."""
    if trials.query_subsets is None:
        return scores
    return [scores[0].take(torch.from_numpy(places)) for places in trials.query_subsets]
