"""A score of each identity: which people a model finds and which it does not."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from icre.plots.style import (
    COLOURS,
    GRAY,
    MARKERS,
    PAGE,
    check_count,
    legend_label,
    new_figure,
    styled,
)
from icre.utils.errors import UserError

LABELLED = 80  # identities whose numbers fit below a page's width


@styled
def draw_identities(
    models: Mapping[str, Mapping[int, float]], label: str, width: float = PAGE
) -> Figure:
    """One marker per model and identity; identities by their mean over the models, worst left.

    Args:
        models: name -> identity -> percent; identities that a model lacks are left out.
        label: of the vertical axis.
        width: inches.
    """
    check_count(list(models))
    people = set.intersection(*(set(one) for one in models.values()))
    if not people:
        raise UserError("the models share no identity that has a match")
    order = sorted(people, key=lambda pid: (sum(one[pid] for one in models.values()), pid))
    x = range(len(order))
    figure = new_figure(width, 2.0)
    axes = figure.add_subplot()
    columns = [[one[pid] for pid in order] for one in models.values()]
    axes.vlines(
        x,
        [min(row) for row in zip(*columns)],
        [max(row) for row in zip(*columns)],
        color=GRAY,
        linewidth=0.6,
        zorder=0,
    )
    for number, (name, values) in enumerate(zip(models, columns)):
        mean = sum(values) / len(values)
        axes.plot(
            x,
            values,
            linestyle="",
            marker=MARKERS[number],
            color=COLOURS[number],
            label=legend_label(f"{name} (mean {mean:.1f})"),
        )
    axes.set(xlabel="identity", ylabel=label, ylim=(0, 103), xlim=(-1, len(order)))
    if len(order) <= LABELLED:
        axes.set_xticks(x, [str(pid) for pid in order], rotation=90, fontsize=5)
    else:
        axes.set(xticks=[], xlabel=f"{len(order)} identities, worst left")
    axes.grid(axis="y")
    axes.legend(loc="lower right")
    return figure
