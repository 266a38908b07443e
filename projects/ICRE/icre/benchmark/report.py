"""What all benchmarks share: fair timing, and where and when a result was measured."""

import os
import platform
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy
import torch

import icre
from icre.errors import UserError


def alternate(
    sides: dict[str, Callable[[], Any]], rounds: int
) -> tuple[dict[str, Any], dict[str, list[float]], dict[str, list[float]]]:
    """Run the sides in turn, so that a busy minute of the machine hits them all.

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
    for _ in range(rounds):
        for name, side in sides.items():
            start, cpu_start = time.perf_counter(), time.process_time()
            results[name] = side()
            wall[name].append(time.perf_counter() - start)
            cpu[name].append(time.process_time() - cpu_start)
    return results, wall, cpu


def environment() -> dict[str, Any]:
    """Versions, machine (CPU name, cores, GPU) and date in UTC."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "versions": {
            "icre": icre.__version__, "python": platform.python_version(),
            "torch": torch.__version__, "numpy": numpy.__version__,
        },
    }


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
