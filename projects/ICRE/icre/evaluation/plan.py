"""A protocol made concrete on one data set: the rows that ask and answer in each trial."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from icre.datasets.protocol import OFFICIAL, Protocol, find, settings, side_rows
from icre.evaluation import draws
from icre.evaluation.features import FeatureSet
from icre.evaluation.matlab import Permutation, read_permutation
from icre.utils.errors import UserError


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

    def sides(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Per trial the rows that ask and the rows that answer."""
        if self.asked is None:
            return [(self.query, gallery) for gallery in self.galleries]
        return [(self.query[places], self.galleries[0]) for places in self.asked]


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


def prepare(
    features: FeatureSet,
    protocols: Sequence[str] | None = None,
    draw: str | None = None,
    perm: str | Path | Permutation | None = None,
) -> tuple[FeatureSet, list[Setting]]:
    """Order the rows and make the settings to score; arguments and errors are those of `score`."""
    pairs = settings(features.layout, protocols, draw, perm is not None)
    permutation = read_permutation(perm) if isinstance(perm, (str, Path)) else perm
    data = features.ordered()
    if any(kind == OFFICIAL for _, kind in pairs):
        draws.check_fit(data, permutation)
    return data, [plan(data, name, kind, permutation) for name, kind in pairs]
