"""When is a match a match? Score distributions and acceptance rates, in both senses of "FAR".

Scores are cosine similarities; a score is accepted when it is above the threshold. The terms in
brackets are those of ISO/IEC 19795-1.

- Per comparison (verification): an impostor trial is a query and a gallery image of two people, a
  genuine trial one of the same person. TAR is the share of genuine pairs that are accepted at a
  threshold that accepts the share FAR of the impostor pairs [FMR].
- Per search (open-set identification): an impostor trial is a search of a whole gallery for a
  person who is not in it, and its score that of the best match; here, each query against the
  gallery without that person's own images. FAR is the share of such searches that are answered
  with anybody at all [FPIR]. TAR is the share of the searches for a person who is there in which
  the best match is right and accepted [TPIR at rank 1].

The second grows with the gallery and is what a user of a search meets: `--far` of
`tools/search.py` is of this kind.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tabulate import tabulate

from icre.datasets.sysu import Permutation
from icre.evaluation.calibration import SimilarityCalibration
from icre.evaluation.features import FeatureSet
from icre.evaluation.trials import Trials, build_trials
from icre.utils.errors import UserError

FARS = (0.001, 0.01, 0.1)
BINS = np.linspace(-1.0, 1.0, 101)
_BINS = 100  # of comparable similarities, from the lowest to the highest


def check_far(far: float) -> float:
    """Return `far`; a UserError where it is no share above 0 and below 1."""
    if not 0 < far < 1:
        raise UserError(f"--far {far:g}: it is a share above 0 and below 1, such as 0.01")
    return far


def threshold_at(impostor: np.ndarray, far: float) -> float | None:
    """The threshold that a further impostor trial of the same kind passes with probability <= far.

    The k-th largest of the n scores, k = floor(far (n + 1)): with exchangeable trials the next one
    is above it with probability k / (n + 1) at most (split conformal prediction, Vovk et al. 2005).
    Taking the quantile of the n scores themselves would be too low by about 1 / n.

    Args:
        impostor: (n,) scores.
        far: wanted share.

    Returns:
        The threshold, or None where n is too small to state so low a share.
    """
    # the product is rounded first: 0.01 * 100 may be a little less than 1
    rank = math.floor(round(check_far(far) * (len(impostor) + 1), 9))
    if rank < 1:
        return None
    return float(np.partition(impostor, len(impostor) - rank)[len(impostor) - rank])


@dataclass(frozen=True)
class Scores:
    """Scores of one kind of trial.

    Args:
        genuine: (P,) scores of genuine trials.
        impostor: (n,) scores of impostor trials.
        beaten: (P,) whether an impostor ranks before the genuine match; None: not counted.
    """

    genuine: np.ndarray
    impostor: np.ndarray
    beaten: np.ndarray | None = None

    def tar(self, threshold: float | None) -> float | None:
        """Share of the genuine trials that are accepted (and, in a search, ranked first)."""
        if threshold is None or not len(self.genuine):
            return None
        accepted = self.genuine > threshold
        return float(np.mean(accepted if self.beaten is None else accepted & ~self.beaten))

    def histogram(self, bins: np.ndarray = BINS) -> dict[str, list[int]]:
        """Counts in the bins of genuine and impostor trials; what is outside is in the outmost."""
        return {
            name: np.histogram(np.clip(scores, bins[0], bins[-1]), bins)[0].tolist()
            for name, scores in (("genuine", self.genuine), ("impostor", self.impostor))
        }


def trial_scores(
    similarity: np.ndarray, same: np.ndarray, allowed: np.ndarray
) -> tuple[Scores, Scores]:
    """Scores per comparison and per search of one trial.

    Args:
        similarity: (Q, G).
        same: (Q, G) whether both are one person.
        allowed: (Q, G) False where an image is excluded from a query's gallery.
    """
    pairs = Scores(similarity[same & allowed], similarity[~same & allowed])
    own = np.where(same & allowed, similarity, -np.inf).max(1)
    others = np.where(~same & allowed, similarity, -np.inf).max(1)
    mated = np.isfinite(own)
    searches = Scores(own[mated], others[np.isfinite(others)], (others >= own)[mated])
    return pairs, searches


def open_set(
    features: FeatureSet,
    protocols: Sequence[str] | None = None,
    draw: str | None = None,
    perm: str | Permutation | None = None,
    fars: Sequence[float] = FARS,
    calibration: SimilarityCalibration | None = None,
) -> list[dict[str, Any]]:
    """Open-set metrics of features under test protocols; arguments and errors as of `score`.

    With a calibration, thresholds and bins are of the comparable similarity. In a gallery of both
    modalities a trial per comparison mixes pairs of modalities, whose plain cosines need different
    thresholds.

    Returns:
        Per setting, in the order of `score`: {"comparison": part, "search": part}; a part is
        {"trials": {"genuine", "impostor"} counts, "at": [{"far", "threshold", "TAR": {"mean",
        "std"}}], "bins": edges, "genuine", "impostor": histogram counts over all trials}. TAR is in
        percent, mean and population standard deviation over the gallery samples (null without);
        threshold and TAR are null where a trial is too small for the FAR.
    """
    for far in fars:
        check_far(far)
    data, chosen = build_trials(features, protocols, draw, perm)
    unit = data.features / np.linalg.norm(data.features, axis=1, keepdims=True)
    if calibration:
        unit = calibration.unit(unit, data.modalities)
    return [_of_protocol(data, unit, one, fars, calibration) for one in chosen]


def add_to(
    records: Sequence[dict[str, Any]], features: FeatureSet, *args: Any, **options: Any
) -> str:
    """Put `open_set(features, *args, **options)` into the records of the same `score`.

    Returns its table.

    A record's new entry is "open_set"; re-ranked records have none: their distances depend on the
    other queries, so there is no threshold for them.
    """
    plain = [one for one in records if not one["rerank"]]
    rows = []
    for one, found in zip(plain, open_set(features, *args, **options), strict=True):
        one["open_set"] = found
        for kind, part in found.items():
            row = {
                "protocol": one["protocol"],
                "draw": one["draw"] or "-",
                "FAR per": kind,
                "impostor trials": part["trials"]["impostor"],
            }
            rows.append(row | {f"TAR at {100 * at['far']:g} %": _cell(at) for at in part["at"]})
    return "Open set, in percent (threshold):\n" + tabulate(
        rows, headers="keys", tablefmt="github", disable_numparse=True
    )


def _cell(at: dict[str, Any]) -> str:
    if at["threshold"] is None:
        return "-"
    spread = "" if at["TAR"]["std"] is None else f" ± {at['TAR']['std']:.2f}"
    return f"{at['TAR']['mean']:.2f}{spread} ({at['threshold']:.3f})"


def _of_protocol(
    data: FeatureSet,
    unit: np.ndarray,
    trials: Trials,
    fars: Sequence[float],
    calibration: SimilarityCalibration | None,
) -> dict[str, Any]:
    scores, bins, ends = [], BINS, []
    for query, gallery in trials.rows():
        same = data.pids[query][:, None] == data.pids[gallery]
        allowed = ~trials.excluded(data, query, gallery)
        similarity = unit[query] @ unit[gallery].T
        if calibration:
            columns = data.modalities[query], data.modalities[gallery]
            similarity = calibration.comparable(similarity, *columns)
            ends += [similarity.min(), similarity.max()]
            bins = np.linspace(min(ends), max(ends), _BINS + 1)
        scores.append(trial_scores(similarity, same, allowed))
    pairs, searches = zip(*scores)
    return {
        "comparison": _part(pairs, fars, trials.draw, bins),
        "search": _part(searches, fars, trials.draw, bins),
    }


def _part(
    trials: Sequence[Scores], fars: Sequence[float], draw: str | None, bins: np.ndarray
) -> dict[str, Any]:
    at = []
    for far in fars:
        thresholds = [threshold_at(one.impostor, far) for one in trials]
        tars = [one.tar(threshold) for one, threshold in zip(trials, thresholds)]
        known = None not in tars  # tar is None without a threshold
        at.append(
            {
                "far": far,
                "threshold": _mean(thresholds) if known else None,
                "TAR": {
                    "mean": 100 * _mean(tars) if known else None,
                    "std": 100 * float(np.std(np.array(tars, float))) if known and draw else None,
                },
            }
        )
    counts = [one.histogram(bins) for one in trials]
    summed = {name: np.sum([one[name] for one in counts], axis=0).tolist() for name in counts[0]}
    sizes = {"genuine": len(trials[0].genuine), "impostor": len(trials[0].impostor)}
    return {"trials": sizes, "at": at, "bins": bins.round(2).tolist(), **summed}


def _mean(values: Sequence[float | None]) -> float:
    return float(np.mean(np.array(values, dtype=float)))
