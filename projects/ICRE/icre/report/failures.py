"""The report's breakdown: scores by pair of cameras and by identity."""

from collections.abc import Sequence
from statistics import fmean

from icre.evaluation.breakdown import by_camera_pair, by_identity
from icre.inference.run import Run
from icre.plots.identities import draw_identities
from icre.report.inputs import Options, gather
from icre.report.page import Block, Heading, Note, Table, Text, chart
from icre.utils.errors import UserError

WORST = 10  # identities that are listed


def failures(runs: Sequence[Run], options: Options) -> list[Block]:
    """By pair of cameras, and by identity."""
    found, missing = gather(runs, "features")
    if not found:
        return missing
    trials = {run.name: options.trials(run) for run in runs if run.name in found}
    cameras = {name: by_camera_pair(data, trials[name]) for name, data in found.items()}
    identities = {name: by_identity(data, trials[name]) for name, data in found.items()}
    first = next(iter(trials.values()))
    label = f"{first.name}, {first.draw or 'no'} draw"
    mean = ", mean over the runs" if len(found) > 1 else ""
    return [
        Heading("By pair of cameras"),
        Text(
            f"{label}, in percent. Each row: the queries of one camera in a gallery of the other "
            "camera's images alone."
        ),
        _side_by_side(cameras, ("query", "gallery"), ("query camera", "gallery camera")),
        Heading("By identity"),
        _identity_chart(identities, label),
        Text(f"The {WORST} identities with the lowest mAP{mean}:"),
        _side_by_side(identities, ("pid",), ("identity",), WORST),
        *missing,
    ]


def _identity_chart(identities: dict[str, list[dict]], label: str) -> Block:
    values = {name: {row["pid"]: row["mAP"] for row in rows} for name, rows in identities.items()}
    try:
        return chart(draw_identities(values, "mAP, %"), f"mAP of each identity, {label}")
    except UserError as error:
        return Note(str(error))


def _side_by_side(
    models: dict[str, list[dict]],
    keys: Sequence[str],
    heads: Sequence[str],
    worst: int | None = None,
) -> Table:
    """One line per value of `keys`, with a column per score and model.

    Args:
        models: name -> rows of `icre.evaluation.breakdown`.
        keys: fields that identify a row.
        heads: their column titles.
        worst: keep as many lines, those with the lowest mean mAP.
    """
    merged: dict[tuple, dict[str, dict]] = {}
    for name, rows in models.items():
        for row in rows:
            merged.setdefault(tuple(row[key] for key in keys), {})[name] = row
    order = list(merged)
    if worst is not None:
        order.sort(key=lambda key: fmean(row["mAP"] for row in merged[key].values()))
        order = order[:worst]
    scores = ("Rank-1", "mAP")
    lines = []
    for key in order:
        by_model = merged[key]
        queries = max(row["queries"] for row in by_model.values())
        cells = [
            f"{by_model[name][score]:.1f}" if name in by_model else "-"
            for score in scores
            for name in models
        ]
        lines.append([*key, queries, *cells])
    columns = [
        f"{score}, {name}" if len(models) > 1 else score for score in scores for name in models
    ]
    return Table([*heads, "queries", *columns], lines, text=0)
