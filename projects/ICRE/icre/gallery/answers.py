"""Answers to queries: ranked matches in a gallery, and whether the person is in it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from tabulate import tabulate

from icre.evaluation.openset import check_far
from icre.evaluation.rerank import rerank
from icre.gallery.filters import Filter
from icre.gallery.store import Gallery
from icre.gallery.table import ImageTable
from icre.modality import NAMES
from icre.utils.errors import UserError, printable

DEFAULT_FAR = 0.01
SHORTLIST = 1000  # nearest images that are re-ranked


@dataclass(frozen=True)
class Match:
    """One gallery image that was found.

    Args:
        rank: from 1.
        path, modality, camera, identity: of the image, texts ("" if unknown).
        similarity: cosine similarity to the query, -1 to 1.
        distance: sorts the matches: 1 - similarity, or the re-ranked distance.
        accepted: similarity above the threshold; None without a threshold.
        right: same identity as the query; None if either is unknown.
        time: ISO 8601, UTC; "" if unknown.
        box: x, y, width, height in pixels of a crop; None: the whole image.
        attributes: name -> text.
        row: in the version of the gallery that was searched; -1 if unknown.
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
    time: str = ""
    box: tuple[int, int, int, int] | None = None
    attributes: dict[str, str] = field(default_factory=dict)
    row: int = -1


@dataclass(frozen=True)
class Answer:
    """The answer to one query.

    Args:
        query: {path, modality, camera, identity}, and what else is known, as `ImageTable.row`.
        matches: best first.
        here: whether any image of the gallery is accepted; None: the gallery is not calibrated for
            queries of this modality. Re-ranking does not change it: it depends on the similarity.
        best: the highest similarity in the gallery.
        threshold, far: similarity above which a match is accepted, and its false alarm rate per
            search; None as `here`.
        held_out: whether the model was trained without the calibration's people; None as `here`.
        rerank: name of the algorithm, or None.
    """

    query: dict[str, Any]
    matches: list[Match]
    here: bool | None
    best: float
    threshold: float | None
    far: float | None
    held_out: bool | None
    rerank: str | None

    @property
    def verdict(self) -> str:
        """`here` in words."""
        return {True: "here", False: "not here", None: "not known whether here"}[self.here]

    @property
    def reason(self) -> str:
        """Similarity and threshold behind the verdict, in one line."""
        if self.here is None:
            return f"best similarity {self.best:.3f}; no calibration for queries of this modality"
        side = "above" if self.here else "not above"
        doubt = "" if self.held_out else ", not assured: calibrated on people of the training"
        return (
            f"best similarity {self.best:.3f}, {side} {self.threshold:.3f} (false alarms: "
            f"{100 * self.far:g} % of searches{doubt})"
        )


@dataclass(frozen=True)
class _Threshold:
    similarity: float
    far: float
    held_out: bool


def answer(
    gallery: Gallery,
    queries: ImageTable,
    features: np.ndarray,
    top: int = 10,
    far: float | None = None,
    algorithm: str | None = None,
    filter: Filter | None = None,
) -> list[Answer]:
    """Answer queries, each independently of the others.

    Args:
        gallery: an opened gallery; of an image that is the query's own file, or its own box in
            that file, no match is made.
        queries: N images.
        features: (N, D) their unit vectors.
        top: matches per query.
        far: false alarm rate per search; None: `DEFAULT_FAR` if the gallery is calibrated for the
            query's modality, else no verdict.
        algorithm: re-ranking, of each query with its `SHORTLIST` nearest images.
        filter: only images that meet it are searched.

    Raises:
        UserError: a filter that no image can meet, `top` below 1, or a FAR without a calibration
            that can state it.
    """
    if top < 1:
        raise UserError(f"--top {top}: at least 1 match has to be shown")
    modalities = {NAMES[number] for number in queries.modalities}
    thresholds = {name: _threshold(gallery, name, far) for name in modalities}
    wanted = max(top, SHORTLIST if algorithm else 0) + 1  # one may be the query itself
    found = gallery.nearest(features, wanted, filter)
    keys = queries.keys()
    answers = []
    for number, (rows, similarity) in enumerate(zip(*found)):
        query = queries.row(number)
        others = [row >= 0 and gallery.images.key(row) != keys[number] for row in rows]
        rows, similarity = rows[others], similarity[others]
        best = float(similarity.max(initial=-1.0))
        distance = 1 - similarity
        if algorithm and len(rows):
            near = np.ascontiguousarray(gallery.features[rows])
            distance = rerank(features[number][None], near, algorithm=algorithm)[0]
            order = np.argsort(distance, kind="stable")
            rows, similarity, distance = rows[order], similarity[order], distance[order]
        threshold = thresholds[query["modality"]]
        matches = [
            _match(query, rank, gallery.images.row(row) | {"row": int(row)}, *scores, threshold)
            for rank, (row, *scores) in enumerate(
                zip(rows[:top], similarity[:top], distance[:top]), start=1
            )
        ]
        answers.append(_answer(query, matches, best, threshold, algorithm))
    return answers


def _threshold(gallery: Gallery, modality: str, far: float | None) -> _Threshold | None:
    if far is not None:
        check_far(far)
    calibration = gallery.calibrations.get(modality)
    if calibration:
        rate = far or DEFAULT_FAR
        return _Threshold(calibration.threshold(rate), rate, calibration.held_out)
    if far is not None:
        raise UserError(
            f"--far: gallery {gallery.folder} is not calibrated for {modality} "
            "queries: run tools/search.py calibrate first"
        )
    return None


def _answer(
    query: dict[str, Any],
    matches: list[Match],
    best: float,
    threshold: _Threshold | None,
    algorithm: str | None,
) -> Answer:
    if threshold is None:
        return Answer(query, matches, None, best, None, None, None, algorithm)
    here = best > threshold.similarity
    return Answer(
        query,
        matches,
        here,
        best,
        threshold.similarity,
        threshold.far,
        threshold.held_out,
        algorithm,
    )


def _match(
    query: dict[str, Any],
    rank: int,
    image: dict[str, Any],
    similarity: float,
    distance: float,
    threshold: _Threshold | None,
) -> Match:
    known = query["identity"] and image["identity"]
    return Match(
        rank=rank,
        **image,
        similarity=float(similarity),
        distance=float(distance),
        accepted=bool(similarity > threshold.similarity) if threshold else None,
        right=query["identity"] == image["identity"] if known else None,
    )


def as_json(answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """The fields of `Answer` and `Match` as plain values."""
    return [asdict(one) for one in answers]


def text(one: Answer) -> str:
    """An answer as text for a terminal."""
    timed = any(match.time for match in one.matches)
    boxed = any(match.box for match in one.matches)
    rows = [
        {
            "rank": match.rank,
            "distance": f"{match.distance:.3f}",
            "similarity": f"{match.similarity:.3f}",
            "modality": match.modality,
            "camera": printable(match.camera) or "-",
            "identity": printable(match.identity) or "-",
            **({"time": match.time or "-"} if timed else {}),
            "path": printable(match.path),
            **({"box": ",".join(map(str, match.box or ())) or "-"} if boxed else {}),
        }
        for match in one.matches
    ]
    who = ", ".join(filter(None, (one.query["modality"], printable(one.query["identity"]))))
    return (
        f"{printable(one.query['path'])} ({who})\n{one.verdict.upper()}: {one.reason}\n"
        + tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True)
    )
