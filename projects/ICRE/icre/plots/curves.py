"""Curves: CMC, training losses and scores, and scores over a swept config value (Fig. 3)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from icre.datasets.protocol import PROTOCOLS
from icre.datasets.sysu import Permutation
from icre.evaluation.features import FeatureSet
from icre.evaluation.rank import QueryScores
from icre.evaluation.score import score_trials
from icre.evaluation.trials import build_trials
from icre.plots.style import (
    COLOURS,
    COLUMN,
    LINES,
    MARKERS,
    check_count,
    legend_label,
    new_figure,
    styled,
)
from icre.utils.errors import UserError

# score -> colour, line style and marker of its curve
SWEPT = {"Rank-1": (COLOURS[0], "-", "o"), "mAP": (COLOURS[1], "--", "s")}
PANELS = 100  # of a figure; more would be an image that nothing can show
Scalars = Mapping[str, tuple[Sequence[int], Sequence[float]]]  # name -> (iterations, values)


@dataclass(frozen=True)
class CMC:
    """Percentage of the queries whose first match is among the first k, k = 1, 2, ...

    Args:
        mean: (K,) mean over the trials.
        std: (K,) population standard deviation over the trials; None if the gallery is not sampled.
        setting: protocol, gallery sampling and trials, for a label.
    """

    mean: np.ndarray
    std: np.ndarray | None
    setting: str


def cmc(
    features: FeatureSet,
    protocol: str | None = None,
    draw: str | None = None,
    perm: str | Path | Permutation | None = None,
    ranks: int = 20,
) -> CMC:
    """The CMC curve of a protocol; arguments and errors as of `icre.evaluation.score.score`.

    Args:
        features, draw, perm: as of `score`.
        protocol: None: the first of the data set.
        ranks: K.
    """
    if ranks < 2:
        raise UserError(f"--ranks {ranks}: a curve needs at least 2")
    data, (trials, *_) = build_trials(features, protocol and [protocol], draw, perm)
    rows = np.array([_found_by_rank(one, ranks) for one in score_trials(data, [trials])[0]])
    sampling = f"{trials.draw} draw, {len(trials)} trials" if trials.draw else "no draw"
    std = rows.std(0) if trials.draw else None
    return CMC(rows.mean(0), std, f"{trials.name}, {sampling}")


def _found_by_rank(scores: QueryScores, ranks: int) -> np.ndarray:
    first = scores.first_match.numpy()
    first = first[first > 0]  # 0: no match in the gallery, so not counted
    if not len(first):
        raise UserError("no query has a match in the gallery")
    return 100 * (first[:, None] <= np.arange(1, ranks + 1)).mean(0)


@styled
def draw_cmc(models: Mapping[str, CMC], width: float = COLUMN) -> Figure:
    """One curve per model with Rank-1 in the legend; the band is the deviation over the trials."""
    check_count(list(models))
    settings = {one.setting for one in models.values()}
    if len(settings) > 1:
        raise UserError(f"curves of different settings: {'; '.join(sorted(settings))}")
    figure = new_figure(width, 2.1)
    axes = figure.add_subplot()
    for number, (name, one) in enumerate(models.items()):
        k, colour = np.arange(1, len(one.mean) + 1), COLOURS[number]
        axes.plot(
            k,
            one.mean,
            color=colour,
            linestyle=LINES[number % len(LINES)],
            marker=MARKERS[number],
            label=legend_label(f"{name} (Rank-1 {one.mean[0]:.1f})"),
        )
        if one.std is not None:
            axes.fill_between(
                k, one.mean - one.std, one.mean + one.std, color=colour, alpha=0.2, linewidth=0
            )
    axes.set(
        xlabel="rank k",
        ylabel="queries found by rank k, %",
        ylim=(None, 100),
        xlim=(1, len(k)),
        xticks=[1, *range(5, len(k) + 1, 5)],
    )
    axes.set_title(settings.pop(), loc="left", fontsize=6.5)
    axes.grid()
    axes.legend(loc="lower right")
    return figure


@styled
def draw_training(
    runs: Mapping[str, Scalars], setting: str | None = None, width: float = COLUMN
) -> Figure:
    """Small panels: every loss, the learning rate, the training accuracy, Rank-1 and mAP.

    A run has one colour and line in all panels.

    Args:
        runs: name -> logged scalars.
        setting: "<protocol>/<draw>" or "<protocol>" of the scores; default: the first in the order
            of PROTOCOLS that was logged.
        width: inches.
    """
    check_count(list(runs))
    names = dict.fromkeys(name for one in runs.values() for name in one)
    setting = _scored_setting(names, setting)
    losses = sorted(
        (n for n in names if n.startswith("loss_") or n == "total_loss"),
        key=lambda name: name != "total_loss",
    )
    shown = [*losses, *(n for n in ("lr", "health/cls_accuracy") if n in names)]
    shown += [f"{setting}/{name}" for name in ("Rank-1", "mAP")] if setting else []
    if not shown:
        raise UserError("the runs logged no loss, learning rate or score: there is nothing to draw")
    if len(shown) > PANELS:
        raise UserError(f"the runs logged {len(shown)} losses and scores, more than {PANELS}")
    columns = 2 if width < 5 else 4
    rows = -(-len(shown) // columns)
    figure = new_figure(width, 0.95 * rows + 0.3)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, name in zip(panels, shown):
        _one_scalar(axes, name, runs)
    for axes in panels[len(shown) :]:
        axes.set_visible(False)
    figure.supxlabel("iteration", fontsize=7)
    handles = [axes.get_legend_handles_labels() for axes in panels[: len(shown)]]
    lines = {label: line for pair in handles for line, label in zip(*pair)}
    figure.legend(lines.values(), lines, loc="outside upper center", ncols=min(len(lines), 4))
    return figure


def _scored_setting(names: Iterable[str], wanted: str | None) -> str | None:
    """The setting whose scores to show: the first of those that match `wanted`."""
    known = [name.removesuffix("/Rank-1") for name in names if name.endswith("/Rank-1")]
    found = [name for name in known if wanted is None or f"{name}/".startswith(f"{wanted}/")]
    if wanted and not found:
        raise UserError(f"no run logged {wanted}; logged are: {', '.join(known) or 'none'}")
    return min(found, key=_setting_order, default=None)


def _setting_order(name: str) -> tuple:
    """Test before validation, plain before re-ranked, then in the order of PROTOCOLS."""
    parts = name.split("/")
    protocol = [number for number, one in enumerate(PROTOCOLS) if one in parts]
    return ("validation" in parts, "rerank" in parts, protocol or [len(PROTOCOLS)], name)


def _one_scalar(axes: Axes, name: str, runs: Mapping[str, Scalars]) -> None:
    scored = "/" in name and not name.startswith("health/")
    for number, (run, scalars) in enumerate(runs.items()):
        if name in scalars:
            look = {
                "color": COLOURS[number],
                "linestyle": LINES[number % len(LINES)],
                "label": legend_label(run),
            }
            # scores are few, and may be only one
            axes.plot(*scalars[name], marker=MARKERS[number] if scored else "", **look)
    title = name.removeprefix("health/")
    if scored:
        setting, score = name.rsplit("/", 1)
        title = f"{score}, % ({setting})"
    axes.set_title(title, loc="left", fontsize=5.5 if scored else 6.5)
    axes.grid()
    axes.locator_params(nbins=4)
    axes.ticklabel_format(scilimits=(-2, 4))
    axes.set_xlim(0, 1.05 * max(steps[-1] for one in runs.values() for steps, _ in one.values()))


@styled
def draw_sweep(
    key: str,
    points: Mapping[str, Sequence[tuple[float, float, float]]],
    setting: str,
    width: float = COLUMN,
) -> Figure:
    """Scores over the values of one config key, with their deviation over seeds.

    Args:
        key: the swept key.
        points: score ("Rank-1", "mAP") -> (value, mean, std) in percent, in any order.
        setting: protocol and gallery sampling, for the label.
        width: inches.
    """
    figure = new_figure(width, 2.1)
    axes = figure.add_subplot()
    for name, (colour, line, mark) in SWEPT.items():
        x, y, deviation = zip(*sorted(points[name]))
        axes.errorbar(
            x, y, yerr=deviation, color=colour, linestyle=line, marker=mark, capsize=2, label=name
        )
    axes.set(xlabel=key.removeprefix("MODEL."), ylabel=f"{setting}, %")
    axes.grid()
    axes.legend()
    return figure
