"""The threshold of one gallery: from searches in it for people who are not in it.

`--far` speaks of searches, not of comparisons (see `icre.evaluation.openset`), and how often a
stranger resembles somebody depends on who and how many are in the gallery. So nothing is
extrapolated: held-out people, who are not in the gallery, are looked for in this very gallery,
with its own index, and the best match of each such search is an impostor score. Their images in
other cameras say how well they would have been found.
"""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from icre.evaluation.openset import Scores, threshold_at
from icre.gallery.images import ImageTable
from icre.modality import NAMES
from icre.utils.errors import UserError

if TYPE_CHECKING:
    from icre.gallery.store import Gallery

SAME_NAME = (
    "the same number in the same layout counts as the same person; a .csv with the "
    "columns path and identity can name people otherwise"
)


@dataclass(frozen=True)
class Calibration:
    """What searches of one modality score in one gallery.

    Args:
        impostor: per search for a person who is not there, the best similarity.
        genuine: per search of a person with images elsewhere, the similarity of the nearest image
            of that person in another camera and in a modality that the gallery holds.
        beaten: whether that person's impostor score is above it.
        people: number of people searched for; searches of one person resemble each other, so the
            threshold is as sure as this number, not as the number of searches, says.
        source: where the people come from.
        held_out: whether the model was trained without them. Where it was not, their scores are
            not those of strangers and the stated rate may be wrong either way (demo model: 1 %
            stated, 0.1 % true for infrared queries).
    """

    impostor: list[float]
    genuine: list[float]
    beaten: list[bool]
    people: int
    source: str
    held_out: bool

    def threshold(self, far: float) -> float:
        """Similarity above which a match is accepted: `threshold_at` of the impostor searches.

        Raises:
            UserError: there were too few searches to state so low a rate.
        """
        found = threshold_at(np.array(self.impostor), far)
        if found is None:
            raise UserError(
                f"--far {far:g}: the gallery was calibrated by {len(self.impostor)} searches, "
                f"which can state {1 / (len(self.impostor) + 1):.2g} at the lowest"
            )
        return found

    def tar(self, threshold: float) -> float | None:
        """Share of searches for a person who is there that would be answered rightly, 0 to 1."""
        beaten = np.array(self.beaten, dtype=bool)
        return Scores(np.array(self.genuine), np.array(self.impostor), beaten).tar(threshold)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def of(cls, stored: dict[str, Any]) -> Self:
        """The inverse of `as_dict`."""
        return cls(**stored)


def calibrate(
    gallery: "Gallery", people: ImageTable, features: np.ndarray, source: str, held_out: bool
) -> dict[str, Calibration]:
    """Search the gallery for people who are not in it.

    Args:
        gallery: an opened gallery.
        people: images of known people; those who have an image in the gallery are left out.
        features: (N, D) their unit vectors.
        source, held_out: as in `Calibration`.

    Returns:
        Name of the query's modality -> Calibration.

    Raises:
        UserError: an identity is not known, or everybody is in the gallery.
    """
    unknown = [path for path, name in zip(people.paths, people.identities) if not name]
    if unknown:
        raise UserError(
            f"{unknown[0]}: calibration needs to know who that is: use images in the "
            "layout of a published set, or a .csv with the columns path and identity"
        )
    known = set(known_people(gallery, people))
    rows = [row for row, name in enumerate(people.identities) if name not in known]
    if not rows:
        raise UserError(
            f"all people of {source} are in gallery {gallery.folder}: calibration "
            f"needs people who are not ({SAME_NAME})"
        )
    people, features = people.take(rows), features[rows]
    best = np.maximum(gallery.nearest(features, 1)[1][:, 0].astype(np.float64), -1.0)
    own = _mate_scores(people, features, np.unique(gallery.images.modalities))
    result = {}
    for number, name in enumerate(NAMES):
        asked = people.modalities == number
        mated = asked & np.isfinite(own)
        if asked.any():
            result[name] = Calibration(
                best[asked].tolist(),
                own[mated].tolist(),
                (best >= own)[mated].tolist(),
                len({people.identities[row] for row in np.flatnonzero(asked)}),
                source,
                held_out,
            )
    return result


def known_people(gallery: "Gallery", people: ImageTable) -> list[str]:
    """Names that are in the gallery too, which `calibrate` leaves out."""
    return sorted(set(people.identities) & set(gallery.images.identities) - {""})


def _mate_scores(people: ImageTable, features: np.ndarray, modalities: np.ndarray) -> np.ndarray:
    """Per image the best similarity to its person's images in other cameras; -inf where none."""
    names, cameras = np.array(people.identities), np.array(people.cameras)
    result = np.full(len(people), -np.inf)
    for name in np.unique(names):
        rows = np.flatnonzero(names == name)
        similarity = (features[rows] @ features[rows].T).astype(np.float64)
        kin = cameras[rows][:, None] != cameras[rows]
        kin &= np.isin(people.modalities[rows], modalities)
        result[rows] = np.where(kin, similarity, -np.inf).max(1)
    return result
