"""Cost of each part of a model: parameters, multiply-accumulates and milliseconds.

Multiply-accumulates are half of the floating-point operations that
`torch.utils.flop_counter` counts: convolutions, matrix products, attention. Norms, pooling and
activations count in the milliseconds alone.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from tabulate import tabulate
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from icre.utils.progress import progress_bar

# Modules that only hold others: their parts are the rows.
EXPANDED = ("backbone", "backbone.stages", "enhance")
TITLES = {"enhance.clues": "enhance.clues (MPFR)", "enhance.distil": "enhance.distil (SDCE)"}


@dataclass
class Part:
    """The cost of one module.

    Attributes:
        name: of the module in the model.
        parameters: all of them, also those that inference does not use.
        macs: multiply-accumulates per image, when extracting features.
        ms: milliseconds per image.
    """

    name: str
    parameters: int
    macs: float
    ms: float


def parts_of(model: nn.Module) -> dict[str, nn.Module]:
    """Name -> module of each part; together they hold every parameter of the model."""
    parts: dict[str, nn.Module] = {}
    pending = list(reversed(list(model.named_children())))
    while pending:
        name, module = pending.pop()
        children = list(module.named_children())
        own = list(module.parameters(recurse=False))
        if name in EXPANDED and children and not own:
            pending += [(f"{name}.{child}", inner) for child, inner in reversed(children)]
        else:
            parts[name] = module
    return parts


def some_batch(size: int, image: Sequence[int], device: torch.device) -> dict[str, Tensor]:
    """A batch of `size` gray images (height, width), of both modalities in turn."""
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
    """Cost of every part of `model` when extracting features, and of the whole as the last.

    A part whose `forward` is not called, but those of its own parts (as in fast-reid's ResNet), has
    their sum. What belongs to no part, such as the normalisation of the images, counts in `total`
    only.

    Args:
        model: in evaluation mode, on its device.
        batch: makes a new batch for each pass (fast-reid's models change the images in place).
        repeat: timed passes, after one that is not timed; the fastest of each part counts.
    """
    size = len(batch()["images"])
    model.eval()
    counter = FlopCounterMode(display=False)
    with (
        _Clock(model, [name for name, _ in model.named_modules()]) as clock,
        counter,
        sdpa_kernel(SDPBackend.MATH),  # fused kernels are not counted
    ):
        model(batch())
    flops = {name: sum(ops.values()) for name, ops in counter.get_flop_counts().items()}
    called = {
        name: list(_outermost_called(name, module, set(clock.spent)))
        for name, module in parts_of(model).items()
    }
    called["total"] = [""]
    timed = [inner for names in called.values() for inner in names]
    passes = []
    for _ in progress_bar(range(repeat + 1), "passes"):
        with _Clock(model, timed) as clock:
            model(batch())
        passes.append(clock.spent)

    root, rows = type(model).__name__, []
    for name, names in called.items():
        module = model if name == "total" else model.get_submodule(name)
        parameters = sum(p.numel() for p in module.parameters())
        if parameters or names:
            operations = sum(
                flops.get(f"{root}.{inner}" if inner else "Global", 0) for inner in names
            )
            fastest = min(sum(spent[inner] for inner in names) for spent in passes[1:])
            title = TITLES.get(name, name)
            rows.append(Part(title, parameters, operations / 2 / size, 1e3 * fastest / size))
    return rows


def _outermost_called(name: str, module: nn.Module, called: set[str]) -> Iterator[str]:
    """Names of the outermost modules, from `module` down, whose forward a pass calls."""
    if name in called:
        yield name
        return
    for child, inner in module.named_children():
        yield from _outermost_called(f"{name}.{child}", inner, called)


class _Clock:
    """Context that sums up the seconds spent in the named modules of a model, in `spent`."""

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
    """The parts as a table, in millions, billions and milliseconds."""
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
