"""The decision threshold of a gallery, from searches for people who are not in it.

`--far` is a rate of searches, not of comparisons (see `icre.evaluation.openset`), and how often a
stranger resembles somebody depends on who and how many are in the gallery. So nothing is
extrapolated: people who are not in the gallery are searched for in this very gallery, with its own
index, and the best match of each search is an impostor score. The similarity to their images in
other cameras says how well they would have been found.

In a gallery of both modalities the same people say how similarities within a modality compare with
those across (`icre.gallery.mixed`), and all scores here are of comparable similarities.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, PositiveInt

from icre.evaluation.openset import Scores, threshold_at
from icre.gallery.mixed import Lines, Search, comparable, learn_lines, nearest
from icre.gallery.table import Images, ImageTable
from icre.modality import NAMES
from icre.utils.errors import UserError
from icre.utils.schema import Closed, parse

SAME_PERSON = (
    "the same number in the same layout counts as the same person; a .csv with the "
    "columns path and identity can name people otherwise"
)


@dataclass(frozen=True)
class Calibration:
    """Scores of searches with queries of one modality, in one gallery.

    Args:
        impostor: per search for a person who is not in the gallery, the best similarity.
        genuine: per search for a person with images in other cameras, the similarity of the
            nearest of these, in a modality that the gallery holds.
        beaten: per genuine score, whether the same query's impostor score is at least as high.
        people: number of people searched for. Searches for one person are correlated, so the
            uncertainty of the threshold follows from this number, not from that of searches.
        source: where the people come from.
        held_out: whether the model was trained without them. If not, their scores are not those of
            strangers, and the stated rate may be wrong in either direction (demo model: 1 %
            stated, 0.1 % true for infrared queries).
        lines: how similarities to either modality compare; None: as they are. The gallery holds
            one modality, or the people were too few, or not in two cameras in each.
    """

    impostor: list[float]
    genuine: list[float]
    beaten: list[bool]
    people: int
    source: str
    held_out: bool
    lines: Lines = None

    def threshold(self, far: float) -> float:
        """Similarity above which a match is accepted, at a false alarm rate per search.

        Raises:
            UserError: there were too few searches for so low a rate.
        """
        found = threshold_at(np.array(self.impostor), far)
        if found is None:
            raise UserError(
                f"--far {far:g}: the gallery was calibrated by {len(self.impostor)} searches, "
                f"which can state {1 / (len(self.impostor) + 1):.2g} at the lowest"
            )
        return found

    def tar(self, threshold: float) -> float | None:
        """Share of searches for people who are in the gallery that find them, 0 to 1."""
        beaten = np.array(self.beaten, dtype=bool)
        return Scores(np.array(self.genuine), np.array(self.impostor), beaten).tar(threshold)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: dict[str, Any], where: str = "it") -> Self:
        """The inverse of `as_dict`; messages begin with `where`.

        Raises:
            UserError: names a field that is missing, unknown or of another type.
        """
        read = parse(_Stored, stored, where)
        if len(read.genuine) != len(read.beaten):
            raise UserError(f"{where} has a wrong beaten: one entry per genuine score is needed")
        if read.lines is None:
            for name in ("impostor", "genuine"):
                if any(abs(score) > _COSINE for score in getattr(read, name)):
                    raise UserError(f"{where} has a wrong {name}: a cosine lies in -1 to 1")
        elif any(scale <= 0 for scale, _ in read.lines.values()):
            raise UserError(f"{where} has a wrong lines: a scale is above 0")
        return cls(**read.model_dump())


_COSINE = 1.01  # with rounding
_Score = Annotated[float, Field(allow_inf_nan=False)]
_Line = Annotated[list[_Score], Field(min_length=2, max_length=2)]  # scale, shift


class _Stored(Closed):
    """A calibration in a manifest."""

    impostor: Annotated[list[_Score], Field(min_length=1)]
    genuine: list[_Score]
    beaten: list[bool]
    people: PositiveInt
    source: str
    held_out: bool
    lines: dict[Literal[NAMES], _Line] | None = Field(None, min_length=2)


def calibrate(
    gallery: Images,
    search: Search,
    people: ImageTable,
    features: np.ndarray,
    source: str,
    held_out: bool,
) -> dict[str, Calibration]:
    """Search a gallery for people who are not in it.

    Args:
        gallery: its images.
        search: finds the nearest of them, of a modality or of both; see `Gallery.nearest`.
        people: N images of known people; those who have an image in the gallery are left out.
        features: (N, D) their unit vectors.
        source, held_out: see `Calibration`.

    Returns:
        Name of the queries' modality -> Calibration.

    Raises:
        UserError: an identity is unknown, or everybody is in the gallery.
    """
    if not len(gallery):
        raise UserError("the gallery is empty: add images before it is calibrated")
    unknown = [path for path, name in zip(people.paths, people.identities) if not name]
    if unknown:
        raise UserError(
            f"{unknown[0]}: calibration needs to know who that is: use images in the "
            "layout of a published set, or a .csv with the columns path and identity"
        )
    known = set(shared_people(gallery, people))
    rows = [row for row, name in enumerate(people.identities) if name not in known]
    if not rows:
        raise UserError(
            f"all people of {source} are in the gallery: calibration needs people who are not "
            f"({SAME_PERSON})"
        )
    people, features = people.take(rows), features[rows]
    modalities, result = np.unique(gallery.modalities), {}
    for number, name in enumerate(NAMES):
        queries = np.flatnonzero(people.modalities == number)
        if not len(queries):
            continue
        lines = learn_lines(people, features, number, modalities)
        lowest = min(float(comparable(np.array(-1.0), lines, one)) for one in modalities)
        best = nearest(search, lines, features[queries], 1)[2][:, 0].astype(np.float64)
        impostor = np.maximum(best, lowest)  # an approximate index may find nothing
        genuine = _genuine_scores(people, features, queries, modalities, lines)
        mated = np.isfinite(genuine)
        result[name] = Calibration(
            impostor.tolist(),
            genuine[mated].tolist(),
            (impostor >= genuine)[mated].tolist(),
            len({people.identities[row] for row in queries}),
            source,
            held_out,
            lines,
        )
    return result


def shared_people(gallery: Images, people: ImageTable) -> Sequence[str]:
    """Identities that are in the gallery too, which `calibrate` leaves out."""
    return sorted(set(people.identities) & gallery.names("identity", people.identities))


def _genuine_scores(
    people: ImageTable,
    features: np.ndarray,
    queries: np.ndarray,
    modalities: np.ndarray,
    lines: Lines,
) -> np.ndarray:
    """(Q,) best similarity of the query rows to their person in other cameras; -inf if none."""
    names, cameras = np.array(people.identities), np.array(people.cameras)
    result = np.full(len(queries), -np.inf)
    for name in np.unique(names[queries]):
        places = np.flatnonzero(names[queries] == name)
        asking = queries[places]
        for modality in modalities:
            rows = np.flatnonzero((names == name) & (people.modalities == modality))
            cosine = (features[asking] @ features[rows].T).astype(np.float64)
            allowed = cameras[asking][:, None] != cameras[rows]
            score = np.where(allowed, comparable(cosine, lines, modality), -np.inf)
            result[places] = np.maximum(result[places], score.max(1, initial=-np.inf))
    return result
