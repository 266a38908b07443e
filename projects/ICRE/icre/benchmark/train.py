"""`benchmark train`: training steps of several loops, in turn, on the same data."""

from collections.abc import Callable
from statistics import fmean, median
from time import perf_counter, process_time
from typing import Any

from tabulate import tabulate

from icre.benchmark import profile
from icre.benchmark.loops import Loop, Setup, random_batches
from icre.benchmark.measure import PARTS, count_flops, or_dash, synchronise, warm_and_peak
from icre.benchmark.setup import Options, conditions, loop_builders, read_setup, reference_row
from icre.benchmark.watch import Watch
from icre.config import load_config
from icre.utils.device import set_precision
from icre.utils.environment import environment


def run(options: Options, with_profile: bool = False, watch: Watch | None = None) -> dict[str, Any]:
    """Time all loops; returns the result.

    The images per second are of whole runs of steps that nothing interrupts; further views of an
    image (INPUT.VIEWS) are not counted. The split comes from further steps that wait for the device
    between their parts; it adds up to those steps' time.

    Args:
        options: of the speed benchmarks.
        with_profile: add each loop's costliest operations, and what bounds its step.
        watch: shows the rows as they are measured.
    """
    watch, setup = watch or Watch(), read_setup(options)
    builders, left_out = loop_builders(options, setup)
    reference = reference_row(options, list(builders))
    cfg = load_config(options.config_file[0], list(options.opts))
    # with the search, as the public loops and configs/Base-VI.yml train
    set_precision(deterministic=cfg.SOLVER.DETERMINISTIC, search=True)
    loops, rows = {}, {}
    # the row that ratios are to cannot be left out
    for name in watch.each(sorted(builders, key=lambda name: name != reference), "loops to build"):
        loops[name], rows[name] = _build(builders[name], setup)
        watch.row(f"{name}: built and warm", peak_bytes=rows[name]["peak_bytes"])
    loops, rows = ({name: of[name] for name in builders if name in of} for of in (loops, rows))
    rates, cpu_ms, splits = _time_in_turn(loops, setup, options.steps, options.rounds, watch)
    for name in loops:
        ratios = [mine / other for mine, other in zip(rates[name], rates[reference])]
        rows[name] |= {
            "images_per_second": median(rates[name]),
            "rounds": rates[name],
            "ratio": median(ratios),
            "step_ms": 1000 * setup.batch / median(rates[name]),
            "cpu_ms": median(cpu_ms[name]),
            "split_ms": {part: 1000 * fmean(one[part] for one in splits[name]) for part in PARTS},
        }
    result = {
        **environment(),
        **conditions(setup),
        "benchmark": "train",
        "batch": setup.batch,
        "steps": options.steps,
        "reference": reference,
        "rows": list(rows.values()),
        "left_out": left_out + watch.left_out,
    }
    if with_profile and not watch.over:
        precisions = {loop.precision for loop in loops.values()}
        result["gemm_flops"] = profile.gemm_peaks(setup.device, precisions)
        for name, loop in loops.items():
            rows[name]["profile"] = profile.costliest_operations(loop, setup.device)
    return result


def _time_in_turn(
    loops: dict[str, Loop], setup: Setup, steps: int, rounds: int, watch: Watch
) -> tuple[dict[str, list[float]], dict[str, list[float]], dict[str, list[dict[str, float]]]]:
    """Per loop and round: images per second, CPU milliseconds of a step, seconds of its parts.

    The loops take turns. Each first uses up what its workers have loaded while others ran.
    """
    rates, cpu_ms, splits = ({name: [] for name in loops} for _ in range(3))
    for number in watch.each(range(1, rounds + 1), "rounds"):
        for name, loop in loops.items():
            for _ in range(1 + setup.prefetched):
                loop.step()
            wall, cpu = _time(loop, setup, steps)
            rates[name].append(setup.batch / wall)
            cpu_ms[name].append(1000 * cpu)
            splits[name].append(loop.timer.split(loop.step, steps))
            rate = rates[name][-1]
            watch.row(f"{name}, round {number}: {rate:.1f} images/s", images_per_second=rate)
    return rates, cpu_ms, splits


def _time(loop: Loop, setup: Setup, steps: int) -> tuple[float, float]:
    """Mean wall seconds and CPU seconds (of this process, without workers) of a step."""
    synchronise(setup.device)
    start, cpu_start = perf_counter(), process_time()
    for _ in range(steps):
        loop.step()
    synchronise(setup.device)
    return (perf_counter() - start) / steps, (process_time() - cpu_start) / steps


def _build(build: Callable[[], Loop], setup: Setup) -> tuple[Loop, dict[str, Any]]:
    """A warm loop, and what need not be timed: memory, arithmetic and parameters."""
    loop, peak = warm_and_peak(setup.device, build, lambda built: built.step())
    row = {
        "name": loop.name,
        "precision": loop.precision,
        "peak_bytes": peak,
        "step_flops": count_flops(loop.step),
        "parameters": sum(parameter.numel() for parameter in loop.model.parameters()),
    }
    pair = random_batches(setup, 2)[0]  # one image of each modality
    loop.eval_mode()
    flops = count_flops(lambda: loop.extract(pair["images"], pair["modalities"], False))
    loop.model.train()
    return loop, row | {"macs_per_image": flops // 4}


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
    return {
        "row": row["name"],
        "precision": row["precision"],
        "images/s": f"{row['images_per_second']:.1f}",
        f"x {reference}": f"{row['ratio']:.2f}",
        "step ms": f"{row['step_ms']:.1f}",
        "CPU ms": f"{row['cpu_ms']:.1f}",
        **{f"{part} ms": f"{row['split_ms'][part]:.1f}" for part in PARTS},
        "peak MiB": or_dash(row["peak_bytes"], ".0f", 2**20),
        "GMAC/image": f"{row['macs_per_image'] / 1e9:.2f}",
        "M parameters": f"{row['parameters'] / 1e6:.1f}",
    }
