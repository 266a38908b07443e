"""`tools/benchmark.py train`: training steps of several loops, in turn, on the same data."""

import argparse
from collections.abc import Callable
from statistics import fmean, median
from time import perf_counter, process_time
from typing import Any

import torch
from tabulate import tabulate
from tqdm import tqdm

from icre.benchmark import profile
from icre.benchmark.measure import PARTS, count_flops, synchronise, warm_and_peak
from icre.benchmark.options import (
    add_row_arguments,
    read_setup,
    reference_of,
    row_builders,
    shared_facts,
)
from icre.benchmark.rows import Row, Setup, random_batches
from icre.evaluation import records
from icre.utils.environment import environment


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-command's options."""
    add_row_arguments(parser)
    parser.add_argument("--batch", type=int, help="images per step (default: the first config's)")
    parser.add_argument(
        "--data",
        metavar="ROOT",
        help="DATASETS.ROOT of images that each loop loads in its own way "
        "(default: random images in memory, not augmented)",
    )
    parser.add_argument(
        "--profile",
        action="store_true",
        help="also each row's dearest operations, and what bounds its step",
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Time all rows, print the table and write the result.

    The images per second are of whole runs of steps that nothing interrupts. The split comes from
    further steps that wait for the device between their parts; it adds up to those steps' time.
    """
    setup = read_setup(args, args.batch, args.data)
    builders, left_out = row_builders(args, setup)
    reference = reference_of(args, list(builders))
    torch.backends.cudnn.benchmark = True  # as the public loops and configs/Base-VI.yml set it
    rows, facts = {}, {}
    for name in tqdm(builders, "building and warming up", leave=False, disable=None):
        rows[name], facts[name] = _build(builders[name], setup)
    rates, cpu_ms, splits = _alternate(rows, setup, args.steps, args.rounds)
    for name in rows:
        ratios = [mine / other for mine, other in zip(rates[name], rates[reference])]
        facts[name] |= {
            "images_per_second": median(rates[name]),
            "rounds": rates[name],
            "ratio": median(ratios),
            "step_ms": 1000 * setup.batch / median(rates[name]),
            "cpu_ms": median(cpu_ms[name]),
            "split_ms": {part: 1000 * fmean(one[part] for one in splits[name]) for part in PARTS},
        }
    result = (
        environment()
        | shared_facts(setup)
        | {
            "benchmark": "train",
            "batch": setup.batch,
            "steps": args.steps,
            "reference": reference,
            "rows": list(facts.values()),
            "left_out": left_out,
        }
    )
    if args.profile:
        precisions = {row.precision for row in rows.values()}
        result["gemm_flops"] = profile.gemm_peaks(setup.device, precisions)
        for name, row in rows.items():
            facts[name]["profile"] = profile.dearest(row, setup.device)
    print(text(result))
    if args.json:
        records.save(result, args.json)
    return result


def _alternate(
    rows: dict[str, Row], setup: Setup, steps: int, rounds: int
) -> tuple[dict[str, list[float]], dict[str, list[float]], dict[str, list[dict[str, float]]]]:
    """Per row and round: images per second, CPU milliseconds of a step, seconds of its parts.

    The rows take turns. Each first uses up what its workers have loaded while others ran.
    """
    rates, cpu_ms, splits = ({name: [] for name in rows} for _ in range(3))
    with tqdm(total=rounds * len(rows), desc="timing", leave=False, disable=None) as bar:
        for _ in range(rounds):
            for name, row in rows.items():
                for _ in range(1 + setup.prefetched):
                    row.step()
                wall, cpu = _time(row, setup, steps)
                rates[name].append(setup.batch / wall)
                cpu_ms[name].append(1000 * cpu)
                splits[name].append(row.marks.split(row.step, steps))
                bar.update()
    return rates, cpu_ms, splits


def _time(row: Row, setup: Setup, steps: int) -> tuple[float, float]:
    """Mean wall seconds and CPU seconds (of this process, without workers) of a step."""
    synchronise(setup.device)
    start, cpu_start = perf_counter(), process_time()
    for _ in range(steps):
        row.step()
    synchronise(setup.device)
    return (perf_counter() - start) / steps, (process_time() - cpu_start) / steps


def _build(build: Callable[[], Row], setup: Setup) -> tuple[Row, dict[str, Any]]:
    """A warm row, and what need not be timed: memory, arithmetic and parameters."""
    row, peak = warm_and_peak(setup.device, build, lambda built: built.step())
    facts = {
        "name": row.name,
        "precision": row.precision,
        "peak_bytes": peak,
        "step_flops": count_flops(row.step),
        "parameters": sum(parameter.numel() for parameter in row.model.parameters()),
    }
    pair = random_batches(setup, 2)[0]  # one image of each modality
    row.test_mode()
    flops = count_flops(lambda: row.extract(pair["images"], pair["modalities"], False))
    row.model.train()
    return row, facts | {"macs_per_image": flops // 4}


def text(result: dict[str, Any]) -> str:
    """The table of a result, with its conditions above and what was left out below."""
    height, width = result["size"]
    lines = [
        f"{result['batch']} images of {height}x{width} per step on {result['device']} "
        f"({result['gpu'] or result['cpu']}, {result['threads']} threads); "
        f"images {result['images']}",
        "",
        tabulate(
            [_line(row, result["reference"]) for row in result["rows"]],
            headers="keys",
            tablefmt="github",
            disable_numparse=True,
        ),
    ]
    if "gemm_flops" in result:
        lines += ["", profile.text(result)]
    return "\n".join([*lines, *result["left_out"]])


def _line(row: dict[str, Any], reference: str) -> dict[str, str]:
    """A row of the result as a line of the table."""
    peak = row["peak_bytes"]
    return {
        "row": row["name"],
        "precision": row["precision"],
        "images/s": f"{row['images_per_second']:.1f}",
        f"x {reference}": f"{row['ratio']:.2f}",
        "step ms": f"{row['step_ms']:.1f}",
        "CPU ms": f"{row['cpu_ms']:.1f}",
        **{f"{part} ms": f"{row['split_ms'][part]:.1f}" for part in PARTS},
        "peak MiB": "-" if peak is None else f"{peak / 2**20:.0f}",
        "GMAC/image": f"{row['macs_per_image'] / 1e9:.2f}",
        "M parameters": f"{row['parameters'] / 1e6:.1f}",
    }
