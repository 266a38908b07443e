"""What all benchmarks share: fair timing."""

import time
from collections.abc import Callable
from typing import Any

from icre.utils.errors import UserError


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
