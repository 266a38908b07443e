"""`benchmark infer`: feature extraction of several loops, in turn, on random images."""

from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any

import torch
from tabulate import tabulate

from icre.benchmark.loops import Loop, Setup, random_batches
from icre.benchmark.measure import or_dash, warm_and_peak
from icre.benchmark.setup import (
    Builders,
    Options,
    conditions,
    loop_builders,
    read_setup,
    reference_row,
)
from icre.benchmark.watch import Watch
from icre.utils.environment import environment
from icre.utils.errors import UserError


def run(
    options: Options, batches: Sequence[int], flip: bool = False, watch: Watch | None = None
) -> dict[str, Any]:
    """Time all loops at each batch size; returns the result.

    Every call ends with the features on the host, so that no work of the device is left untimed.

    Args:
        options: of the speed benchmarks.
        batches: sizes of the batches.
        flip: average with the mirrored images.
        watch: shows the rows as they are measured.
    """
    if min(batches) < 1:
        raise UserError(f"--batches {min(batches)}: at least 1 is needed")
    watch, setup = watch or Watch(), read_setup(options)
    builders, left_out = loop_builders(options, setup)
    reference = reference_row(options, list(builders))
    torch.backends.cudnn.benchmark = True
    rows = []
    for size in watch.each(batches, "sizes of batches", lambda size: 1 + size / 16):
        rates, peaks = _measure(builders, setup, size, flip, options, watch)
        rows += [
            {
                "name": name,
                "batch": size,
                "images_per_second": median(mine),
                "rounds": mine,
                "ms_per_image": 1000 / median(mine),
                "peak_bytes": peaks[name],
                "ratio": median(one / other for one, other in zip(mine, rates[reference])),
            }
            for name, mine in rates.items()
        ]
    return {
        **environment(),
        **conditions(setup),
        "benchmark": "infer",
        "flip": flip,
        "steps": options.steps,
        "reference": reference,
        "rows": rows,
        "left_out": left_out + watch.left_out,
    }


def _measure(
    builders: Builders, setup: Setup, size: int, flip: bool, options: Options, watch: Watch
) -> tuple[dict[str, list[float]], dict[str, int | None]]:
    """Images per second of each loop in each round, and its peak of memory in bytes."""
    batch = random_batches(setup, size)[0]

    def extract(loop: Loop) -> torch.Tensor:
        return loop.extract(batch["images"], batch["modalities"], flip)

    def in_eval_mode(builder: Callable[[], Loop]) -> Loop:
        loop = builder()
        loop.eval_mode()
        return loop

    loops, peaks = {}, {}
    for name, builder in builders.items():
        loops[name], peaks[name] = warm_and_peak(
            setup.device, partial(in_eval_mode, builder), extract
        )
    rates: dict[str, list[float]] = {name: [] for name in loops}
    for number in watch.each(range(1, options.rounds + 1), f"rounds with batches of {size}"):
        for name, loop in loops.items():
            rate = _rate(partial(extract, loop), size, options.steps)
            rates[name].append(rate)
            text = f"{name}, batches of {size}, round {number}: {rate:.1f} images/s"
            watch.row(text, images_per_second=rate)
    return rates, peaks


def _rate(extract: Callable[[], Any], size: int, steps: int) -> float:
    """Images per second of `steps` calls after one that is not timed."""
    extract()
    start = perf_counter()
    for _ in range(steps):
        extract()
    return size * steps / (perf_counter() - start)


def text(result: dict[str, Any]) -> str:
    """The table of a result, with its conditions above and what was left out below."""
    height, width = result["size"]
    lines = [
        {
            "row": row["name"],
            "batch": str(row["batch"]),
            "images/s": f"{row['images_per_second']:.1f}",
            f"x {result['reference']}": f"{row['ratio']:.2f}",
            "ms/image": f"{row['ms_per_image']:.2f}",
            "peak MiB": or_dash(row["peak_bytes"], ".0f", 2**20),
        }
        for row in result["rows"]
    ]
    head = (
        f"features of {height}x{width} images on {result['device']} "
        f"({result['gpu'] or result['cpu']}, {result['threads']} threads), "
        f"{'with' if result['flip'] else 'without'} mirrored images"
    )
    table = tabulate(lines, headers="keys", tablefmt="github", disable_numparse=True)
    return "\n".join([head, "", table, *result["left_out"]])
