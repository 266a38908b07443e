"""Scores after re-ranking, trial by trial.

Re-ranked distances depend on all images they are made from, so they cannot be shared between trials
as plain ones are. In each trial re-ranking sees that trial's gallery and all queries that ask in
it, as unit features and nothing else. Camera rules come after it: a barred image takes no place in
a ranking, but has been a neighbour.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from icre.datasets.protocol import CAMERA_RULES
from icre.evaluation import rank
from icre.evaluation.features import FeatureSet
from icre.evaluation.plan import Setting

_PAIRS = 2**22  # query-gallery pairs ranked at once


@dataclass(frozen=True)
class Reranker:
    """How to re-rank, and what a record says of it.

    Args:
        label: the record's field `rerank`: algorithm, k1, k2, lambda.
        distances: unit features (Q, D) and (G, D) -> (Q, G), smaller is nearer.
    """

    label: dict[str, Any]
    distances: Callable[[Tensor, Tensor], Tensor]


def reranked_values(
    data: FeatureSet, setting: Setting, reranker: Reranker, device: torch.device
) -> list[rank.QueryValues]:
    """Per trial what each query that asks scored, as `score.trial_values` gives it."""
    features = torch.nn.functional.normalize(torch.from_numpy(data.features).to(device), dim=1)
    pids, camids = (torch.from_numpy(column).to(device) for column in (data.pids, data.camids))
    barred_by = CAMERA_RULES[setting.protocol.barred]
    values = []
    for asking, answering in setting.sides():
        query, gallery = (torch.from_numpy(rows).to(device) for rows in (asking, answering))
        distances = reranker.distances(features[query], features[gallery])
        blocks, size = [], max(1, _PAIRS // len(gallery))
        for rows, distance in zip(query.split(size), distances.split(size)):
            barred = barred_by and barred_by(
                pids[rows], camids[rows], pids[gallery], camids[gallery]
            )
            keys = rank.order_keys(distance.double(), barred)
            blocks.append(
                rank.query_values(keys, pids[rows], pids[gallery], setting.protocol.dedup)
            )
        values.append(rank.concatenate(blocks))
    return values
