"""`tools/benchmark.py infer`: feature extraction of the same rows, in turn, on random images."""

import argparse
from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

import torch
from tabulate import tabulate
from tqdm import tqdm

from icre.benchmark.measure import warm_and_peak
from icre.benchmark.options import (
    Builders,
    add_row_arguments,
    read_setup,
    reference_of,
    row_builders,
    shared_facts,
)
from icre.benchmark.rows import Row, Setup, random_batches
from icre.evaluation import records
from icre.utils.environment import environment
from icre.utils.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-command's options."""
    add_row_arguments(parser)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 64], help="sizes (1 64)")
    parser.add_argument("--flip", action="store_true", help="average with the mirrored images")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Time all rows at each batch size, print a table and write the result.

    Every call ends with the features on the host, so no device is left working unseen.
    """
    if min(args.batches) < 1:
        raise UserError(f"--batches {min(args.batches)}: at least 1 is needed")
    setup = read_setup(args, 4, None)  # the training batch does not matter here
    builders, left_out = row_builders(args, setup)
    reference = reference_of(args, list(builders))
    torch.backends.cudnn.benchmark = True
    results = []
    for size in args.batches:
        results += _measure(builders, setup, size, args, reference)
    result = (
        environment()
        | shared_facts(setup)
        | {
            "benchmark": "infer",
            "flip": args.flip,
            "steps": args.steps,
            "reference": reference,
            "rows": results,
            "left_out": left_out,
        }
    )
    print(text(result))
    if args.json:
        records.save(result, args.json)
    return result


def _measure(
    builders: Builders, setup: Setup, size: int, args: argparse.Namespace, reference: str
) -> list[dict[str, Any]]:
    """The lines of one batch size."""
    batch = random_batches(setup, size)[0]

    def extract(row: Row) -> torch.Tensor:
        return row.extract(batch["images"], batch["modalities"], args.flip)

    def ready(build: Callable[[], Row]) -> Row:
        row = build()
        row.test_mode()
        return row

    rows, peaks = {}, {}
    for name, build in builders.items():
        rows[name], peaks[name] = warm_and_peak(setup.device, lambda: ready(build), extract)
    rates: dict[str, list[float]] = {name: [] for name in rows}
    turns, title = args.rounds * len(rows), f"batches of {size}"
    with tqdm(total=turns, desc=title, leave=False, disable=None) as bar:
        for _ in range(args.rounds):
            for name, row in rows.items():
                rates[name].append(_rate(lambda: extract(row), size, args.steps))
                bar.update()
    return [
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
            "peak MiB": "-" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 2**20:.0f}",
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
