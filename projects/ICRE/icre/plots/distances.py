"""Cross-modal distances within and between identities (the paper's Fig. 4 a-c)."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from icre.evaluation.features import FeatureSet
from icre.modality import INFRARED, VISIBLE
from icre.plots.style import BLUE, COLUMN, PAGE, VERMILION, new_figure, styled
from icre.utils.errors import UserError

EDGES = np.linspace(0.0, 2.0, 201)  # of the bins of cosine distance
_BLOCK = 512  # visible images at once


@dataclass(frozen=True)
class PairDistances:
    """Cosine distances, 1 - cosine (0 to 2), of all pairs of a visible and an infrared image.

    Args:
        intra, inter: (200,) counts in the bins of `EDGES`, within and between identities.
        intra_mean, inter_mean: means of the distances themselves, not of the bins.
    """

    intra: np.ndarray
    inter: np.ndarray
    intra_mean: float
    inter_mean: float

    @property
    def overlap(self) -> float:
        """Area that the two normalised histograms share, 0 to 1."""
        return float(np.minimum(self.intra / self.intra.sum(), self.inter / self.inter.sum()).sum())


def pair_distances(data: FeatureSet) -> PairDistances:
    """Compare every visible image with every infrared one, without a protocol.

    Raises:
        UserError: a modality is missing, or there are no pairs of one of the kinds.
    """
    unit = data.features / np.linalg.norm(data.features, axis=1, keepdims=True)
    visible, infrared = (np.flatnonzero(data.modalities == one) for one in (VISIBLE, INFRARED))
    counts = {same: np.zeros(len(EDGES) - 1, dtype=np.int64) for same in (True, False)}
    sums = {True: 0.0, False: 0.0}
    for start in range(0, len(visible), _BLOCK):
        rows = visible[start : start + _BLOCK]
        distance = np.clip(1 - unit[rows] @ unit[infrared].T, 0, 2).astype(np.float64)
        is_same = data.pids[rows][:, None] == data.pids[infrared]
        for same in counts:
            values = distance[is_same == same]
            counts[same] += np.histogram(values, EDGES)[0]
            sums[same] += values.sum()
    if not (counts[True].any() and counts[False].any()):
        raise UserError(
            "distances need visible and infrared images of one person and of two: there are "
            f"{len(visible)} visible and {len(infrared)} infrared images, {counts[True].sum()} "
            f"pairs of one person and {counts[False].sum()} of two"
        )
    means = {same: sums[same] / counts[same].sum() for same in counts}
    return PairDistances(counts[True], counts[False], means[True], means[False])


@styled
def draw_distances(models: Mapping[str, PairDistances], width: float | None = None) -> Figure:
    """One histogram pair per model, side by side on the same axes, with the means and their gap.

    Args:
        models: name -> distances.
        width: inches; default: a column for one or two models, else a page.
    """
    width = width or (COLUMN if len(models) <= 2 else PAGE)
    figure = new_figure(width, 1.85)
    panels = figure.subplots(1, len(models), sharex=True, squeeze=False)[0]
    for axes, (name, found) in zip(panels, models.items()):
        for counts, mean, colour, label in (
            (found.intra, found.intra_mean, BLUE, "same person"),
            (found.inter, found.inter_mean, VERMILION, "two people"),
        ):
            density = counts / (counts.sum() * np.diff(EDGES))
            axes.stairs(density, EDGES, fill=True, color=colour, alpha=0.3)
            axes.stairs(density, EDGES, color=colour, linewidth=0.9, label=label)
            axes.axvline(mean, color=colour, linestyle="--", linewidth=0.9)
        gap = found.inter_mean - found.intra_mean
        means = f"means {found.intra_mean:.2f} and {found.inter_mean:.2f}, gap {gap:.2f}"
        axes.set_title(f"{name}\n{means}", fontsize=6.5)
        axes.set(ylim=(0, None), yticks=[])
    panels[0].set(xlim=_range(models), ylabel="density of pairs")
    figure.supxlabel("cosine distance, visible to infrared", fontsize=7)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2)
    return figure


def _range(models: Mapping[str, PairDistances]) -> tuple[float, float]:
    """Limits that leave out at most a thousandth of a model's pairs on either side."""
    low, high = [], []
    for one in models.values():
        for counts in (one.intra, one.inter):
            below = counts.cumsum() / counts.sum()
            low.append(EDGES[np.searchsorted(below, 0.001)])
            high.append(EDGES[np.searchsorted(below, 0.999) + 1])
    return min(low), max(high)
