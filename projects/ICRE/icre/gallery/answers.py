"""What a gallery answers to query images: ranked matches, and whether the person is there."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from tabulate import tabulate

from icre.evaluation.openset import check_far
from icre.evaluation.rerank import rerank
from icre.gallery.images import ImageTable
from icre.gallery.store import Gallery
from icre.modality import NAMES
from icre.utils.errors import UserError

DEFAULT_FAR = 0.01
SHORTLIST = 1000  # nearest images that are re-ranked


@dataclass(frozen=True)
class Match:
    """One image that was found.

    Args:
        rank: from 1.
        path, modality, camera, identity: of the image, texts ("" where not known).
        similarity: cosine similarity to the query, -1 to 1.
        distance: what the ranking goes by: 1 - similarity, or the re-ranked distance.
        accepted: similarity above the threshold; None where there is no threshold.
        right: same identity as the query; None where either is not known.
    """

    rank: int
    path: str
    modality: str
    camera: str
    identity: str
    similarity: float
    distance: float
    accepted: bool | None
    right: bool | None


@dataclass(frozen=True)
class Answer:
    """The answer to one query.

    Args:
        query: {path, modality, camera, identity}.
        matches: best first.
        here: whether any image of the gallery is accepted; None: the gallery is not calibrated for
            queries of this modality. Re-ranking does not change it: it goes by the similarity.
        best: the highest similarity in the gallery.
        threshold, far: similarity that is accepted, and the false alarm rate per search that it
            stands for; None as `here`.
        held_out: whether the calibration's people were unknown to the model; None as `here`.
        rerank: name of the algorithm, or None.
    """

    query: dict[str, str]
    matches: list[Match]
    here: bool | None
    best: float
    threshold: float | None
    far: float | None
    held_out: bool | None
    rerank: str | None

    @property
    def verdict(self) -> str:
        """The answer: here, not here, or not known."""
        return {True: "here", False: "not here", None: "not known whether here"}[self.here]

    @property
    def reason(self) -> str:
        """Why, in one line."""
        if self.here is None:
            return f"best similarity {self.best:.3f}; no calibration for queries of this modality"
        side = "above" if self.here else "not above"
        doubt = "" if self.held_out else ", not assured: calibrated on people of the training"
        return (
            f"best similarity {self.best:.3f}, {side} {self.threshold:.3f} (false alarms: "
            f"{100 * self.far:g} % of searches{doubt})"
        )


def answer(
    gallery: Gallery,
    queries: ImageTable,
    features: np.ndarray,
    top: int = 10,
    far: float | None = None,
    algorithm: str | None = None,
) -> list[Answer]:
    """Answer every query, each by itself.

    Args:
        gallery: an opened gallery; an image of it that is the query's own file is passed over.
        queries: N images.
        features: (N, D) their unit vectors.
        top: matches per query.
        far: false alarm rate per search; None: `DEFAULT_FAR` where the gallery is calibrated for
            the query's modality, else no verdict.
        algorithm: re-rank by it: the query with its `SHORTLIST` nearest images (the whole gallery
            where that is smaller), so an answer does not depend on the other queries.

    Raises:
        UserError: `top` below 1, a FAR that cannot be stated, or no calibration for it.
    """
    if top < 1:
        raise UserError(f"--top {top}: at least 1 match has to be shown")
    thresholds = {
        name: _threshold(gallery, name, far)
        for name in {NAMES[number] for number in queries.modalities}
    }
    wanted = max(top, SHORTLIST if algorithm else 0) + 1  # one may be the query itself
    rows, similarity = gallery.nearest(features, wanted)
    result = []
    for place in range(len(queries)):
        query = queries.row(place)
        keep = np.array(
            [row >= 0 and gallery.images.paths[row] != query["path"] for row in rows[place]]
        )
        found = rows[place][keep], similarity[place][keep]
        result.append(
            _answer(
                gallery,
                query,
                features[place],
                *found,
                top,
                thresholds[query["modality"]],
                far or DEFAULT_FAR,
                algorithm,
            )
        )
    return result


def _threshold(gallery: Gallery, modality: str, far: float | None) -> float | None:
    if far is not None:
        check_far(far)
    if modality in gallery.calibrations:
        return gallery.calibrations[modality].threshold(far or DEFAULT_FAR)
    if far is not None:
        raise UserError(
            f"--far: gallery {gallery.folder} is not calibrated for {modality} "
            "queries: run tools/search.py calibrate first"
        )
    return None


def _answer(
    gallery: Gallery,
    query: dict[str, str],
    feature: np.ndarray,
    rows: np.ndarray,
    similarity: np.ndarray,
    top: int,
    threshold: float | None,
    far: float,
    algorithm: str | None,
) -> Answer:
    best = float(similarity.max(initial=-1.0))
    distance = 1 - similarity
    if algorithm and len(rows):
        near = np.ascontiguousarray(gallery.features[rows])
        distance = rerank(feature[None], near, algorithm=algorithm)[0]
        order = np.argsort(distance, kind="stable")
        rows, similarity, distance = rows[order], similarity[order], distance[order]
    matches = [
        _match(gallery, query, rank, *found, threshold)
        for rank, found in enumerate(zip(rows[:top], similarity[:top], distance[:top]), start=1)
    ]
    if threshold is None:
        return Answer(query, matches, None, best, None, None, None, algorithm)
    held_out = gallery.calibrations[query["modality"]].held_out
    return Answer(query, matches, best > threshold, best, threshold, far, held_out, algorithm)


def _match(
    gallery: Gallery,
    query: dict[str, str],
    rank: int,
    row: int,
    similarity: float,
    distance: float,
    threshold: float | None,
) -> Match:
    image = gallery.images.row(row)
    known = query["identity"] and image["identity"]
    return Match(
        rank=rank,
        **image,
        similarity=float(similarity),
        distance=float(distance),
        accepted=None if threshold is None else bool(similarity > threshold),
        right=query["identity"] == image["identity"] if known else None,
    )


def as_json(answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """Plain values of the fields of `Answer` and `Match`."""
    return [asdict(one) for one in answers]


def table(one: Answer) -> str:
    """An answer for a terminal."""
    rows = [
        {
            "rank": match.rank,
            "distance": f"{match.distance:.3f}",
            "similarity": f"{match.similarity:.3f}",
            "modality": match.modality,
            "camera": match.camera or "-",
            "identity": match.identity or "-",
            "path": match.path,
        }
        for match in one.matches
    ]
    who = ", ".join(filter(None, (one.query["modality"], one.query["identity"])))
    return f"{one.query['path']} ({who})\n{one.verdict.upper()}: {one.reason}\n" + tabulate(
        rows, headers="keys", tablefmt="github", disable_numparse=True
    )
