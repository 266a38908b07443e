"""Where and when a result was measured."""

import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy
import torch

import icre


def environment() -> dict[str, Any]:
    """Versions, machine (CPU name, cores, GPU) and date in UTC."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "versions": {
            "icre": icre.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": numpy.__version__,
        },
    }


def precision(dtype: torch.dtype) -> dict[str, Any]:
    """How a training computes, once `icre.utils.device.set_precision` has been called.

    Args:
        dtype: of its convolutions and matrix products (SOLVER.AMP).
    """
    cudnn = torch.backends.cudnn
    return {
        "precision": str(dtype).removeprefix("torch."),
        "tf32": {
            "convolutions": cudnn.allow_tf32,
            "matrix_products": torch.backends.cuda.matmul.allow_tf32,
            "evaluation": False,
        },
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "cudnn_benchmark": cudnn.benchmark,
    }


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
