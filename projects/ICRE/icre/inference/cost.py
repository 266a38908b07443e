"""What each part of a model costs: parameters, multiply-accumulates and milliseconds.

Behind tools/analyze_model.py. Multiply-accumulates are half of the floating-point operations that
`torch.utils.flop_counter` counts: convolutions, matrix products, attention. Norms, pooling and
activations count in the milliseconds alone.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

import torch
from tabulate import tabulate
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from tqdm import trange

import icre.engine  # noqa: F401
from icre.engine.setup import load_config, resolve_device
from icre.engine.trainer import Trainer
from icre.utils import cli
from icre.utils.errors import UserError
from icre.utils.files import replaced

# Modules that only hold others: their parts are the rows.
EXPANDED = ("backbone", "backbone.stages", "enhance")
TITLES = {"enhance.clues": "enhance.clues (MPFR)", "enhance.distil": "enhance.distil (SDCE)"}


@dataclass
class Part:
    """A row.

    Attributes:
        name: of the module in the model.
        parameters: all of them, also those that inference does not use.
        macs: multiply-accumulates of one image's feature.
        ms: milliseconds for one image, out of a batch.
    """

    name: str
    parameters: int
    macs: float
    ms: float


def parts_of(model: nn.Module) -> dict[str, nn.Module]:
    """Name -> module of each row; together they hold every parameter of the model."""
    rows: dict[str, nn.Module] = {}
    pending = list(reversed(list(model.named_children())))
    while pending:
        name, module = pending.pop()
        children = list(module.named_children())
        own = list(module.parameters(recurse=False))
        if name in EXPANDED and children and not own:
            pending += [(f"{name}.{child}", part) for child, part in reversed(children)]
        else:
            rows[name] = module
    return rows


def some_batch(size: int, image: Sequence[int], device: torch.device) -> dict[str, Tensor]:
    """`size` gray images (height, width), of both modalities in turn, as the loaders give them."""
    return {
        "images": torch.full((size, 3, *image), 127.0, device=device),
        "modalities": torch.arange(size) % 2,
        "targets": torch.zeros(size, dtype=torch.long, device=device),
        "camids": torch.zeros(size, dtype=torch.long, device=device),
    }


@torch.no_grad()
def analyze(
    model: nn.Module, batch: Callable[[], dict[str, Tensor]], repeat: int = 5
) -> list[Part]:
    """Cost of every part of `model` in extracting features, and of the whole, in that order.

    A part that calls its own parts one by one (fast-reid's ResNet does) has their sum. What belongs
    to no part, such as the normalisation of the images, is in the last row, `total`, alone.

    Args:
        model: in evaluation mode, on its device.
        batch: makes the images anew for each pass (fast-reid's models change them in place).
        repeat: timed passes, after one that is not; the fastest of each part counts.
    """
    size = len(batch()["images"])
    model.eval()
    counter = FlopCounterMode(display=False)
    with (
        _Clock(model, [name for name, _ in model.named_modules()]) as clock,
        counter,
        sdpa_kernel(SDPBackend.MATH),
    ):  # attention as the products that it is
        model(batch())
    flops = {name: sum(ops.values()) for name, ops in counter.get_flop_counts().items()}
    tops = {
        name: list(_tops(name, module, set(clock.spent)))
        for name, module in parts_of(model).items()
    }
    tops["total"] = [""]
    watched = [top for names in tops.values() for top in names]
    passes = []
    for _ in trange(repeat + 1, desc="passes", disable=None):
        with _Clock(model, watched) as clock:
            model(batch())
        passes.append(clock.spent)

    root, rows = type(model).__name__, []
    for name, names in tops.items():
        module = model if name == "total" else model.get_submodule(name)
        parameters = sum(p.numel() for p in module.parameters())
        if parameters or names:
            operations = sum(flops.get(f"{root}.{top}" if top else "Global", 0) for top in names)
            fastest = min(sum(spent[top] for top in names) for spent in passes[1:])
            title = TITLES.get(name, name)
            rows.append(Part(title, parameters, operations / 2 / size, 1e3 * fastest / size))
    return rows


def _tops(name: str, module: nn.Module, called: set[str]) -> Iterator[str]:
    """Names of the outermost modules from `module` down that a pass calls."""
    if name in called:
        yield name
        return
    for child, part in module.named_children():
        yield from _tops(f"{name}.{child}", part, called)


class _Clock:
    """Seconds spent in the named modules of a model while the block runs; `spent` is by name."""

    def __init__(self, model: nn.Module, names: Sequence[str]):
        self.modules = {name: model.get_submodule(name) for name in names}
        self.spent: dict[str, float] = {}
        self.started: dict[str, float] = {}
        self.cuda = next(model.parameters()).is_cuda

    def __enter__(self) -> "_Clock":
        self.hooks = []
        for name, module in self.modules.items():
            self.hooks.append(module.register_forward_pre_hook(self._start(name)))
            self.hooks.append(module.register_forward_hook(self._stop(name)))
        return self

    def __exit__(self, *exception: object) -> None:
        for hook in self.hooks:
            hook.remove()

    def _now(self) -> float:
        if self.cuda:
            torch.cuda.synchronize()
        return time.perf_counter()

    def _start(self, name: str) -> Callable:
        def hook(*_: object) -> None:
            self.started[name] = self._now()

        return hook

    def _stop(self, name: str) -> Callable:
        def hook(*_: object) -> None:
            self.spent[name] = self.spent.get(name, 0.0) + self._now() - self.started[name]

        return hook


def table(parts: Sequence[Part]) -> str:
    """Rows with readable units."""
    rows = [
        (p.name, f"{p.parameters / 1e6:.3f}", f"{p.macs / 1e9:.3f}", f"{p.ms:.2f}") for p in parts
    ]
    heads = ("module", "parameters [M]", "MACs per image [G]", "ms per image")
    return tabulate(
        rows,
        heads,
        tablefmt="github",
        disable_numparse=True,
        colalign=("left", "right", "right", "right"),
    )


def parser() -> argparse.ArgumentParser:
    """Arguments of tools/analyze_model.py."""
    result = argparse.ArgumentParser(description="Parameters, MACs and milliseconds per module.")
    result.add_argument("--config-file", required=True, metavar="FILE")
    result.add_argument("--batch", type=int, default=8, help="images in a pass (8)")
    result.add_argument("--repeat", type=int, default=5, help="timed passes (5)")
    result.add_argument("--json", metavar="FILE", help="write the rows there too")
    result.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE pairs")
    return result


def work(args: argparse.Namespace) -> None:
    """Build the config's model without pretrained weights, and print its table."""
    if args.batch < 1 or args.repeat < 1:
        raise UserError("--batch and --repeat must be at least 1")
    options = [*args.opts, "MODEL.BACKBONE.PRETRAIN", "False"]
    cfg = load_config(args.config_file, options)
    device = resolve_device(cfg.MODEL.DEVICE)
    model = Trainer.build_model(cfg).to(device).eval()
    size = cfg.INPUT.SIZE_TEST
    parts = analyze(model, lambda: some_batch(args.batch, size, device), args.repeat)
    print(
        f"{args.config_file}: {size[0]}x{size[1]}, batches of {args.batch}, {device}, "
        f"{torch.get_num_threads()} threads, classifier of {cfg.MODEL.HEADS.NUM_CLASSES}"
    )
    print(table(parts))
    if args.json:
        with replaced(args.json) as file:
            file.write_text(json.dumps([asdict(p) for p in parts], indent=2) + "\n")


def main(argv: list[str] | None = None) -> int:
    """Parse and run; returns the exit status, and bad input ends in one line."""
    args = parser().parse_args(argv)
    return cli.run(lambda: work(args))
