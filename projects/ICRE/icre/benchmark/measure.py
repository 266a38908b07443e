"""What a step costs: time and its parts, memory, arithmetic; and what the device could do."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from icre.benchmark.memory import peak_memory

T = TypeVar("T")

PARTS = ("data", "forward", "backward", "optimiser")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all it was told to."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Marks:
    """Points of time within a step, for the split; each waits for the device while it is watched.

    A training loop stays as it is: `seen` stands in its model's place and marks where the forward
    pass begins, and while `watch` lasts `Tensor.backward` marks its own begin and end.

    Args:
        device: of the step.
    """

    def __init__(self, device: torch.device):
        self.device, self.watched, self.times = device, False, {}

    def at(self, name: str) -> None:
        """Note the time under `name`."""
        if self.watched:
            synchronise(self.device)
            self.times[name] = time.perf_counter()

    def seen(self, model: nn.Module) -> "SeenModel":
        """What to call in place of `model`."""
        return SeenModel(model, self)

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Note the marks of what runs meanwhile."""
        backward = torch.Tensor.backward

        def marked(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> None:
            self.at("backward")
            backward(tensor, *args, **kwargs)
            self.at("optimiser")

        torch.Tensor.backward, self.watched = marked, True
        try:
            yield
        finally:
            torch.Tensor.backward, self.watched = backward, False

    def split(self, step: Callable[[], None], steps: int) -> dict[str, float]:
        """Mean seconds of each of PARTS; together they are the whole (synchronised) step.

        `data` ends where the model is called, `forward` (with losses and zero_grad) where backward
        begins; `optimiser` is all that the loop does after backward.
        """
        sums = dict.fromkeys(PARTS, 0.0)
        with self.watch():
            for _ in range(steps):
                self.at("data")
                step()
                self.at("end")
                times = [self.times[name] for name in (*PARTS, "end")]
                for name, begin, end in zip(PARTS, times, times[1:]):
                    sums[name] += (end - begin) / steps
        return sums


class SeenModel:
    """A model whose calls leave the mark `forward`; everything else is the model's own."""

    def __init__(self, model: nn.Module, marks: Marks):
        self._model, self._marks = model, marks

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Mark, then call the model."""
        self._marks.at("forward")
        return self._model(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


def warm_and_peak(
    device: torch.device, build: Callable[[], T], use: Callable[[T], Any]
) -> tuple[T, int | None]:
    """Build something, use it three times, and see how far memory rose above the begin.

    Returns:
        What was built, and bytes: of CUDA's allocator on a GPU (in the last use, so without what
        cuDNN tries out first), else of this process's resident set; None where that is not told.
    """

    def warmed() -> T:
        built = build()
        use(built)
        use(built)
        return built

    if device.type != "cuda":
        built, found = peak_memory(lambda: _used(warmed(), use))
        return built, found and found["rise"]
    begin = torch.cuda.memory_allocated(device)
    built = warmed()
    torch.cuda.reset_peak_memory_stats(device)
    use(built)
    return built, torch.cuda.max_memory_allocated(device) - begin


def _used(built: T, use: Callable[[T], Any]) -> T:
    use(built)
    return built


def count_flops(function: Callable[[], Any]) -> int:
    """Floating-point operations of convolutions, matrix products and attention (1 MAC = 2)."""
    with torch.compiler.set_stance("force_eager"):  # the counter does not look into compiled code
        counter = FlopCounterMode(display=False)
        with counter:
            function()
    return counter.get_total_flops()


def gemm_peak(device: torch.device, dtype: torch.dtype, seconds: float = 0.3) -> float:
    """FLOP/s of the best of several large square matrix products on the device.

    On a GPU float32 products are measured as cuDNN's convolutions run (TF32 where it is allowed).
    """
    size = 8192 if device.type == "cuda" else 1024
    first, second = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    matmul, best = torch.backends.cuda.matmul, float("inf")
    before, matmul.allow_tf32 = matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    try:
        first @ second  # the first one also sets libraries up
        end = time.perf_counter() + seconds
        while best == float("inf") or time.perf_counter() < end:
            synchronise(device)
            start = time.perf_counter()
            first @ second
            synchronise(device)
            best = min(best, time.perf_counter() - start)
    finally:
        matmul.allow_tf32 = before
    return 2 * size**3 / best
