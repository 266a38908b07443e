"""Where a training step's time goes, and what bounds it."""

import time
from typing import Any

import torch
from tabulate import tabulate
from torch.profiler import ProfilerActivity, profile

from icre.benchmark.loops import Loop
from icre.benchmark.measure import DTYPES, synchronise

_STEPS = 3
_SHOWN = 12
_DATA_BOUND, _GEMM_BOUND = 0.3, 0.5  # shares from which a step counts as bound by data, by GEMM


def gemm_peaks(device: torch.device, precisions: set[str]) -> dict[str, float]:
    """FLOP/s of large matrix products in float32, bfloat16 and the loops' precisions."""
    wanted = [name for name in DTYPES if name in {"fp32", "bf16"} | precisions]
    return {name: gemm_peak(device, DTYPES[name]) for name in wanted}


def gemm_peak(device: torch.device, dtype: torch.dtype, seconds: float = 0.3) -> float:
    """FLOP/s of the best of several large square matrix products on the device.

    On a GPU float32 products are measured as cuDNN's convolutions run (TF32 where it is allowed).
    """
    size = 8192 if device.type == "cuda" else 1024
    first, second = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    matmul, best = torch.backends.cuda.matmul, float("inf")
    before, matmul.allow_tf32 = matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    try:
        first @ second  # the first one also initialises libraries
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


def costliest_operations(loop: Loop, device: torch.device) -> list[dict[str, Any]]:
    """The operations that take most of a step, by their own time on the device, longest first.

    Returns:
        Dicts of `operation`, `calls` per step, `ms` per step and `share` of all operations.
    """
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu
    with profile(activities=activities) as record:
        for _ in range(_STEPS):
            loop.step()
        synchronise(device)
    own_time = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    times = {event.key: (event.count, getattr(event, own_time)) for event in record.key_averages()}
    total = sum(microseconds for _, microseconds in times.values()) or 1.0
    longest = sorted(times, key=lambda key: -times[key][1])[:_SHOWN]
    return [
        {
            "operation": key,
            "calls": times[key][0] / _STEPS,
            "ms": times[key][1] / 1000 / _STEPS,
            "share": times[key][1] / total,
        }
        for key in longest
    ]


def bound(row: dict[str, Any], peaks: dict[str, float]) -> str:
    """One line: the step's FLOP/s beside the device's, and what therefore bounds the step."""
    achieved = 1000 * row["step_flops"] / row["step_ms"]
    share = achieved / peaks[row["precision"]]
    split = row["split_ms"]
    if split["data"] >= _DATA_BOUND * sum(split.values()):
        reason = "loading and moving data"
    elif share >= _GEMM_BOUND:
        reason = "arithmetic"
    else:
        reason = "memory traffic, small operations and their launches"
    return (
        f"{row['name']}: {row['step_flops'] / 1e9:.1f} GFLOP in {row['step_ms']:.1f} ms = "
        f"{_si(achieved)}, {100 * share:.0f} % of a {row['precision']} matrix product's; "
        f"bound by {reason}"
    )


def text(result: dict[str, Any]) -> str:
    """The profiles of a result of `train`, and what bounds each row."""
    peaks = result["gemm_flops"]
    products = ", ".join(f"{name} {_si(value)}" for name, value in peaks.items())
    lines = [f"Large matrix products on this device: {products}"]
    lines += [bound(row, peaks) for row in result["rows"]]
    for row in result["rows"]:
        table = [
            {
                "operation": one["operation"][:60],
                "calls": f"{one['calls']:.0f}",
                "ms": f"{one['ms']:.2f}",
                "share": f"{100 * one['share']:.1f} %",
            }
            for one in row["profile"]
        ]
        lines += [
            "",
            f"{row['name']}, per step:",
            tabulate(table, headers="keys", tablefmt="github", disable_numparse=True),
        ]
    return "\n".join(lines)


def _si(flops: float) -> str:
    return f"{flops / 1e12:.1f} TFLOP/s" if flops >= 1e12 else f"{flops / 1e9:.0f} GFLOP/s"
