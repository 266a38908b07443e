"""The test protocols as the field's public code writes them: loops over trials and over queries.

The oracle of the scoring tests, and the slow side of `benchmark protocol`. It shares nothing with
`icre.evaluation` but the feature container, so that an error there cannot hide here. After
AGW's `eval_sysu`, `eval_regdb` (Ye et al., TPAMI 2021) and DEEN's `eval_llcm` (Zhang and Wang,
CVPR 2023).
"""

import random
from collections import defaultdict

import numpy as np

from icre.evaluation.features import FeatureSet

Rows = list[int]


def loop_score(
    data: FeatureSet, name: str, sampling: str | None, permutation: dict | None = None
) -> list[dict[str, float]]:
    """Per trial the metrics in percent and `valid_queries`, of one protocol and sampling."""
    unit = data.features.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    results = []
    for trial in range(1 if sampling is None else 10):
        query, gallery = trial_rows(data, name, sampling, trial, permutation)
        results.append(
            loop_evaluate(
                unit[query] @ unit[gallery].T,
                data.pids[query],
                data.pids[gallery],
                data.camids[query],
                data.camids[gallery],
                name.split("-")[0],
            )
        )
    return results


def loop_evaluate(
    similarity: np.ndarray,
    q_pids: np.ndarray,
    g_pids: np.ndarray,
    q_camids: np.ndarray,
    g_camids: np.ndarray,
    dataset: str,
) -> dict[str, float]:
    """Metrics of one trial from its (Q, G) similarities by the rules of a data set, or "any"."""
    order = np.argsort(-similarity, axis=1, kind="stable")
    cmcs, aps, inps = [], [], []
    for query in range(len(q_pids)):
        ranked_pids, ranked_cams = g_pids[order[query]], g_camids[order[query]]
        if dataset == "sysu":
            remove = (q_camids[query] == 3) & (ranked_cams == 2)
        elif dataset == "llcm":
            remove = (ranked_pids == q_pids[query]) & (ranked_cams == q_camids[query])
        else:
            remove = np.zeros(len(ranked_pids), dtype=bool)
        ranked_pids = ranked_pids[np.invert(remove)]
        hits = (ranked_pids == q_pids[query]).astype(np.int32)
        if not np.any(hits):
            continue
        counted = hits
        if dataset not in ("regdb", "any"):
            first = np.unique(ranked_pids, return_index=True)[1]
            deduplicated = [ranked_pids[position] for position in sorted(first)]
            counted = (np.asarray(deduplicated) == q_pids[query]).astype(np.int32)
        cmcs.append(_cmc_20(counted))
        so_far = hits.cumsum()
        last = np.max(np.where(hits == 1))
        inps.append(so_far[last] / (last + 1.0))
        precision = np.asarray([found / (rank + 1.0) for rank, found in enumerate(so_far)])
        aps.append((precision * hits).sum() / hits.sum())
    cmc = np.mean(cmcs, axis=0)
    metrics = {f"Rank-{rank}": 100 * cmc[rank - 1] for rank in (1, 5, 10, 20)}
    return metrics | {
        "mAP": 100 * np.mean(aps),
        "mINP": 100 * np.mean(inps),
        "valid_queries": len(cmcs),
    }


def trial_rows(
    data: FeatureSet, name: str, sampling: str | None, trial: int, permutation: dict | None
) -> tuple[Rows, Rows]:
    """Query and gallery rows of a trial, chosen with plain loops over the paths."""
    if name.startswith("sysu"):
        query = _sorted_rows(data, [3, 6], None)
        cameras = [1, 2] if "indoor" in name else [1, 2, 4, 5]
        pool = _sorted_rows(data, cameras, None)
        shots = 10 if name.endswith("multi") else 1
        if sampling == "official":
            return query, _official(data, pool, permutation, trial, shots)
        return query, _seeded(data, pool, trial)
    query_modality = 0 if name in ("regdb-v2t", "llcm-v2n", "any-v2i") else 1
    query = _sorted_rows(data, None, query_modality)
    gallery = _sorted_rows(data, None, 1 - query_modality)
    if name == "llcm-v2n-swapped":
        return _seeded(data, query, trial), gallery
    return query, _seeded(data, gallery, trial) if sampling else gallery


def _cmc_20(counted: np.ndarray) -> np.ndarray:
    cmc = np.minimum(np.cumsum(counted), 1)[:20].astype(np.float64)
    return np.concatenate([cmc, np.full(20 - len(cmc), cmc[-1])])


def _sorted_rows(data: FeatureSet, cameras: list[int] | None, modality: int | None) -> Rows:
    rows = [
        row
        for row in range(len(data))
        if (cameras is None or data.camids[row] in cameras)
        and (modality is None or data.modalities[row] == modality)
    ]
    return sorted(rows, key=lambda row: (data.pids[row], data.camids[row], data.paths[row]))


def _groups(data: FeatureSet, rows: Rows) -> dict[tuple[int, int], Rows]:
    groups = defaultdict(list)
    for row in rows:
        groups[int(data.pids[row]), int(data.camids[row])].append(row)
    return groups


def _seeded(data: FeatureSet, rows: Rows, trial: int) -> Rows:
    state = random.getstate()
    random.seed(trial)
    chosen = [random.choice(group) for group in _groups(data, rows).values()]
    random.setstate(state)
    return chosen


def _official(data: FeatureSet, rows: Rows, permutation: dict, trial: int, shots: int) -> Rows:
    chosen = []
    for key, group in _groups(data, rows).items():
        chosen += sorted(group[index] for index in permutation[key][trial][:shots])
    return chosen
