"""The report's cost of the models: size and speed."""

from collections.abc import Sequence

import torch

from icre.inference.cost import Part, analyze, some_batch
from icre.inference.run import Run
from icre.modeling.build import build_model
from icre.report.inputs import Options
from icre.report.page import Block, Details, Table
from icre.utils.device import resolve_device

BATCH = 8  # images in a timed pass
_HEADS = ("parameters [M]", "MACs per image [G]", "ms per image")


def cost(runs: Sequence[Run], options: Options) -> list[Block]:
    """Parameters, multiply-accumulates and milliseconds, in whole and by part."""
    rows, details = [], []
    for run in runs:
        parts = _parts(run)
        total = parts[-1]
        size = "x".join(map(str, run.cfg.INPUT.SIZE_TEST))
        per_second = f"{1e3 / total.ms:,.0f}" if total.ms else "-"
        rows.append([run.name, size, run.cfg.MODEL.HEADS.NUM_CLASSES, *_cells(total), per_second])
        lines = [[part.name, *_cells(part)] for part in parts]
        details.append(Details(f"{run.name}, by part", [Table(("part", *_HEADS), lines)]))
    device = resolve_device(runs[0].cfg.MODEL.DEVICE)
    caption = (
        f"Features in batches of {BATCH} on {device}, threads: {torch.get_num_threads()}; "
        "the fastest of 3 passes, one run after the other."
    )
    heads = ("run", "image", "classes", *_HEADS, "images per second")
    return [Table(heads, rows, 2, caption), *details]


def _parts(run: Run) -> list[Part]:
    device = resolve_device(run.cfg.MODEL.DEVICE)
    model = build_model(run.cfg, device)
    size = run.cfg.INPUT.SIZE_TEST
    return analyze(model, lambda: some_batch(BATCH, size, device), repeat=3)


def _cells(part: Part) -> tuple[str, str, str]:
    return f"{part.parameters / 1e6:.2f}", f"{part.macs / 1e9:.3f}", f"{part.ms:.2f}"
