"""`benchmark protocol`: SYSU-MM01's six settings, one vectorised pass against loops."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from icre.benchmark.measure import alternate
from icre.benchmark.watch import Watch
from icre.datasets.protocol import settings
from icre.datasets.sysu import Permutation, read_permutation
from icre.evaluation.features import FeatureSet
from icre.evaluation.score import score
from icre.utils.device import resolve_device
from icre.utils.environment import environment
from icre.utils.errors import UserError
from icre.utils.progress import progress_bar

# Both come with the repository's tests, and are not installed.
_TESTS = Path(__file__).resolve().parents[4] / "tests"
GOLDEN = _TESTS / "golden/sysu.npz"
REFERENCE = _TESTS / "reference/loop_protocol.py"
_AGREEMENT = 1e-6  # percentage points; both sides sum the same float64 values in another order


def run(
    features: str | Path | None = None,
    permutation: str | Path | None = None,
    repeat: int = 2,
    device: str = "cpu",
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Time both sides in turn and compare their metrics; returns the result.

    Args:
        features: SYSU-MM01 features; None: the tests' golden file.
        permutation: rand_perm_cam.mat; None: seeded stand-ins of the data's own counts.
        repeat: rounds.
        device: of the vectorised side.
        watch: shows the rows as they are measured.

    Raises:
        UserError: the features are not SYSU-MM01's, or there is no checkout of the repository.
        RuntimeError: the two sides disagree, so that a speed would be of wrong numbers.
    """
    device, reference = str(resolve_device(device)), load_reference()
    data = FeatureSet.load(features or _required(GOLDEN)).ordered()
    if data.layout != "sysu":
        raise UserError(f"{features}: the benchmark needs features of SYSU-MM01's images")
    perm = read_permutation(permutation) if permutation else stand_in_permutation(data)
    pairs = settings("sysu", None, None, official=True)
    sides: dict[str, Callable[[], list[dict[str, float]]]] = {
        "vectorised": lambda: [_means(one) for one in score(data, perm=perm, device=device)],
        "loops": lambda: [
            _mean_over_trials(reference.loop_score(data, name, sampling, perm))
            for name, sampling in progress_bar(pairs, "loops", leave=False)
        ],
    }
    metrics, seconds, cpu_seconds = alternate(sides, repeat, watch)
    _check_equal(metrics["vectorised"], metrics["loops"])
    return environment() | {
        "benchmark": "protocol",
        "device": device,
        "threads": torch.get_num_threads(),
        "images": len(data),
        "dimensions": data.features.shape[1],
        "settings": len(pairs),
        "permutation": "rand_perm_cam" if permutation else "seeded stand-in",
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "ratio": float(np.median(seconds["loops"]) / np.median(seconds["vectorised"])),
    }


def text(result: dict[str, Any]) -> str:
    """Seconds of both sides and their ratio."""
    lines = []
    for name, seconds in result["seconds"].items():
        wall, cpu = np.median(seconds), np.median(result["cpu_seconds"][name])
        lines.append(f"{name:>10}: {wall:7.2f} s, {cpu:7.2f} s of CPU (median of {len(seconds)})")
    ratio = f"{result['ratio']:7.1f}x over {result['settings']} settings, figures equal"
    return "\n".join([*lines, f"     ratio: {ratio}"])


def load_reference() -> ModuleType:
    """The loop-written implementation that the tests hold the scores to.

    Raises:
        UserError: the package is installed without the repository.
    """
    spec = importlib.util.spec_from_file_location("loop_protocol", _required(REFERENCE))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _required(file: Path) -> Path:
    if not file.is_file():
        raise UserError(
            f"{'/'.join(file.parts[-3:])} is missing: `benchmark protocol` runs in a checkout of "
            "the repository (pip install -e .)"
        )
    return file


def stand_in_permutation(data: FeatureSet, trials: int = 10, seed: int = 0) -> Permutation:
    """Random permutations in place of rand_perm_cam.mat: equal counts, other galleries."""
    generator = np.random.default_rng(seed)
    keys, counts = np.unique(np.stack([data.pids, data.camids], 1), axis=0, return_counts=True)
    return {
        (int(pid), int(camid)): np.array([generator.permutation(count) for _ in range(trials)])
        for (pid, camid), count in zip(keys, counts)
    }


def _means(record: dict[str, Any]) -> dict[str, float]:
    return {name: value["mean"] for name, value in record.items() if isinstance(value, dict)}


def _mean_over_trials(trials: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([trial[name] for trial in trials])) for name in trials[0]}


def _check_equal(vectorised: list[dict[str, float]], loops: list[dict[str, float]]) -> None:
    for fast, slow in zip(vectorised, loops):
        for name, value in fast.items():
            if abs(value - slow[name]) > _AGREEMENT:
                raise RuntimeError(f"{name}: vectorised {value}, loops {slow[name]}")
