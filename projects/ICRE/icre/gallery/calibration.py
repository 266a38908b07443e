"""The decision threshold of a gallery, from searches for people who are not in it.

`--far` is a rate of searches, not of comparisons (see `icre.evaluation.openset`), and how often a
stranger resembles somebody depends on who and how many are in the gallery. So nothing is
extrapolated: people who are not in the gallery are searched for in this very gallery, with its own
index, and the best match of each search is an impostor score. The similarity to their images in
other cameras says how well they would have been found.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field, PositiveInt

from icre.evaluation.openset import Scores, threshold_at
from icre.gallery.segments import StoredImages
from icre.gallery.table import ImageTable
from icre.modality import NAMES
from icre.utils.errors import UserError
from icre.utils.schema import Closed, parse

SAME_PERSON = (
    "the same number in the same layout counts as the same person; a .csv with the "
    "columns path and identity can name people otherwise"
)
# features (Q, D), number of matches K -> rows (Q, K), similarities (Q, K)
Search = Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]


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
    """

    impostor: list[float]
    genuine: list[float]
    beaten: list[bool]
    people: int
    source: str
    held_out: bool

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
        return cls(**read.model_dump())


_Score = Annotated[float, Field(ge=-1.01, le=1.01)]  # a cosine


class _Stored(Closed):
    """A calibration in a manifest."""

    impostor: Annotated[list[_Score], Field(min_length=1)]
    genuine: list[_Score]
    beaten: list[bool]
    people: PositiveInt
    source: str
    held_out: bool


def calibrate(
    gallery: StoredImages,
    search: Search,
    people: ImageTable,
    features: np.ndarray,
    source: str,
    held_out: bool,
) -> dict[str, Calibration]:
    """Search a gallery for people who are not in it.

    Args:
        gallery: its images.
        search: finds the nearest of them, see `index.nearest`.
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
    impostor = np.maximum(search(features, 1)[1][:, 0].astype(np.float64), -1.0)
    genuine = _genuine_scores(people, features, np.unique(gallery.modalities))
    result = {}
    for number, name in enumerate(NAMES):
        queries = people.modalities == number
        mated = queries & np.isfinite(genuine)
        if queries.any():
            result[name] = Calibration(
                impostor[queries].tolist(),
                genuine[mated].tolist(),
                (impostor >= genuine)[mated].tolist(),
                len({people.identities[row] for row in np.flatnonzero(queries)}),
                source,
                held_out,
            )
    return result


def shared_people(gallery: StoredImages, people: ImageTable) -> Sequence[str]:
    """Identities that are in the gallery too, which `calibrate` leaves out."""
    return sorted(set(people.identities) & gallery.names("identity"))


def _genuine_scores(people: ImageTable, features: np.ndarray, modalities: np.ndarray) -> np.ndarray:
    """(N,) best similarity to images of the same person in other cameras; -inf if none."""
    names, cameras = np.array(people.identities), np.array(people.cameras)
    result = np.full(len(people), -np.inf)
    for name in np.unique(names):
        rows = np.flatnonzero(names == name)
        similarity = (features[rows] @ features[rows].T).astype(np.float64)
        allowed = cameras[rows][:, None] != cameras[rows]
        allowed &= np.isin(people.modalities[rows], modalities)
        result[rows] = np.where(allowed, similarity, -np.inf).max(1)
    return result
