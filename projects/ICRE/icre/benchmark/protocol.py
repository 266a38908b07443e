"""`tools/benchmark.py protocol`: SYSU-MM01's six settings, one vectorised pass against loops."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from icre.benchmark.loop_protocol import loop_score
from icre.benchmark.report import alternate
from icre.datasets.protocol import settings
from icre.evaluation import records
from icre.evaluation.features import FeatureSet
from icre.evaluation.matlab import Permutation, read_permutation
from icre.evaluation.score import score
from icre.utils.environment import environment
from icre.utils.errors import UserError

_AGREEMENT = 1e-6  # percentage points; both sides sum the same float64 values in another order


def add_arguments(parser: argparse.ArgumentParser, golden: Path) -> None:
    """Declare the sub-command's options; `golden` is the default feature file."""
    parser.add_argument("--features", default=golden, help="SYSU-MM01 features (default: golden)")
    parser.add_argument("--perm", help="rand_perm_cam.mat (default: a seeded stand-in)")
    parser.add_argument("--repeat", type=int, default=2, help="rounds, each side once a round (2)")
    parser.add_argument("--device", default="cpu", help="device of the vectorised side")
    parser.add_argument("--json", help="where to write the result")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Time both sides in turn, compare their figures, print the ratio and write it.

    Raises:
        UserError: the features are not SYSU-MM01's.
        RuntimeError: the two sides disagree; a speed of wrong numbers is worth nothing.
    """
    data = FeatureSet.load(args.features).ordered()
    if data.layout != "sysu":
        raise UserError(f"{args.features}: the benchmark needs features of SYSU-MM01's images")
    perm = read_permutation(args.perm) if args.perm else stand_in_permutation(data)
    pairs = settings("sysu", None, None, official=True)
    sides: dict[str, Callable[[], list[dict[str, float]]]] = {
        "vectorised": lambda: [_means(one) for one in score(data, perm=perm, device=args.device)],
        "loops": lambda: [
            _loop_means(loop_score(data, name, draw, perm))
            for name, draw in tqdm(pairs, desc="loops", leave=False)
        ],
    }
    figures, seconds, cpu_seconds = alternate(sides, args.repeat)
    _check_equal(figures["vectorised"], figures["loops"])
    ratio = float(np.median(seconds["loops"]) / np.median(seconds["vectorised"]))
    for name in sides:
        wall, cpu = np.median(seconds[name]), np.median(cpu_seconds[name])
        print(f"{name:>10}: {wall:7.2f} s, {cpu:7.2f} s of CPU (median of {args.repeat})")
    print(f"     ratio: {ratio:7.1f}x over {len(pairs)} settings, figures equal")
    result = environment() | {
        "benchmark": "protocol",
        "device": args.device,
        "threads": torch.get_num_threads(),
        "images": len(data),
        "dimensions": data.features.shape[1],
        "settings": len(pairs),
        "permutation": "rand_perm_cam" if args.perm else "seeded stand-in",
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "ratio": ratio,
    }
    if args.json:
        records.save(result, args.json)
    return result


def stand_in_permutation(data: FeatureSet, trials: int = 10, seed: int = 0) -> Permutation:
    """Random permutations of the data's own counts: the official file's work, not its draws."""
    generator = np.random.default_rng(seed)
    keys, counts = np.unique(np.stack([data.pids, data.camids], 1), axis=0, return_counts=True)
    return {
        (int(pid), int(camid)): np.array([generator.permutation(count) for _ in range(trials)])
        for (pid, camid), count in zip(keys, counts)
    }


def _means(record: dict[str, Any]) -> dict[str, float]:
    return {name: value["mean"] for name, value in record.items() if isinstance(value, dict)}


def _loop_means(trials: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([trial[name] for trial in trials])) for name in trials[0]}


def _check_equal(ours: list[dict[str, float]], loops: list[dict[str, float]]) -> None:
    for fast, slow in zip(ours, loops):
        for name, value in fast.items():
            if abs(value - slow[name]) > _AGREEMENT:
                raise RuntimeError(f"{name}: vectorised {value}, loops {slow[name]}")
