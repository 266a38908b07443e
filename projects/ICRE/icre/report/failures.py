"""The report's breakdown: where the runs fail, by pair of cameras and by identity."""

from collections.abc import Iterable, Sequence

from icre.evaluation.breakdown import by_camera_pair, by_identity
from icre.plots.identities import draw_identities
from icre.report import page
from icre.report.runs import Options, Run, gather
from icre.utils.errors import UserError

WORST = 10  # identities that are listed


def failures(runs: Sequence[Run], options: Options) -> str:
    """By pair of cameras, and by identity."""
    found, missing = gather(runs, "features")
    if not found:
        return missing
    setting = {run.name: options.setting(run) for run in runs if run.name in found}
    cameras = {name: by_camera_pair(data, setting[name]) for name, data in found.items()}
    people = {name: by_identity(data, setting[name]) for name, data in found.items()}
    one = next(iter(setting.values()))
    label = f"{one.name}, {one.draw or 'no'} draw"
    mean = ", mean over the runs" if len(found) > 1 else ""
    return (
        page.heading("By pair of cameras")
        + page.text(
            f"{label}, in percent. Each pair asks with the queries of one camera in a gallery "
            "of the other's images alone."
        )
        + _side_by_side(cameras, ("query", "gallery"), ("query camera", "gallery camera"), None)
        + page.heading("By identity")
        + _identity_chart(people, label)
        + page.text(f"The {WORST} identities with the lowest mAP{mean}:")
        + _side_by_side(people, ("pid",), ("identity",), WORST)
        + missing
    )


def _identity_chart(people: dict[str, list[dict]], label: str) -> str:
    try:
        values = {name: {row["pid"]: row["mAP"] for row in rows} for name, rows in people.items()}
        return page.chart(draw_identities(values, "mAP, %"), f"mAP of each identity, {label}")
    except UserError as error:
        return page.note(str(error))


def _side_by_side(
    models: dict[str, list[dict]], keys: Sequence[str], heads: Sequence[str], worst: int | None
) -> str:
    """Rows with equal keys beside each other; `worst`: so many with the lowest mean mAP."""
    found: dict[tuple, dict[str, dict]] = {}
    for name, rows in models.items():
        for row in rows:
            found.setdefault(tuple(row[key] for key in keys), {})[name] = row
    order = list(found)
    if worst is not None:
        order = sorted(order, key=lambda key: _mean(r["mAP"] for r in found[key].values()))[:worst]
    figures = ("Rank-1", "mAP")
    lines = [
        [
            *key,
            max(row["queries"] for row in found[key].values()),
            *(
                f"{found[key][name][figure]:.1f}" if name in found[key] else "-"
                for figure in figures
                for name in models
            ),
        ]
        for key in order
    ]
    columns = [
        f"{figure}, {name}" if len(models) > 1 else figure for figure in figures for name in models
    ]
    return page.table([*heads, "queries", *columns], lines, 0)


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed)
