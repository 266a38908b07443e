"""The report's cost of the models: size and speed."""

from collections.abc import Sequence

import torch

from icre.engine.setup import resolve_device
from icre.engine.trainer import Trainer
from icre.inference.cost import Part, analyze, some_batch
from icre.report import page
from icre.report.runs import Options, Run

BATCH = 8  # images in a timed pass


def cost(runs: Sequence[Run], options: Options) -> str:
    """Parameters, multiply-accumulates and milliseconds, in whole and by part."""
    rows, parts_of = [], {}
    for run in runs:
        parts = _parts(run)
        whole, classifier = parts[-1], run.cfg.MODEL.HEADS.NUM_CLASSES
        parts_of[run.name] = parts
        size = "x".join(map(str, run.cfg.INPUT.SIZE_TEST))
        rows.append(
            [
                run.name,
                size,
                classifier,
                *_cells(whole),
                f"{1e3 / whole.ms:,.0f}" if whole.ms else "-",
            ]
        )
    device = resolve_device(runs[0].cfg.MODEL.DEVICE)
    caption = (
        f"Features in batches of {BATCH} on {device}, threads: {torch.get_num_threads()}; "
        "the fastest of 3 passes, one run after the other."
    )
    heads = ("parameters [M]", "MACs per image [G]", "ms per image")
    tables = [
        page.table(("run", "image", "classes", *heads, "images per second"), rows, 2, caption)
    ]
    for name, parts in parts_of.items():
        lines = [[part.name, *_cells(part)] for part in parts]
        tables.append(page.details(f"{name}, by part", page.table(("part", *heads), lines)))
    return "".join(tables)


def _parts(run: Run) -> list[Part]:
    device = resolve_device(run.cfg.MODEL.DEVICE)
    model = Trainer.build_model(run.cfg).to(device)
    size = run.cfg.INPUT.SIZE_TEST
    return analyze(model, lambda: some_batch(BATCH, size, device), repeat=3)


def _cells(part: Part) -> tuple[str, str, str]:
    return f"{part.parameters / 1e6:.2f}", f"{part.macs / 1e9:.3f}", f"{part.ms:.2f}"
