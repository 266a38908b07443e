"""Time, memory and arithmetic of a piece of work, measured fairly."""

import ctypes
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from icre.benchmark.watch import Watch
from icre.utils.errors import UserError

T = TypeVar("T")

PARTS = ("data", "forward", "backward", "optimiser")  # of a training step
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_PROCESS = Path("/proc/self")


def alternate(
    sides: dict[str, Callable[[], Any]], rounds: int, watch: Watch | None = None
) -> tuple[dict[str, Any], dict[str, list[float]], dict[str, list[float]]]:
    """Run the sides in turn, so that other load on the machine slows all of them alike.

    Args:
        sides: name -> what is timed.
        rounds: at least 1.
        watch: shows each time; None: nothing does.

    Returns:
        Per side its last result, its wall seconds and its CPU seconds, one of each per round.

    Raises:
        UserError: fewer than one round.
    """
    if rounds < 1:
        raise UserError(f"{rounds} rounds: at least 1 is needed")
    results = {}
    wall: dict[str, list[float]] = {name: [] for name in sides}
    cpu: dict[str, list[float]] = {name: [] for name in sides}
    numbers = range(1, rounds + 1)
    for number in watch.each(numbers, "rounds") if watch else numbers:
        for name, side in sides.items():
            start, cpu_start = time.perf_counter(), time.process_time()
            results[name] = side()
            wall[name].append(time.perf_counter() - start)
            cpu[name].append(time.process_time() - cpu_start)
            if watch:
                watch.row(f"{name}, round {number}: {wall[name][-1]:.2f} s", seconds=wall[name][-1])
    return results, wall, cpu


def synchronise(device: torch.device) -> None:
    """Wait until the device has finished all queued work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class StepTimer:
    """Splits a training step into PARTS without changing the training loop.

    `wrap` returns a stand-in for the model that records when the forward pass begins; while `split`
    runs, `Tensor.backward` is patched to record its begin and end. Each record waits for the
    device.

    Args:
        device: of the step.
    """

    def __init__(self, device: torch.device):
        self.device, self.enabled, self.times = device, False, {}

    def mark(self, name: str) -> None:
        """Record the time under `name`."""
        if self.enabled:
            synchronise(self.device)
            self.times[name] = time.perf_counter()

    def wrap(self, model: nn.Module) -> "TimedModel":
        """What the training loop is to call in place of `model`."""
        return TimedModel(model, self)

    def split(self, step: Callable[[], None], steps: int) -> dict[str, float]:
        """Mean seconds of each of PARTS; their sum is the whole (synchronised) step.

        `data` ends where the model is called, `forward` (with losses and zero_grad) where backward
        begins; `optimiser` is all that the loop does after backward.
        """
        sums = dict.fromkeys(PARTS, 0.0)
        with self._patched_backward():
            for _ in range(steps):
                self.mark("data")
                step()
                self.mark("end")
                times = [self.times[name] for name in (*PARTS, "end")]
                for name, begin, end in zip(PARTS, times, times[1:]):
                    sums[name] += (end - begin) / steps
        return sums

    @contextmanager
    def _patched_backward(self) -> Iterator[None]:
        backward = torch.Tensor.backward

        def marked(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> None:
            self.mark("backward")
            backward(tensor, *args, **kwargs)
            self.mark("optimiser")

        torch.Tensor.backward, self.enabled = marked, True
        try:
            yield
        finally:
            torch.Tensor.backward, self.enabled = backward, False


class TimedModel:
    """A model whose calls are recorded as `forward`; all other attributes are the model's own."""

    def __init__(self, model: nn.Module, timer: StepTimer):
        self._model, self._timer = model, timer

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Record the time, then call the model."""
        self._timer.mark("forward")
        return self._model(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


def count_flops(function: Callable[[], Any]) -> int:
    """Floating-point operations of convolutions, matrix products and attention (1 MAC = 2)."""
    with torch.compiler.set_stance("force_eager"):  # the counter does not look into compiled code
        counter = FlopCounterMode(display=False)
        with counter:
            function()
    return counter.get_total_flops()


def peak_memory(work: Callable[[], T]) -> tuple[T, dict[str, int] | None]:
    """Run `work` and measure how far this process's resident memory rose (Linux).

    Returns:
        Its result, and {"rise": bytes above what was held before, "process": bytes of the whole
        process at the peak}; None where the kernel does not report it.
    """
    # Freed memory that the allocator keeps would be reused without a rise.
    getattr(ctypes.CDLL(None), "malloc_trim", int)(0)
    try:
        (_PROCESS / "clear_refs").write_text("5")  # resets VmHWM, see proc(5)
    except OSError:
        return work(), None
    before = _kilobytes("VmRSS")
    result = work()
    peak = _kilobytes("VmHWM")
    return result, {"rise": 1024 * max(0, peak - before), "process": 1024 * peak}


def _kilobytes(name: str) -> int:
    for line in (_PROCESS / "status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    raise RuntimeError(f"no {name} in {_PROCESS}/status")


def warm_and_peak(
    device: torch.device, build: Callable[[], T], use: Callable[[T], Any]
) -> tuple[T, int | None]:
    """Build something, use it three times, and measure the peak of memory above the begin.

    Returns:
        What was built, and bytes: of CUDA's allocator on a GPU (in the last use only, without what
        cuDNN tries out first), else of this process's resident set; None where it is not reported.
    """

    def build_and_use(times: int) -> T:
        built = build()
        for _ in range(times):
            use(built)
        return built

    if device.type != "cuda":
        built, peak = peak_memory(lambda: build_and_use(3))
        return built, peak and peak["rise"]
    begin = torch.cuda.memory_allocated(device)
    built = build_and_use(2)
    torch.cuda.reset_peak_memory_stats(device)
    use(built)
    return built, torch.cuda.max_memory_allocated(device) - begin


def or_dash(value: float | None, form: str, unit: float = 1) -> str:
    """A number in so many units, formatted, for a table; a dash where it was not measured."""
    return "-" if value is None else format(value / unit, form)
