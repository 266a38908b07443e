"""What an ablation found: one row per variant, from the records and features of its runs."""

import csv
import json
from pathlib import Path
from typing import Any

import matplotlib.figure
import numpy as np
from tabulate import tabulate

from icre.data.loader import load_dataset
from icre.engine.ablation.spec import Run, Spec
from icre.errors import UserError
from icre.evaluation import records
from icre.evaluation.compare import FIGURES, Bootstrap, compare_seeds
from icre.evaluation.features import FeatureSet
from icre.evaluation.files import replaced
from icre.evaluation.matlab import Permutation, read_permutation
from icre.visual.curves import SWEPT, draw_sweep
from icre.visual.style import save_figure


def summarise(spec: Spec, bootstrap: Bootstrap = Bootstrap()) -> list[dict[str, Any]]:
    """One entry per row whose runs are all there.

    Returns:
        {"row", "seeds", and per figure {"mean", "std" (over seeds, population), "per_seed",
        "difference", "low", "high"}}: percent; difference and interval are paired with the
        reference row's run of the same seed, over seeds and identities (`compare_seeds`), and null
        in the reference row itself.

    Raises:
        UserError: a run was not scored under the spec's protocol and draw.
    """
    features = {
        name: [FeatureSet.load(run.folder / "features.npz") for run in runs]
        for name, runs in spec.rows.items()
        if all((run.folder / "metrics.json").is_file() for run in runs)
    }
    perm = _permutation(spec)
    return [
        _entry(spec, name, features[name], features.get(spec.reference), perm, bootstrap)
        for name in features
    ]


def markdown(spec: Spec, entries: list[dict[str, Any]]) -> str:
    """The table for a README, with a line that says what its numbers are."""
    rows = [
        {"": entry["row"], "seeds": len(entry["seeds"])}
        | {name: _mean_std(entry[name]) for name in FIGURES}
        | {f"{name} - reference": _difference(entry[name]) for name in FIGURES[:2]}
        for entry in entries
    ]
    caption = (
        f"{spec.title}. `{spec.protocol}`, {spec.draw or 'no'} draw, not re-ranked, percent; mean ± "
        f"standard deviation over the seeds; differences to '{spec.reference}' with 95 % intervals "
        "over seeds and identities."
    )
    return f"{caption}\n\n{tabulate(rows, headers='keys', tablefmt='github', disable_numparse=True)}\n"


def write(spec: Spec, entries: list[dict[str, Any]], out: Path) -> list[Path]:
    """table.md, table.csv, results.json and, for a sweep, curve.png and curve.pdf in `out`."""
    paths = [out / name for name in ("table.md", "table.csv", "results.json")]
    with replaced(paths[0]) as file:
        file.write_text(markdown(spec, entries))
    with replaced(paths[1]) as file:
        _write_csv(entries, file)
    records.save({
        "title": spec.title, "protocol": spec.protocol, "draw": spec.draw,
        "reference": spec.reference, "sweep": spec.sweep and spec.sweep[0], "rows": entries,
    }, paths[2])
    if spec.sweep and entries:
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
    spec: Spec, name: str, own: list[FeatureSet], reference: list[FeatureSet] | None,
    perm: Permutation | None, bootstrap: Bootstrap,
) -> dict[str, Any]:
    runs = spec.rows[name]
    found = [_record(spec, run) for run in runs]
    entry: dict[str, Any] = {"row": name, "seeds": [run.seed for run in runs]}
    paired = {figure: dict.fromkeys(("difference", "low", "high")) for figure in FIGURES}
    if reference and name != spec.reference:
        paired = compare_seeds(reference, own, spec.protocol, spec.draw, perm, bootstrap)
    for figure in FIGURES:
        values = [record[figure]["mean"] for record in found]
        entry[figure] = {
            "mean": float(np.mean(values)), "std": float(np.std(values)), "per_seed": values,
            **paired[figure],
        }
    return entry


def _record(spec: Spec, run: Run) -> dict[str, Any]:
    """The run's plain record under the spec's protocol."""
    for record in json.loads((run.folder / "metrics.json").read_text()):
        setting = (record["protocol"], record["draw"], record["rerank"])
        if setting == (spec.protocol, spec.draw, None):
            return record
    raise UserError(
        f"{run.folder / 'metrics.json'} has no record of {spec.protocol}, draw {spec.draw}: set the "
        "spec's protocol and draw to one of the data set"
    )


def _permutation(spec: Spec) -> Permutation | None:
    cfg = spec.runs[0].cfg
    data = load_dataset(cfg, cfg.DATASETS.TESTS[0])
    official = spec.draw == "official" and getattr(data, "permutation_file", None)
    return read_permutation(official) if official else None


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
        writer.writerow(["row", "seeds", *(f"{name} {cell}" for name in FIGURES for cell in cells)])
        for entry in entries:
            values = [entry[name][cell] for name in FIGURES for cell in cells]
            writer.writerow([entry["row"], len(entry["seeds"]), *values])
