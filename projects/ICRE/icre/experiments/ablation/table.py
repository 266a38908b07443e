"""The table of an ablation: one row per variant, from the results of its runs."""

import csv
from pathlib import Path
from typing import Any

import matplotlib.figure
import numpy as np
from tabulate import tabulate

from icre.evaluation import records
from icre.evaluation.compare import METRICS, Bootstrap, compare_seeds
from icre.experiments.ablation.cost import COST, cost_cells, model_cost
from icre.experiments.ablation.results import Result, Results
from icre.experiments.ablation.spec import Spec
from icre.plots.curves import SWEPT, draw_sweep
from icre.plots.style import save_figure
from icre.utils.errors import UserError
from icre.utils.files import replaced

PAPER = "paper: SYSU-MM01, all search, single shot"


def summarise(
    spec: Spec, results: Results, bootstrap: Bootstrap | None = None
) -> list[dict[str, Any]]:
    """One entry per row whose runs have all finished.

    Returns:
        {"row", "seeds", and per metric {"mean", "std" (over seeds, population), "per_seed",
        "difference", "low", "high"}, and "environments", a dict of machine, torch, precision and
        date per seed; of a spec with cost also "cost", see `model_cost`}: percent; difference and
        interval are paired with the reference row's run of the same seed, over seeds and identities
        (`compare_seeds`), and null in the reference row and in rows that share no seed with it.

    Raises:
        UserError: a record is damaged; one file of pretrained weights was replaced between runs of
            the same seed.
    """
    found = {name: [results.find(run) for run in runs] for name, runs in spec.rows.items()}
    _require_same_weights(spec, found)
    complete = {name: own for name, own in found.items() if None not in own}
    reference = complete.get(spec.reference)
    return [
        _entry(name, own, None if name == spec.reference else reference, bootstrap or Bootstrap())
        | ({"cost": model_cost(spec.rows[name][0].cfg)} if spec.cost else {})
        for name, own in complete.items()
    ]


def _require_same_weights(spec: Spec, found: dict[str, list[Result | None]]) -> None:
    """Runs of one seed that name one file of pretrained weights must have begun from the same.

    A config names the file, not its content; environment.json says which it was.
    """
    first: dict[tuple[str, int], tuple[str, str]] = {}
    for name, runs in spec.rows.items():
        for run, result in zip(runs, found[name]):
            weights = (result.environment.get("pretrained") or "") if result else ""
            if not weights:
                continue
            path = run.cfg.MODEL.BACKBONE.PRETRAIN_PATH
            row, others = first.setdefault((path, run.seed), (name, weights))
            if weights != others:
                raise UserError(
                    f"{path} was replaced between rows {row!r} (sha256 {others[:8]}) and {name!r} "
                    f"({weights[:8]}), seed {run.seed}: remove a row's records and train it again"
                )


def markdown(spec: Spec, entries: list[dict[str, Any]]) -> str:
    """The table for a README, with a caption that describes its numbers."""
    steps = all("steps" in entry for entry in entries)
    rows = [
        {"": entry["row"], "seeds": len(entry["seeds"])}
        | ({"steps": entry["steps"]} if steps else {})
        | {name: _mean_std(entry[name]) for name in METRICS}
        | {f"{name} - reference": _difference(entry[name]) for name in METRICS[:2]}
        | (cost_cells(entry["cost"]) if "cost" in entry else {})
        | ({PAPER: spec.paper.get(entry["row"], "-")} if spec.paper else {})
        | ({"expected": spec.expected.get(entry["row"], "-")} if spec.expected else {})
        for entry in entries
    ]
    caption = (
        f"{spec.title}. `{spec.protocol}`, {spec.draw or 'no'} draw, not re-ranked, percent; mean "
        f"± standard deviation over the seeds; differences to '{spec.reference}' with 95 % "
        "intervals over seeds and identities."
    )
    if entries:
        caption += f" {_trained_on(entries)}"
    if spec.expected:
        caption += " 'expected' is the spec's estimate, no result."
    if spec.paper:
        caption += f" '{PAPER}' is what the method's paper reports, measured by its own code."
    if spec.cost:
        caption += f" {COST}"
    return (
        f"{caption}\n\n{tabulate(rows, headers='keys', tablefmt='github', disable_numparse=True)}\n"
    )


