"""Features to result records: all settings of a data set in one pass over the queries."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from icre.errors import UserError
from icre.evaluation import draws, rank
from icre.evaluation.features import FeatureSet
from icre.evaluation.matlab import Permutation, read_permutation
from icre.evaluation.protocol import CAMERA_RULES, OFFICIAL, Protocol, find, settings, side_rows
from icre.evaluation.records import record

# Query-gallery pairs held at once: some tens of megabytes, and on a CPU near to its caches.
_BLOCK_PAIRS = {"cpu": 2**20, "cuda": 2**25}


@dataclass(frozen=True)
class Setting:
    """A protocol made concrete on one data set; all arrays are row indices of it.

    Args:
        query: (Q,) every image that asks in any trial.
        galleries: one ascending index array per trial, or a single one for all trials.
        asked: per trial the places in `query` that ask; None: every query in every trial.
    """

    name: str
    draw: str | None
    protocol: Protocol
    query: np.ndarray
    galleries: list[np.ndarray]
    asked: list[np.ndarray] | None = None

    @property
    def trials(self) -> int:
        """Number of trials."""
        return len(self.asked or self.galleries)


def plan(
    data: FeatureSet, name: str, draw: str | None, permutation: Permutation | None = None
) -> Setting:
    """Say for each trial who asks and who answers.

    Args:
        data: in the order of `FeatureSet.ordered`.
        name, draw: as `settings` returns them.
        permutation: what `official` draws from.
    """
    protocol = find(name)
    query = side_rows(protocol.query, data.camids, data.modalities)
    gallery = side_rows(protocol.gallery, data.camids, data.modalities)
    for side, rows in (("query", query), ("gallery", gallery)):
        if not len(rows):
            raise UserError(f"{name}: the features hold no {side} image")
    if draw is None:
        return Setting(name, draw, protocol, query, [gallery])
    if draw == OFFICIAL:
        drawn = draws.official(data, gallery, permutation, protocol.shots)
        return Setting(name, draw, protocol, query, drawn)
    if protocol.sampled == "query":
        asked = [np.searchsorted(query, rows) for rows in draws.seeded(data, query)]
        return Setting(name, draw, protocol, query, [gallery], asked)
    return Setting(name, draw, protocol, query, draws.seeded(data, gallery))


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
    protocols: list[str] | None = None,
    draw: str | None = None,
    perm: str | Path | Permutation | None = None,
    device: str | torch.device = "cpu",
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
        labels: fields of the record that the caller knows: split, flip, seed, epoch, rerank.

    Returns:
        One record per setting, as `records.record` describes it.

    Raises:
        UserError: one line that says what does not fit.
    """
    names = [protocols] if isinstance(protocols, str) else protocols
    pairs = settings(features.layout, names, draw, perm is not None)
    permutation = read_permutation(perm) if isinstance(perm, (str, Path)) else perm
    data = features.ordered()
    if any(kind == OFFICIAL for _, kind in pairs):
        draws.check_fit(data, permutation)
    chosen = [plan(data, name, kind, permutation) for name, kind in pairs]
    results = trial_values(data, chosen, device)
    return [_record(data, one, values, labels) for one, values in zip(chosen, results)]


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep torch to one CPU thread.

    The work is thousands of short operations: two threads gain nothing on a quiet machine, and
    where other processes hold the second core their waiting for each other costs tenfold.
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
        trials, setting.name, setting.draw,
        queries=len(values[0].place), valid_queries=int((values[0].place > 0).sum()),
        gallery=len(setting.galleries[0]), identities=len(np.unique(data.pids[rows])), **labels,
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
    pids = torch.from_numpy(data.pids[pool]).to(device)
    blocks: list[list[list[rank.QueryValues]]] = [[[] for _ in each] for each in columns]
    for query_pids, keys in _key_blocks(data, group[0], pool, device):
        for setting, galleries, parts in zip(group, columns, blocks):
            for gallery, part in zip(galleries, parts):
                part.append(rank.query_values(
                    keys.index_select(1, gallery), query_pids, pids[gallery], setting.protocol.dedup
                ))
    return [
        _per_trial(setting, [rank.concatenate(part) for part in parts])
        for setting, parts in zip(group, blocks)
    ]


def _key_blocks(
    data: FeatureSet, setting: Setting, pool: np.ndarray, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (query pids, keys against the pool), some queries at a time."""
    features = torch.from_numpy(data.features).to(device, torch.float64)
    features = torch.nn.functional.normalize(features, dim=1)
    gallery = features[torch.from_numpy(pool).to(device)]
    pids, camids = (torch.from_numpy(column).to(device) for column in (data.pids, data.camids))
    rule = CAMERA_RULES[setting.protocol.barred]
    step = max(1, _BLOCK_PAIRS.get(device.type, 2**20) // len(pool))
    answers = torch.from_numpy(pool).to(device)
    for block in torch.from_numpy(setting.query).to(device).split(step):
        barred = rule and rule(pids[block], camids[block], pids[answers], camids[answers])
        yield pids[block], rank.order_keys(1 - features[block] @ gallery.T, barred)


def _per_trial(setting: Setting, values: list[rank.QueryValues]) -> list[rank.QueryValues]:
    """One QueryValues per trial, of the queries that ask in it."""
    if setting.asked is None:
        return values
    return [values[0].take(torch.from_numpy(places)) for places in setting.asked]
