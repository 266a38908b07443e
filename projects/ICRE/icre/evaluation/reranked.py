"""Scores after re-ranking, trial by trial.

Re-ranked distances depend on all images that they are made from, so they cannot be shared between
trials as plain ones are. In each trial re-ranking sees that trial's gallery and queries, as unit
features and nothing else. Exclusion rules come after it: an excluded image takes no rank, but has
been a neighbour.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from icre.evaluation import rank
from icre.evaluation.features import FeatureSet
from icre.evaluation.trials import Trials, exclusion_on

_PAIRS = 2**22  # query-gallery pairs ranked at once


@dataclass(frozen=True)
class Reranker:
    """A re-ranking function, and its label in records.

    Args:
        label: the record's field `rerank`: algorithm, k1, k2, lambda.
        distances: unit features (Q, D) and (G, D) -> (Q, G), smaller is nearer.
    """

    label: dict[str, Any]
    distances: Callable[..., Any]


def reranked_scores(
    data: FeatureSet, trials: Trials, reranker: Reranker, device: torch.device
) -> list[rank.QueryScores]:
    """The scores of each trial's queries by re-ranked distances, as `score.score_trials`."""
    features = torch.nn.functional.normalize(torch.from_numpy(data.features).to(device), dim=1)
    pids = torch.from_numpy(data.pids).to(device)
    excluded = exclusion_on(trials.protocol, data, device)
    scores = []
    for query_rows, gallery_rows in trials.rows():
        query, gallery = (torch.from_numpy(rows).to(device) for rows in (query_rows, gallery_rows))
        distances = reranker.distances(features[query], features[gallery])
        blocks, size = [], max(1, _PAIRS // len(gallery))
        for rows, distance in zip(query.split(size), distances.split(size)):
            keys = rank.order_keys(distance.double(), excluded(rows, gallery))
            blocks.append(
                rank.score_queries(keys, pids[rows], pids[gallery], trials.protocol.dedup)
            )
        scores.append(rank.concatenate(blocks))
    return scores
