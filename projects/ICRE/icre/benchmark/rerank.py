"""`tools/benchmark.py rerank`: re-ranking against fast-reid's own two functions, by size."""

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from tabulate import tabulate
from torch import Tensor
from tqdm import tqdm

from icre.benchmark import fastreid_rerank
from icre.benchmark.clusters import clustered
from icre.benchmark.memory import peak_memory
from icre.benchmark.report import alternate
from icre.benchmark.rerank_plot import save_plot
from icre.evaluation import records
from icre.evaluation.neighbours import nearest
from icre.evaluation.rerank import mix, path_for, rerank, whole
from icre.evaluation.rerank_options import Reranking
from icre.utils.environment import environment
from icre.utils.errors import UserError

K1, K2, LAMBDA = 20, 6, 0.3
FEW, HALF = 0.038, 0.5  # shares of queries: 3,800 among 100,000, and as many as there are others
_TOLERANCE = 1e-4
# Two searches order images whose distances are equal but for rounding differently.
_MAY_DIFFER = 1e-3
_REPEAT_UP_TO = 10_000  # images; a larger size is run once for time and memory
Sides = dict[str, Callable[[], np.ndarray]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-command's options."""
    parser.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        default=[1000, 4000, 10_000, 30_000, 100_000],
        metavar="N",
        help="images, queries and gallery together (1000 4000 10000 30000 100000)",
    )
    parser.add_argument(
        "--theirs-up-to",
        type=int,
        default=10_000,
        metavar="N",
        help="largest size for fast-reid: it holds three dense N x N matrices (10000)",
    )
    parser.add_argument("--dimensions", type=int, default=256, help="of a feature (256)")
    parser.add_argument("--repeat", type=int, default=2, help="rounds up to 10,000 images (2)")
    parser.add_argument("--seed", type=int, default=0, help="of the features")
    parser.add_argument("--device", default="cpu", help="device of our side")
    parser.add_argument("--json", help="where to write the result")
    parser.add_argument("--plot", help="where to draw time and memory over N (.png)")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Time both sides in turn at every size, compare what they give, print, write and draw it.

    Raises:
        UserError: a size of fewer than 100 images.
        RuntimeError: the two sides disagree; a speed of wrong numbers is worth nothing.
    """
    if min(args.sizes) < 100:
        raise UserError(f"--sizes {min(args.sizes)}: at least 100 images are needed")
    if args.repeat < 1:
        raise UserError(f"--repeat {args.repeat}: at least 1 round is needed")
    _ours(torch.from_numpy(clustered(100, 16)).to(args.device), 4, "fastreid", 0.0)  # compiles
    rows = [_one_size(size, args) for size in tqdm(sorted(args.sizes), "sizes", disable=None)]
    result = environment() | {
        "benchmark": "rerank",
        "device": args.device,
        "threads": torch.get_num_threads(),
        "dimensions": args.dimensions,
        "seed": args.seed,
        "k1": K1,
        "k2": K2,
        "lambda": LAMBDA,
        "features": "clusters of 20 images, within/between ratio 1.5 (benchmark/clusters.py)",
        "sizes": rows,
    }
    print(report(rows))
    if args.json:
        records.save(result, args.json)
    if args.plot:
        save_plot(result, args.plot)
    return result


def report(rows: list[dict[str, Any]]) -> str:
    """Render the result for people."""
    table = [
        {
            "N": one["images"],
            "job": job["job"],
            "ours, s": f"{job['ours']:.3f}",
            "theirs, s": _or_dash(job["theirs"], ".2f"),
            "ratio": _or_dash(job["ratio"], ".1f"),
            "ours, MB": _or_dash(job["ours_memory"], ".0f", 1e6),
            "theirs, MB": _or_dash(job["theirs_memory"], ".0f", 1e6),
            "entries that differ": _or_dash(job["differ"], ".1e"),
        }
        for one in rows
        for job in one["jobs"]
    ]
    return tabulate(table, headers="keys", tablefmt="github", disable_numparse=True)


def _one_size(size: int, args: argparse.Namespace) -> dict[str, Any]:
    features = torch.from_numpy(clustered(size, args.dimensions, seed=args.seed))
    theirs_too, few = size <= args.theirs_up_to, round(FEW * size)
    near, _ = nearest(features, K1 + 1)
    placed = features.to(args.device)
    jobs: dict[str, tuple[Callable, Callable]] = {
        "fastreid": (
            lambda: _ours(placed, few, "fastreid", 0.0),
            lambda: fastreid_rerank.jaccard(features, few, K1, K2),
        ),
        "fastreid, half are queries": (
            lambda: _ours(placed, size // 2, "fastreid", 0.0),
            lambda: fastreid_rerank.jaccard(features, size // 2, K1, K2),
        ),
        "fastreid after the search": (
            lambda: _after_search(placed, few, near.to(args.device)),
            lambda: fastreid_rerank.jaccard_after_search(features, few, K1, K2, near.numpy()),
        ),
        "original": (
            lambda: _ours(placed, few, "original", LAMBDA),
            lambda: fastreid_rerank.original(features, few, K1, K2, LAMBDA),
        ),
    }
    rounds = args.repeat if size <= _REPEAT_UP_TO else 0
    return {
        "images": size,
        "queries": few,
        "rounds": max(rounds, 1),
        "jobs": [
            _measure(
                name, {"ours": ours, "theirs": theirs} if theirs_too else {"ours": ours}, rounds
            )
            for name, (ours, theirs) in jobs.items()
            # half of 100,000 would make 10 GB, and there is nothing to compare it with
            if theirs_too or "half" not in name
        ],
    }


def _measure(name: str, sides: Sides, rounds: int) -> dict[str, Any]:
    """Memory in a first round, whose time counts where it is the only one; then the times."""
    found, seconds, cpu_seconds = {}, {}, {}
    for side, work in sides.items():
        start, cpu_start = time.perf_counter(), time.process_time()
        found[side] = peak_memory(work)
        seconds[side] = [time.perf_counter() - start]
        cpu_seconds[side] = [time.process_time() - cpu_start]
    differ = None
    if "theirs" in sides:
        difference = np.abs(found["ours"][0] - found["theirs"][0])
        differ = float((difference > _TOLERANCE).mean())
        if differ > (0 if "after" in name else _MAY_DIFFER):
            raise RuntimeError(f"{name}: {differ:.2e} of the entries differ by over {_TOLERANCE}")
        del difference
    memory = {side: peak and peak["rise"] for side, (_, peak) in found.items()}
    process = found["ours"][1] and found["ours"][1]["process"]
    del found
    if rounds:
        _, seconds, cpu_seconds = alternate(sides, rounds)
    median = {side: float(np.median(values)) for side, values in seconds.items()}
    return {
        "job": name,
        "ours": median["ours"],
        "theirs": median.get("theirs"),
        "ratio": median["theirs"] / median["ours"] if "theirs" in median else None,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "differ": differ,
        "ours_memory": memory["ours"],
        "theirs_memory": memory.get("theirs"),
        "ours_process_memory": process,
    }


def _ours(features: Tensor, queries: int, algorithm: str, lambda_value: float) -> np.ndarray:
    return (
        rerank(
            features[:queries],
            features[queries:],
            algorithm=algorithm,
            k1=K1,
            k2=K2,
            lambda_value=lambda_value,
        )
        .cpu()
        .numpy()
    )


def _after_search(features: Tensor, queries: int, near: Tensor) -> np.ndarray:
    choice = Reranking("fastreid", K1, K2, 0.0)
    blocks = mix(path_for(features.device), choice, features, queries, near, None)
    return whole(blocks, queries, len(features) - queries).cpu().numpy()


def _or_dash(value: float | None, form: str, unit: float = 1) -> str:
    return "-" if value is None else format(value / unit, form)
