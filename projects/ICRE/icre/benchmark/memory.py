"""Peak memory of a piece of work, as the kernel counts it (Linux)."""

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

_PROCESS = Path("/proc/self")


def peak_memory(work: Callable[[], Any]) -> tuple[Any, dict[str, int] | None]:
    """Run `work` and see how far the resident memory rose.

    Returns:
        Its result, and {"rise": bytes above what was held before, "process": bytes of the whole
        process at the peak}; None where the kernel does not tell.
    """
    # Freed memory that the allocator keeps would be used again unseen.
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
