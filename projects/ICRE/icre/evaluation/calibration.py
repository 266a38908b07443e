"""Similarities that can be compared between pairs of modalities.

In a list of both modalities a cosine of 0.8 to an image of the query's own modality says less than
0.8 across modalities. Each pair (modality of the query, of the gallery image) has its own
calibration here, learnt from people who are not tested:

    logistic   log-odds that both images are of one person, by logistic regression on the similarity
               of genuine and impostor pairs with equal weight (Bruemmer and du Preez, Computer
               Speech and Language 2006, there per recording condition)
    z-norm     mean 0 and standard deviation 1 of the impostor pairs (Auckenthaler et al., Digital
               Signal Processing 2000)
    centring   each modality's mean feature is subtracted, and the cosine is taken of the rest

The first two are a rising line per pair, so they change no order within one gallery modality.
A genuine pair is of two cameras, as within a camera the test protocols exclude it.
"""

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from icre.evaluation.features import FeatureSet
from icre.modality import NAMES
from icre.utils.errors import UserError

METHODS = ("logistic", "z-norm", "centring")
_IMAGES = 4_000  # per modality; their pairs take 128 MB
_PAIRS = 200_000  # of either kind for the regression, which learns two numbers

Values = TypeVar("Values", np.ndarray, Tensor)


@dataclass(frozen=True, eq=False)
class SimilarityCalibration:
    """What was learnt; the comparable similarity is `scale * cosine + shift`.

    Args:
        label: for records: method, and people, images and source that it was learnt from.
        scale, shift: (2, 2) float64, by the modality of the query and of the gallery image.
        centres: (2, D) features that are subtracted first; None: nothing is.
    """

    label: dict[str, Any]
    scale: np.ndarray
    shift: np.ndarray
    centres: np.ndarray | None = None

    def unit(self, features: Values, modalities: Values) -> Values:
        """Unit features (N, D) of those modalities (N,), as the cosine is to be taken of them."""
        if self.centres is None:
            return features
        if isinstance(features, Tensor):
            centred = features - torch.from_numpy(self.centres).to(features)[modalities]
            return torch.nn.functional.normalize(centred, dim=1)
        return _centred(features, modalities, self.centres)

    def comparable(self, cosine: Values, query: Values, gallery: Values) -> Values:
        """Comparable similarities (Q, G) of cosines; query (Q,) and gallery (G,) modalities."""
        scale: Any = self.scale
        shift: Any = self.shift
        if isinstance(cosine, Tensor):
            scale, shift = (torch.from_numpy(one).to(cosine) for one in (scale, shift))
        return cosine * scale[query[:, None], gallery] + shift[query[:, None], gallery]


def calibrate(
    people: FeatureSet, test: FeatureSet, method: str = METHODS[0], source: str = "people"
) -> SimilarityCalibration:
    """Learn to compare similarities of pairs of modalities.

    Args:
        people: features of people who are not tested, of both modalities, by the model of `test`.
        test: what will be scored.
        method: one of METHODS.
        source: where the people come from, for records and messages.

    Raises:
        UserError: unknown method, tested people among them, other features, or people who do not
            say enough (`fit_pair`).
    """
    if method not in METHODS:
        raise UserError(f"unknown calibration '{method}'; the names are {', '.join(METHODS)}")
    if people.features.shape[1] != test.features.shape[1]:
        raise UserError(
            f"{source} has features of {people.features.shape[1]} dimensions, those to score have "
            f"{test.features.shape[1]}: extract both with one model"
        )
    shared = np.intersect1d(people.pids, test.pids)
    if people.layout == test.layout and len(shared):
        raise UserError(
            f"{source} holds {len(shared)} of the tested identities, such as {shared[0]}: a "
            "calibration is learnt from others, such as those of TEST.SPLIT val"
        )
    for number, name in enumerate(NAMES):
        if number not in people.modalities:
            raise UserError(f"{source} holds no {name} image: calibration needs both modalities")
    data = people.ordered()
    unit = data.features.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    numbers = {"people": len(np.unique(data.pids)), "images": len(data)}
    label = {"method": method, **numbers, "source": source}
    if method == "centring":
        centres = np.stack([unit[data.modalities == number].mean(0) for number in range(2)])
        return SimilarityCalibration(label, np.ones((2, 2)), np.zeros((2, 2)), centres)
    scale, shift = np.empty((2, 2)), np.empty((2, 2))
    for query in range(2):
        for gallery in range(2):
            try:
                scale[query, gallery], shift[query, gallery] = fit_pair(
                    unit, data.pids, data.camids, data.modalities, query, gallery, method
                )
            except UserError as error:
                raise UserError(f"{source}: {error}") from None
    return SimilarityCalibration(label, scale, shift)


def fit_pair(
    unit: np.ndarray,
    pids: np.ndarray,
    camids: np.ndarray,
    modalities: np.ndarray,
    query: int,
    gallery: int,
    method: str = METHODS[0],
) -> tuple[float, float]:
    """Scale and shift of the similarities of one pair of modalities.

    Args:
        unit: (N, D) unit features.
        pids, camids, modalities: (N,) integers.
        query, gallery: the modalities of the pair.
        method: logistic or z-norm.

    Raises:
        UserError: there are no such pairs of images, or their similarities say nothing.
    """
    pair = f"{NAMES[query]} and {NAMES[gallery]} images"
    rows, columns = (_some(np.flatnonzero(modalities == one)) for one in (query, gallery))
    cosine = unit[rows] @ unit[columns].T
    same = pids[rows][:, None] == pids[columns]
    impostor = cosine[~same]
    genuine = cosine[same & (camids[rows][:, None] != camids[columns])]
    if not len(impostor) or impostor.std() < 1e-9:
        raise UserError(f"no {pair} of two people whose similarities differ: name more people")
    mean, std = float(impostor.mean()), float(impostor.std())
    if method == "z-norm":
        return 1 / std, -mean / std
    if not len(genuine):
        raise UserError(
            f"no {pair} of one person in two cameras, which logistic calibration learns from: name "
            "more people, or take z-norm"
        )
    slope, intercept = _logistic((impostor - mean) / std, (genuine - mean) / std)
    if slope <= 0:
        raise UserError(f"{pair} of one person are no more similar than those of two: no use")
    return slope / std, intercept - slope * mean / std


def _some(rows: np.ndarray) -> np.ndarray:
    """The rows, or so many of them, the same in every run."""
    if len(rows) <= _IMAGES:
        return rows
    return np.sort(np.random.default_rng(0).choice(rows, _IMAGES, replace=False))


def _logistic(impostor: np.ndarray, genuine: np.ndarray) -> tuple[float, float]:
    """Slope and intercept of the log-odds of genuine against impostor, both sides weighing 1/2."""
    from sklearn.linear_model import LogisticRegression

    sides = [one[:: -(-len(one) // _PAIRS)] for one in (impostor, genuine)]
    labels = np.repeat([0, 1], [len(one) for one in sides])
    # sklearn's penalty of the slope, which counts as one pair, keeps it finite where all differ
    fitted = LogisticRegression(class_weight="balanced").fit(np.concatenate(sides)[:, None], labels)
    return float(fitted.coef_[0, 0]), float(fitted.intercept_[0])


def _centred(unit: np.ndarray, modalities: np.ndarray, centres: np.ndarray) -> np.ndarray:
    centred = unit - centres[modalities]
    return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
