"""A protocol applied to a feature set: the query and gallery rows of each trial."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from icre.datasets.protocol import EXCLUSION_RULES, OFFICIAL, Protocol, find, settings
from icre.datasets.sysu import Permutation, read_permutation
from icre.evaluation import sampling
from icre.evaluation.features import FeatureSet
from icre.modality import NAMES
from icre.utils.errors import UserError


@dataclass(frozen=True)
class Trials:
    """A protocol applied to a feature set; all arrays are row indices of it.

    Args:
        name: of the protocol.
        draw: gallery sampling, None where every image takes part.
        protocol: that of the name.
        query: (Q,) every image that is a query in any trial.
        galleries: one ascending index array per trial, or a single one for all trials.
        query_subsets: per trial the places in `query` of its queries; None: all in every trial.
    """

    name: str
    draw: str | None
    protocol: Protocol
    query: np.ndarray
    galleries: list[np.ndarray]
    query_subsets: list[np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.query_subsets or self.galleries)

    def rows(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Per trial the query rows and the gallery rows."""
        if self.query_subsets is None:
            return [(self.query, gallery) for gallery in self.galleries]
        return [(self.query[places], self.galleries[0]) for places in self.query_subsets]

    def excluded(self, data: FeatureSet, query: np.ndarray, gallery: np.ndarray) -> np.ndarray:
        """(q, g) bool, True where the protocol excludes an image from a query's gallery."""
        excluded = exclusion_on(self.protocol, data, torch.device("cpu"))
        found = excluded(torch.from_numpy(query), torch.from_numpy(gallery))
        return np.zeros((len(query), len(gallery)), dtype=bool) if found is None else found.numpy()


def exclusion_on(
    protocol: Protocol, data: FeatureSet, device: torch.device
) -> Callable[[Tensor, Tensor], Tensor | None]:
    """(query rows, gallery rows) on `device` -> (q, g) bool there, or None without a rule."""
    rule = EXCLUSION_RULES[protocol.excluded]
    pids, camids, modalities = (
        torch.from_numpy(column).to(device) for column in (data.pids, data.camids, data.modalities)
    )

    def excluded(query: Tensor, gallery: Tensor) -> Tensor | None:
        one, other = (pids[query], camids[query]), (pids[gallery], camids[gallery])
        masks = [] if rule is None else [rule(*one, *other)]
        if protocol.mixed:
            same = pids[query][:, None] == pids[gallery]
            masks.append(same & (camids[query][:, None] == camids[gallery]))
            if rule is not None:
                masks.append(rule(*other, *one).T)
            if protocol.cross:
                masks.append(same & (modalities[query][:, None] == modalities[gallery]))
        return reduce(torch.logical_or, masks) if masks else None

    return excluded


def make_trials(
    data: FeatureSet, name: str, draw: str | None, permutation: Permutation | None = None
) -> Trials:
    """Apply one protocol with one gallery sampling.

    Args:
        data: in the order of `FeatureSet.ordered`.
        name, draw: as `icre.datasets.protocol.settings` returns them.
        permutation: for the official sampling.
    """
    protocol = find(name)
    query = protocol.query.rows(data.camids, data.modalities)
    gallery = protocol.gallery.rows(data.camids, data.modalities)
    for side, rows in (("query", query), ("gallery", gallery)):
        if not len(rows):
            raise UserError(f"{name}: the features hold no {side} image")
    if protocol.mixed:
        for number, modality in enumerate(NAMES):
            if number not in data.modalities:
                raise UserError(f"{name}: the features hold no {modality} image")
    if draw is None:
        return Trials(name, draw, protocol, query, [gallery])
    if draw == OFFICIAL:
        assert permutation is not None  # `settings` offers no official sampling without one
        samples = sampling.official(data, gallery, permutation, protocol.shots)
        return Trials(name, draw, protocol, query, samples)
    if protocol.sampled == "query":
        subsets = [np.searchsorted(query, rows) for rows in sampling.seeded(data, query)]
        return Trials(name, draw, protocol, query, [gallery], subsets)
    if protocol.mixed:
        single = protocol.shots is not None
        try:
            samples = sampling.mixed(data, gallery, single, protocol.infrared)
        except UserError as error:
            raise UserError(f"{name}: {error}") from None
        return Trials(name, draw, protocol, query, samples)
    return Trials(name, draw, protocol, query, sampling.seeded(data, gallery))


def build_trials(
    features: FeatureSet,
    protocols: Sequence[str] | None = None,
    draw: str | None = None,
    perm: str | Path | Permutation | None = None,
) -> tuple[FeatureSet, list[Trials]]:
    """Order the rows and apply each protocol; arguments and errors are those of `score`."""
    pairs = settings(features.layout, protocols, draw, perm is not None)
    permutation = read_permutation(perm) if isinstance(perm, (str, Path)) else perm
    data = features.ordered()
    if any(kind == OFFICIAL for _, kind in pairs):
        assert permutation is not None
        sampling.check_permutation(data, permutation)
    return data, [make_trials(data, name, kind, permutation) for name, kind in pairs]
