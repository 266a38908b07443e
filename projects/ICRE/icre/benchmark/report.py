"""What every benchmark result says about where and when it was measured."""

import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy
import torch

import icre
from icre.evaluation.files import replaced


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


def save(result: dict[str, Any], path: str | Path) -> None:
    """Write one benchmark's result as JSON; an interrupted save leaves the old file."""
    with replaced(path) as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n")


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
