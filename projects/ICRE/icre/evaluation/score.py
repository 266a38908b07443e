"""Features to result records: all settings of a data set in one pass over the queries."""

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
from tqdm import tqdm

from icre.datasets.protocol import CAMERA_RULES
from icre.evaluation import rank
from icre.evaluation.features import FeatureSet
from icre.evaluation.matlab import Permutation
from icre.evaluation.plan import Setting, prepare
from icre.evaluation.records import record
from icre.evaluation.reranked import Reranker, reranked_values
from icre.utils.errors import UserError

# Query-gallery pairs held at once, and threads that each hold so many. A CPU's block is some tens
# of megabytes, near to its caches; an accelerator wants few large ones.
_BLOCKS = {"cpu": (2**20, min(8, os.cpu_count() or 1)), "other": (2**25, 1)}


def trial_values(
    data: FeatureSet, chosen: list[Setting], device: str | torch.device = "cpu"
) -> list[list[rank.QueryValues]]:
    """Per setting and trial what each query that asks scored, (asking queries,) CPU tensors.

    Settings with the same queries share their similarities and the keys made of them. Similarity
    is the cosine in float64; ties rank in the order of the rows.
    """
    values: list[list[rank.QueryValues]] = []
    with _one_thread():
        for _, group in groupby(chosen, key=lambda one: (one.protocol.query, one.protocol.barred)):
            values += _group_values(data, list(group), torch.device(device))
    return values


def score(
    features: FeatureSet,
    protocols: Sequence[str] | None = None,
    draw: str | None = None,
    perm: str | Path | Permutation | None = None,
    device: str | torch.device = "cpu",
    reranker: Reranker | None = None,
    **labels: Any,
) -> list[dict[str, Any]]:
    """Score features under test protocols.

    Args:
        features: a whole test set, rows in any order.
        protocols: names; None: those of the paths' data set (SYSU-MM01: four official settings if
            `perm` is given, and two seeded; RegDB: v2t, t2v; LLCM: v2n, n2v).
        draw: "official", "seeded" or None, see `protocol.settings`.
        perm: SYSU-MM01's rand_perm_cam.mat, or what `read_permutation` made of it.
        device: where to compute; the figures do not depend on it beyond rounding.
        reranker: score re-ranked distances too.
        labels: fields of the record that the caller knows: split, flip, seed, epoch.

    Returns:
        One record per setting, as `records.record` describes it; then, with a re-ranker, one more
        per setting, in whose field `rerank` its label stands.

    Raises:
        UserError: one line that says what does not fit.
    """
    data, chosen = prepare(features, protocols, draw, perm)
    results = trial_values(data, chosen, device)
    plain = [_record(data, one, values, labels) for one, values in zip(chosen, results)]
    if reranker is None:
        return plain
    labels = labels | {"rerank": reranker.label}
    bar = tqdm(chosen, "re-ranking", leave=False, disable=None)
    return plain + [
        _record(data, one, reranked_values(data, one, reranker, torch.device(device)), labels)
        for one in bar
    ]


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
    data: FeatureSet, setting: Setting, values: list[rank.QueryValues], labels: dict[str, Any]
) -> dict[str, Any]:
    try:
        trials = [rank.figures(one) for one in values]
    except UserError as error:
        raise UserError(f"{setting.name}: {error}") from None
    rows = np.concatenate([setting.query, *setting.galleries])
    return record(
        trials,
        setting.name,
        setting.draw,
        queries=len(values[0].place),
        valid_queries=int((values[0].place > 0).sum()),
        gallery=len(setting.galleries[0]),
        identities=len(np.unique(data.pids[rows])),
        **labels,
    )


def _group_values(
    data: FeatureSet, group: list[Setting], device: torch.device
) -> list[list[rank.QueryValues]]:
    """`trial_values` of settings that share their queries and camera rule."""
    pool = np.unique(np.concatenate([rows for one in group for rows in one.galleries]))
    columns = [
        [torch.from_numpy(np.searchsorted(pool, rows)).to(device) for rows in one.galleries]
        for one in group
    ]
    key_block = _key_maker(data, group[0].protocol.barred, pool, device)
    pids = torch.from_numpy(data.pids).to(device)
    pool_pids = pids[torch.from_numpy(pool).to(device)]

    def block_values(queries: Tensor) -> list[list[rank.QueryValues]]:
        keys = key_block(queries)
        # gather reads along the rows; index_select takes three times as long here.
        return [
            [
                rank.query_values(
                    keys.gather(1, gallery.expand(len(keys), -1)),
                    pids[queries],
                    pool_pids[gallery],
                    setting.protocol.dedup,
                )
                for gallery in galleries
            ]
            for setting, galleries in zip(group, columns)
        ]

    pairs, workers = _BLOCKS["cpu" if device.type == "cpu" else "other"]
    queries = torch.from_numpy(group[0].query).to(device).split(max(1, pairs // len(pool)))
    with ThreadPoolExecutor(workers) as executor:
        blocks = list(executor.map(block_values, queries))
    return [
        _per_trial(setting, [rank.concatenate(parts) for parts in zip(*of_setting)])
        for setting, of_setting in zip(group, zip(*blocks))
    ]


def _key_maker(
    data: FeatureSet, rule: str, pool: np.ndarray, device: torch.device
) -> Callable[[Tensor], Tensor]:
    """A function from the rows of some queries, (Q,), to their keys against the pool, (Q, P)."""
    features = torch.from_numpy(data.features).to(device, torch.float64)
    features = torch.nn.functional.normalize(features, dim=1)
    pids, camids = (torch.from_numpy(column).to(device) for column in (data.pids, data.camids))
    answers = torch.from_numpy(pool).to(device)
    gallery, pool_pids, pool_camids = features[answers], pids[answers], camids[answers]
    barred_by = CAMERA_RULES[rule]

    def key_block(queries: Tensor) -> Tensor:
        barred = barred_by and barred_by(pids[queries], camids[queries], pool_pids, pool_camids)
        return rank.order_keys(1 - features[queries] @ gallery.T, barred)

    return key_block


def _per_trial(setting: Setting, values: list[rank.QueryValues]) -> list[rank.QueryValues]:
    """One QueryValues per trial, of the queries that ask in it."""
    if setting.asked is None:
        return values
    return [values[0].take(torch.from_numpy(places)) for places in setting.asked]
