"""Answers to queries: ranked matches in a gallery, and whether the person is in it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from tabulate import tabulate

from icre.evaluation.openset import check_far
from icre.evaluation.rerank import rerank
from icre.gallery.backend import Gallery
from icre.gallery.filters import Filter
from icre.gallery.mixed import Lines, nearest
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
        distance: sorts the matches: 1 - similarity, or the negative comparable similarity, or the
            re-ranked distance.
        accepted: comparable similarity or similarity above the threshold; None without one.
        right: same identity as the query; None if either is unknown.
        comparable: similarity that compares images of both modalities (`icre.gallery.mixed`);
            None: the gallery is not calibrated for it.
        time: ISO 8601, UTC; "" if unknown.
        box: x, y, width, height in pixels of a crop; None: the whole image.
        attributes: name -> text.
        row: its number in the version of the gallery that was searched, or its key in a store;
            -1 if unknown.
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
    comparable: float | None = None
    time: str = ""
    box: tuple[int, int, int, int] | None = None
    attributes: dict[str, str] = field(default_factory=dict)
    row: int | str = -1


@dataclass(frozen=True)
class Answer:
    """The answer to one query.

    Args:
        query: {path, modality, camera, identity}, and what else is known, as `ImageTable.row`.
        matches: best first.
        here: whether any image of the gallery is accepted; None: the gallery is not calibrated for
            queries of this modality. Re-ranking does not change it: it depends on the similarity.
        best: the highest similarity in the gallery, the comparable one where there is one.
        threshold, far: such a similarity above which a match is accepted, and its false alarm rate
            per search; None as `here`.
        held_out: whether the model was trained without the calibration's people; None as `here`.
        rerank: name of the algorithm, or None.
        comparable: whether the images were compared by the comparable similarity.
    """

    query: dict[str, Any]
    matches: list[Match]
    here: bool | None
    best: float
    threshold: float | None
    far: float | None
    held_out: bool | None
    rerank: str | None
    comparable: bool = False

    @property
    def verdict(self) -> str:
        """`here` in words."""
        return {True: "here", False: "not here", None: "not known whether here"}[self.here]

    @property
    def reason(self) -> str:
        """Similarity and threshold behind the verdict, in one line."""
        what = "comparable similarity" if self.comparable else "similarity"
        if self.here is None:
            return f"best {what} {self.best:.3f}; no calibration for queries of this modality"
        side = "above" if self.here else "not above"
        doubt = "" if self.held_out else ", not assured: calibrated on people of the training"
        return (
            f"best {what} {self.best:.3f}, {side} {self.threshold:.3f} (false alarms: "
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
    lines = {name: _lines(gallery, name) for name in modalities}
    keys = queries.keys()
    answers = []
    for number, (rows, similarity, score) in enumerate(
        _found(gallery, queries, features, wanted, lines, filter)
    ):
        query = queries.row(number)
        there = similarity > -np.inf
        rows, similarity, score = rows[there], similarity[there], score[there]
        images = gallery.images.take(rows)
        found = images.keys()
        others = np.flatnonzero([key != keys[number] for key in found])
        rows, similarity, score = rows[others], similarity[others], score[others]
        compared = lines[query["modality"]] is not None
        best = float(score[0]) if len(score) else -1.0
        distance = -score if compared else 1 - similarity
        if algorithm and len(rows):
            near = np.ascontiguousarray(gallery.features[rows])
            distance = rerank(features[number][None], near, algorithm=algorithm)[0]
            order = np.argsort(distance, kind="stable")
            others, rows, similarity, score, distance = (
                one[order] for one in (others, rows, similarity, score, distance)
            )
        threshold = thresholds[query["modality"]]
        matches = [
            _match(query, rank, images.row(place) | {"row": row}, *scores, threshold, compared)
            for rank, (place, row, *scores) in enumerate(
                zip(others[:top], rows.tolist(), similarity, score, distance), start=1
            )
        ]
        answers.append(_answer(query, matches, best, threshold, algorithm, compared))
    return answers


def not_comparable(gallery: Gallery, queries: ImageTable) -> str | None:
    """A note where images of both modalities are compared by their plain similarities."""
    names = {NAMES[number] for number in queries.modalities}
    without = sorted(name for name in names if _lines(gallery, name) is None)
    if not without or len(gallery.modalities) < len(NAMES):
        return None
    return (
        f"note: the gallery holds both modalities, and similarities of {' and '.join(without)} "
        "queries within and across them are ranked as if they could be compared: run "
        "tools/search.py calibrate, with people who are in two cameras of each modality"
    )


def _lines(gallery: Gallery, modality: str) -> Lines:
    calibration = gallery.calibrations.get(modality)
    return calibration.lines if calibration else None


def _found(
    gallery: Gallery,
    queries: ImageTable,
    features: np.ndarray,
    wanted: int,
    lines: Mapping[str, Lines],
    filter: Filter | None,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Rows, cosines and comparable similarities for each query, in their order."""
    found = {}
    for name, of_name in lines.items():
        numbers = np.flatnonzero(queries.modalities == NAMES.index(name))
        columns = nearest(gallery.nearest, of_name, features[numbers], wanted, filter)
        found.update(zip(numbers.tolist(), zip(*columns)))
    return (found[number] for number in range(len(queries)))


def _threshold(gallery: Gallery, modality: str, far: float | None) -> _Threshold | None:
    if far is not None:
        check_far(far)
    calibration = gallery.calibrations.get(modality)
    if calibration:
        rate = far or DEFAULT_FAR
        return _Threshold(calibration.threshold(rate), rate, calibration.held_out)
    if far is not None:
        raise UserError(
            f"--far: gallery {gallery.name} is not calibrated for {modality} "
            "queries: run tools/search.py calibrate first"
        )
    return None


def _answer(
    query: dict[str, Any],
    matches: list[Match],
    best: float,
    threshold: _Threshold | None,
    algorithm: str | None,
    compared: bool,
) -> Answer:
    if threshold is None:
        return Answer(query, matches, None, best, None, None, None, algorithm, compared)
    here = bool(matches) and best > threshold.similarity
    return Answer(
        query,
        matches,
        here,
        best,
        threshold.similarity,
        threshold.far,
        threshold.held_out,
        algorithm,
        compared,
    )


def _match(
    query: dict[str, Any],
    rank: int,
    image: dict[str, Any],
    similarity: float,
    score: float,
    distance: float,
    threshold: _Threshold | None,
    compared: bool,
) -> Match:
    known = query["identity"] and image["identity"]
    return Match(
        rank=rank,
        **image,
        similarity=float(similarity),
        comparable=float(score) if compared else None,
        distance=float(distance),
        accepted=bool(score > threshold.similarity) if threshold else None,
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
            **({"comparable": f"{match.comparable:.2f}"} if one.comparable else {}),
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