def write(spec: Spec, entries: list[dict[str, Any]], out: Path) -> list[Path]:
    """Write table.md, table.csv, results.json and, for a sweep of numbers, curve.png and .pdf."""
    paths = [out / name for name in ("table.md", "table.csv", "results.json")]
    with replaced(paths[0]) as file:
        file.write_text(markdown(spec, entries))
    with replaced(paths[1]) as file:
        _write_csv(entries, file)
    records.save(
        {
            "title": spec.title,
            "protocol": spec.protocol,
            "draw": spec.draw,
            "reference": spec.reference,
            "sweep": spec.sweep and spec.sweep[0],
            "rows": entries,
        },
        paths[2],
    )
    numeric = spec.sweep and all(isinstance(value, int | float) for value in spec.sweep[1])
    if numeric and entries:
        paths += [out / "curve.png", out / "curve.pdf"]
        figure = curve(spec, entries)
        for path in paths[3:]:
            save_figure(figure, path)
    return paths


def curve(spec: Spec, entries: list[dict[str, Any]]) -> matplotlib.figure.Figure:
    """Rank-1 and mAP over the swept values, with the deviation over seeds (the paper's Fig. 3)."""
    values = {str(value): float(value) for value in spec.sweep[1]}
    points = {
        name: [(values[e["row"]], e[name]["mean"], e[name]["std"]) for e in entries]
        for name in SWEPT
    }
    return draw_sweep(spec.sweep[0], points, f"{spec.protocol}, {spec.draw or 'no'} draw")


def _entry(
    name: str, own: list[Result], reference: list[Result] | None, bootstrap: Bootstrap
) -> dict[str, Any]:
    entry: dict[str, Any] = {"row": name, "seeds": [one.record["seed"] for one in own]}
    steps = {one.record.get("steps") for one in own} - {None}  # older records lack it
    if steps:
        entry["steps"] = max(steps)
    paired = {metric: dict.fromkeys(("difference", "low", "high")) for metric in METRICS}
    pairs = [
        (theirs.identities, ours.identities)
        for theirs in reference or []
        for ours in own
        if theirs.record["seed"] == ours.record["seed"]
    ]
    if pairs:
        paired = compare_seeds(*map(list, zip(*pairs)), bootstrap)
    for metric in METRICS:
        values = [one.record[metric]["mean"] for one in own]
        entry[metric] = {
            "mean": float(np.mean(values)),
            "std": float(np.std(values)),
            "per_seed": values,
            **paired[metric],
        }
    entry["environments"] = [
        {
            "machine": one.environment["gpu"] or one.environment["cpu"],
            "torch": one.environment["versions"]["torch"],
            # older records lack it
            "precision": one.environment.get("precision", "precision unknown"),
            "date": one.environment["date"][:10],
            "pretrained": one.environment.get("pretrained"),
        }
        for one in own
    ]
    return entry


def _trained_on(entries: list[dict[str, Any]]) -> str:
    """Machines, versions, precisions and dates of all runs, as a sentence."""
    runs = [one for entry in entries for one in entry["environments"]]
    machines, versions, precisions = (
        ", ".join(sorted({one[key] for one in runs})) for key in ("machine", "torch", "precision")
    )
    dates = sorted({one["date"] for one in runs})
    days = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    weights = sorted({one["pretrained"][:8] for one in runs if one.get("pretrained")})
    initial = f"; from weights of sha256 {', '.join(weights)}" if weights else ""
    return f"Trained on {machines}; torch {versions}; {precisions}; {days}{initial}."


def _mean_std(cell: dict[str, Any]) -> str:
    return f"{cell['mean']:.2f} ± {cell['std']:.2f}"


def _difference(cell: dict[str, Any]) -> str:
    if cell["difference"] is None:
        return "-"
    return f"{cell['difference']:+.2f} [{cell['low']:+.2f}, {cell['high']:+.2f}]"


def _write_csv(entries: list[dict[str, Any]], path: Path) -> None:
    cells = ("mean", "std", "difference", "low", "high")
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "seeds", *(f"{name} {cell}" for name in METRICS for cell in cells)])
        for entry in entries:
            values = [entry[name][cell] for name in METRICS for cell in cells]
            writer.writerow([entry["row"], len(entry["seeds"]), *values])
