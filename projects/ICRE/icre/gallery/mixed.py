"""Searching a gallery of both modalities: one list, ranked by comparable similarities.

Each pair of modalities has a rising line from the cosine to the comparable similarity
(`icre.evaluation.calibration`), so the best images of either modality are those of the highest
cosine, and the best of all are among both.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from icre.evaluation.calibration import fit_pair
from icre.gallery.filters import Filter
from icre.gallery.table import ImageTable
from icre.modality import NAMES
from icre.utils.errors import UserError

# (Q, D) features, number of matches K, filter -> rows (Q, K), cosine similarities (Q, K)
Search = Callable[[np.ndarray, int, Filter | None], tuple[np.ndarray, np.ndarray]]
# name of the gallery images' modality -> scale and shift of their similarity to queries of one
# modality; None: cosines are compared as they are
Lines = Mapping[str, list[float]] | None


def learn_lines(
    people: ImageTable, features: np.ndarray, query: int, modalities: np.ndarray
) -> Lines:
    """How queries of one modality are compared with a gallery.

    Args:
        people: N images of people who are not in it.
        features: (N, D) their unit vectors.
        query: the queries' modality.
        modalities: those of the gallery's images.

    Returns:
        None where the gallery holds one modality, or these people do not say enough.
    """
    if len(modalities) < len(NAMES):
        return None
    pids, cameras = (
        np.unique(column, return_inverse=True)[1] for column in (people.identities, people.cameras)
    )
    unit = features.astype(np.float64)
    try:
        return {
            name: list(fit_pair(unit, pids, cameras, people.modalities, query, gallery))
            for gallery, name in enumerate(NAMES)
        }
    except UserError:
        return None


def comparable(cosine: np.ndarray, lines: Lines, modality: int) -> np.ndarray:
    """Comparable similarities of cosines to gallery images of one modality."""
    if lines is None:
        return cosine
    scale, shift = lines[NAMES[modality]]
    return scale * cosine.astype(np.float64) + shift


def nearest(
    search: Search, lines: Lines, queries: np.ndarray, top: int, filter: Filter | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The best matches of queries of one modality.

    Args:
        search: of the gallery.
        lines: of the queries' modality.
        queries: (Q, D) unit vectors.
        top: results per query.
        filter: of the images.

    Returns:
        rows, cosine similarities and comparable similarities, (Q, K) each, the most comparable
        first; what an approximate index did not find is -1, -inf and -inf.
    """
    if lines is None:
        rows, cosine = search(queries, top, filter)
        return rows, cosine, cosine
    filter = filter or Filter()
    wanted = [name for name in NAMES if not filter.modality or name in filter.modality]
    found = [search(queries, top, replace(filter, modality=(name,))) for name in wanted]
    scores = [
        comparable(cosine, lines, NAMES.index(name)) for name, (_, cosine) in zip(wanted, found)
    ]
    rows, cosine, score = (
        np.concatenate(parts, axis=1) for parts in (*map(list, zip(*found)), scores)
    )
    order = np.argsort(-score, axis=1, kind="stable")[:, :top]
    return tuple(np.take_along_axis(one, order, 1) for one in (rows, cosine, score))
