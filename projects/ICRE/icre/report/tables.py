"""The report's tables of results, settings and data sets."""

from collections.abc import Sequence

from icre.data.loader import modalities_of
from icre.evaluation import breakdown, records
from icre.evaluation.compare import compare
from icre.evaluation.comparison import difference, verdict
from icre.inference.run import Run
from icre.modality import NAMES
from icre.report.inputs import Options, gather
from icre.report.page import Block, Details, Heading, Note, Table, Text
from icre.utils.errors import UserError

_ALWAYS_DIFFERENT = ("OUTPUT_DIR",)
_SUMMARY = {
    "model": "MODEL.META_ARCHITECTURE",
    "backbone": "MODEL.BACKBONE.NAME",
    "losses": "MODEL.LOSSES.NAME",
    "image": "INPUT.SIZE_TEST",
    "epochs": "SOLVER.MAX_EPOCH",
    "seed": "SEED",
}


def results(runs: Sequence[Run], options: Options) -> list[Block]:
    """The scores of every protocol, then each run against the first."""
    found, missing = gather(runs, "records")
    rows = [
        (
            _setting(one),
            name,
            one.get("steps") or "-",
            one["trials"],
            one["valid_queries"],
            one["gallery"],
            *(records.mean_std(one[metric]) for metric in records.METRICS),
        )
        for name, scored in found.items()
        for one in scored
    ]
    order = list(dict.fromkeys(row[0] for row in rows))
    rows.sort(key=lambda row: order.index(row[0]))
    heads = ("protocol and draw", "run", "steps", "trials", "queries", "gallery", *records.METRICS)
    caption = "In percent; ± is the standard deviation over the gallery draws of one training."
    table = [Table(heads, rows, 2, caption)] if rows else []
    return [*table, *missing, *_compared(runs, options)]


def _setting(record: dict) -> str:
    words = [record["protocol"], f"{record['draw'] or 'no'} draw"]
    words += [f"split {record['split']}"] if record["split"] is not None else []
    feature = records.feature_label(record)
    words += [f"feature {feature}"] if feature != "-" else []
    words += [f"re-ranked: {records.rerank_label(record['rerank'])}"] if record["rerank"] else []
    return ", ".join(words)


def _compared(runs: Sequence[Run], options: Options) -> list[Block]:
    blocks = []
    for run in runs[1:]:
        blocks.append(Heading(f"{run.name} minus {runs[0].name}"))
        try:
            blocks.append(_comparison(runs[0], run, options))
        except UserError as error:
            blocks.append(Note(str(error)))
    return blocks


def _comparison(first: Run, second: Run, options: Options) -> Table:
    trials, perm = options.trials(first), first.permutation_file
    found = compare(first.features, second.features, trials.name, trials.draw, perm)
    caption = (
        f"{found['protocol']}, {found['draw'] or 'no'} draw, not re-ranked; {found['level']:g} % "
        f"intervals of {found['samples']} paired bootstrap samples over "
        f"{found['all']['identities']} identities and the draws. Training seeds are not in them."
    )
    rows = []
    for metric in breakdown.METRICS:
        cell = found["all"][metric]
        means = (f"{cell['first']:.2f}", f"{cell['second']:.2f}")
        rows.append((metric, *means, difference(cell), verdict(cell)))
    heads = ("metric", first.name, second.name, "difference [interval]", "is it real?")
    return Table(heads, rows, 1, caption)


def settings(runs: Sequence[Run], options: Options) -> list[Block]:
    """A line per run, the config keys that differ, and what each run sets."""
    rows = [
        [run.name, *(run.settings.get(key, "-") for key in _SUMMARY.values()), str(run.folder)]
        for run in runs
    ]
    heads = ("run", *_SUMMARY, "folder")
    blocks: list[Block] = [Table(heads, rows, len(heads))]
    keys = sorted(set().union(*(run.settings for run in runs)) - set(_ALWAYS_DIFFERENT))
    lines = [[key, *(run.settings.get(key, "(no such key)") for run in runs)] for key in keys]
    differing = [line for line in lines if len(set(line[1:])) > 1]
    if differing:
        heads = ("key", *(run.name for run in runs))
        blocks += [Heading("Keys that differ"), Table(heads, differing, len(heads), long=True)]
    elif len(runs) > 1:
        blocks.append(Text("The runs' configs are the same."))
    for run in runs:
        table = Table(("key", "value"), sorted(run.changed.items()), 2, long=True)
        blocks.append(Details(f"What {run.name} sets differently from the defaults", [table]))
    return blocks


def data(runs: Sequence[Run], options: Options) -> list[Block]:
    """Identities and images of each split, modality and camera; equal data sets are shown once."""
    counted: list[tuple[Block, list[str]]] = []
    for run in runs:
        try:
            block = _counts(run)
        except UserError as error:
            block = Note(f"{run.name}: {error}")
        names = next((names for other, names in counted if other == block), None)
        if names is None:
            counted.append((block, [run.name]))
        else:
            names.append(run.name)
    if len(counted) == 1:
        return [counted[0][0]]
    return [part for block, names in counted for part in (Heading(", ".join(names)), block)]


def _counts(run: Run) -> Table:
    found = run.dataset
    tested = found.query + found.gallery
    rows = []
    for split, items, by_camera in (("training", found.train, False), ("test", tested, True)):
        seen: dict[tuple, list[int]] = {}
        for item, modality in zip(items, modalities_of(found, items)):
            seen.setdefault((modality, item[2] if by_camera else ""), []).append(item[1])
        rows += [
            (split, NAMES[modality], camera, len(set(pids)), f"{len(pids):,}")
            for (modality, camera), pids in sorted(seen.items())
        ]
    return Table(("split", "modality", "camera", "identities", "images"), rows, 3)
