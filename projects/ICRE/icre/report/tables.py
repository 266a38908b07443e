"""The report's tables of results, settings and data sets: (runs, options) -> HTML."""

from collections.abc import Sequence

from icre.data.loader import modalities_of
from icre.evaluation import breakdown, records
from icre.evaluation.compare import compare, difference, verdict
from icre.modality import NAMES
from icre.report import page
from icre.report.runs import Options, Run, gather
from icre.utils.errors import UserError

_OWN = ("OUTPUT_DIR",)  # keys in which runs always differ
_SUMMARY = {
    "model": "MODEL.META_ARCHITECTURE",
    "backbone": "MODEL.BACKBONE.NAME",
    "losses": "MODEL.LOSSES.NAME",
    "image": "INPUT.SIZE_TEST",
    "epochs": "SOLVER.MAX_EPOCH",
    "seed": "SEED",
}


def results(runs: Sequence[Run], options: Options) -> str:
    """Every protocol's figures, then each run against the first."""
    found, missing = gather(runs, "records")
    rows = [
        (
            setting,
            name,
            one["trials"],
            one["valid_queries"],
            one["gallery"],
            *(records.mean_std(one[figure]) for figure in records.FIGURES),
        )
        for name, scored in found.items()
        for one in scored
        for setting in [_setting(one)]
    ]
    order = list(dict.fromkeys(row[0] for row in rows))
    rows.sort(key=lambda row: order.index(row[0]))
    heads = ("protocol and draw", "run", "trials", "queries", "gallery", *records.FIGURES)
    caption = "In percent; ± is the standard deviation over the gallery draws of one training."
    parts = [page.table(heads, rows, 2, caption)] if rows else []
    return "".join(parts) + missing + _compared(runs, options)


def _setting(record: dict) -> str:
    words = [record["protocol"], f"{record['draw'] or 'no'} draw"]
    words += [f"split {record['split']}"] if record["split"] is not None else []
    words += [f"re-ranked: {records.rerank_label(record['rerank'])}"] if record["rerank"] else []
    return ", ".join(words)


def _compared(runs: Sequence[Run], options: Options) -> str:
    parts = []
    for run in runs[1:]:
        title = page.heading(f"{run.name} minus {runs[0].name}")
        try:
            parts.append(title + _comparison(runs[0], run, options))
        except UserError as error:
            parts.append(title + page.note(str(error)))
    return "".join(parts)


def _comparison(first: Run, second: Run, options: Options) -> str:
    setting = options.setting(first)
    found = compare(first.features, second.features, setting.name, setting.draw, first.permutation)
    caption = (
        f"{found['protocol']}, {found['draw'] or 'no'} draw, not re-ranked; {found['level']:g} % "
        f"intervals of {found['samples']} paired bootstrap samples over "
        f"{found['all']['identities']} identities and the draws. Training seeds are not in them."
    )
    rows = [
        (figure, f"{cell['first']:.2f}", f"{cell['second']:.2f}", difference(cell), verdict(cell))
        for figure, cell in ((one, found["all"][one]) for one in breakdown.FIGURES)
    ]
    heads = ("figure", first.name, second.name, "difference [interval]", "is it real?")
    return page.table(heads, rows, 1, caption)


def settings(runs: Sequence[Run], options: Options) -> str:
    """A line per run, keys that differ, and what each run sets."""
    rows = [
        [run.name, *(run.settings.get(key, "-") for key in _SUMMARY.values()), str(run.folder)]
        for run in runs
    ]
    parts = [page.table(("run", *_SUMMARY, "folder"), rows, -1)]
    keys = sorted(set().union(*(run.settings for run in runs)) - set(_OWN))
    lines = [[key, *(run.settings.get(key, "(no such key)") for run in runs)] for key in keys]
    differing = [line for line in lines if len(set(line[1:])) > 1]
    if differing:
        parts.append(page.heading("Keys that differ"))
        parts.append(page.table(("key", *(run.name for run in runs)), differing, -1, long=True))
    elif len(runs) > 1:
        parts.append(page.text("The runs' configs are the same."))
    for run in runs:
        table = page.table(("key", "value"), sorted(run.changed.items()), -1, long=True)
        parts.append(page.details(f"What {run.name} sets differently from the defaults", table))
    return "".join(parts)


def data(runs: Sequence[Run], options: Options) -> str:
    """Identities and images of each split, modality and camera."""
    counted: dict[str, list[str]] = {}
    for run in runs:
        try:
            content = page.table(
                ("split", "modality", "camera", "identities", "images"), _of_dataset(run), 3
            )
        except UserError as error:
            content = page.note(f"{run.name}: {error}")
        counted.setdefault(content, []).append(run.name)
    return "".join(
        (page.heading(", ".join(names)) if len(counted) > 1 else "") + content
        for content, names in counted.items()
    )


def _of_dataset(run: Run) -> list[tuple]:
    found = run.data
    tested = found.query + found.gallery
    rows = []
    for split, items, cameras in (("training", found.train, False), ("test", tested, True)):
        seen: dict[tuple, list] = {}
        for item, modality in zip(items, modalities_of(found, items)):
            seen.setdefault((modality, item[2] if cameras else ""), []).append(item[1])
        rows += [
            (split, NAMES[modality], camera, len(set(pids)), f"{len(pids):,}")
            for (modality, camera), pids in sorted(seen.items())
        ]
    return rows
