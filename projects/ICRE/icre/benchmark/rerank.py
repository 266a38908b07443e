"""`benchmark rerank`: re-ranking against fast-reid's own two functions, by size.

fast-reid's functions run as they are installed, on a CPU and without a patch:
`compute_jaccard_distance` by its CPU search (search_option=3), `re_ranking` from distances.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from tabulate import tabulate
from torch import Tensor

import icre.compat.evaluation  # noqa: F401

from fastreid.evaluation.rerank import re_ranking
from fastreid.utils import compute_dist

from icre.benchmark.measure import alternate, or_dash, peak_memory
from icre.benchmark.watch import Watch
from icre.evaluation.neighbours import nearest
from icre.evaluation.rerank import mix, path_for, rerank, rerank_blocks, whole
from icre.evaluation.rerank_options import Reranking
from icre.utils.device import resolve_device
from icre.utils.environment import environment
from icre.utils.errors import UserError
from icre.utils.files import replaced

K1, K2, LAMBDA = 20, 6, 0.3
QUERY_SHARE = 0.038  # 3,800 queries among 100,000 images
_TOLERANCE = 1e-4
# Two searches order images whose distances are equal but for rounding differently.
_MAY_DIFFER = 1e-3
_REPEAT_UP_TO = 10_000  # images; a larger size is run once for time and memory
_WHOLE_UP_TO = 200_000  # images; of more the result is not kept whole
_COLOURS = {"ours": "#1f6feb", "theirs": "#cf222e"}
_LABELS = {"ours": "icre", "theirs": "fast-reid"}
_LINES = {"fastreid": "-", "original": "--"}


def run(
    sizes: Sequence[int],
    theirs_up_to: int = 10_000,
    dimensions: int = 256,
    repeat: int = 2,
    seed: int = 0,
    device: str = "cpu",
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Time both sides in turn at every size and compare their distances; returns the result.

    Args:
        sizes: images, queries and gallery together.
        theirs_up_to: largest size for fast-reid's side.
        dimensions: of a feature.
        repeat: rounds up to 10,000 images.
        seed: of the features.
        device: of our side.
        watch: shows the rows as they are measured.

    Raises:
        UserError: a size of fewer than 100 images.
        RuntimeError: the two sides disagree, so that a speed would be of wrong numbers.
    """
    if min(sizes) < 100:
        raise UserError(f"--sizes {min(sizes)}: at least 100 images are needed")
    if repeat < 1:
        raise UserError(f"--repeat {repeat}: at least 1 round is needed")
    device = str(resolve_device(device))
    _ours(torch.from_numpy(clustered(100, 16)).to(device), 4, "fastreid", 0.0)  # compiles
    watch, rows = watch or Watch(), []
    for size in watch.each(sorted(sizes), "sizes", lambda size: float(size) ** 2):
        features = torch.from_numpy(clustered(size, dimensions, seed=seed))
        rows.append(_one_size(features, device, size <= theirs_up_to, repeat, watch))
    return environment() | {
        "benchmark": "rerank",
        "device": device,
        "threads": torch.get_num_threads(),
        "dimensions": dimensions,
        "seed": seed,
        "k1": K1,
        "k2": K2,
        "lambda": LAMBDA,
        "features": "clusters of 20 images, within/between ratio 1.5 (benchmark/rerank.py)",
        "sizes": rows,
    }


def clustered(
    count: int, dimensions: int, images: int = 20, ratio: float = 1.5, seed: int = 0
) -> np.ndarray:
    """Unit features in clusters, one per identity, in random order.

    An identity's centre is standard normal; an image is its identity's centre plus normal noise,
    then L2-normalised. Identities are drawn with equal chances, so their sizes vary about `images`.

    Args:
        count: features.
        dimensions: D.
        images: mean images per identity.
        ratio: standard deviation within an identity over that between centres, per dimension.
        seed: of the generator.

    Returns:
        (count, D) float32.
    """
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((max(1, count // images), dimensions), dtype=np.float32)
    features = generator.standard_normal((count, dimensions), dtype=np.float32)
    features *= ratio
    features += centres[generator.integers(len(centres), size=count)]
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return features


def _one_size(
    features: Tensor, device: str, with_theirs: bool, repeat: int, watch: Watch
) -> dict[str, Any]:
    """All jobs on (N, D) features."""
    size, queries = len(features), round(QUERY_SHARE * len(features))
    moved = features.to(device)
    rounds = repeat if size <= _REPEAT_UP_TO else 0
    if size > _WHOLE_UP_TO:
        sides = {"ours": lambda: _ours_in_blocks(moved, queries)}
        return _result(size, queries, rounds, [_measure("fastreid, in blocks", sides, 0)], watch)
    near_moved, _ = nearest(moved, K1 + 1)
    near = near_moved.cpu()
    jobs: dict[str, tuple[Callable, Callable]] = {
        "fastreid": (
            lambda: _ours(moved, queries, "fastreid", 0.0),
            lambda: fastreid_jaccard(features, queries),
        ),
        "fastreid, half are queries": (
            lambda: _ours(moved, size // 2, "fastreid", 0.0),
            lambda: fastreid_jaccard(features, size // 2),
        ),
        "fastreid after the search": (
            lambda: _ours_after_search(moved, queries, near_moved),
            lambda: _jaccard_after_search(features, queries, near.numpy()),
        ),
        "original": (
            lambda: _ours(moved, queries, "original", LAMBDA),
            lambda: _original(features, queries),
        ),
    }
    if not with_theirs:  # half of 100,000 would make 10 GB, and there is nothing to compare it with
        del jobs["fastreid, half are queries"]
    measured = (
        _measure(name, dict(zip(_LABELS, sides if with_theirs else sides[:1])), rounds)
        for name, sides in jobs.items()
    )
    return _result(size, queries, rounds, measured, watch)


def _result(
    size: int, queries: int, rounds: int, jobs: Iterable[dict[str, Any]], watch: Watch
) -> dict[str, Any]:
    shown = []
    for job in jobs:
        watch.row(f"{size} images, {job['job']}: ours {job['ours']:.3f} s", images=size, **job)
        shown.append(job)
    return {"images": size, "queries": queries, "rounds": max(rounds, 1), "jobs": shown}


def _measure(name: str, sides: dict[str, Callable[[], np.ndarray]], rounds: int) -> dict[str, Any]:
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
    """(Q, G) by this project, on the features' device."""
    options = {"algorithm": algorithm, "k1": K1, "k2": K2, "lambda_value": lambda_value}
    return rerank(features[:queries], features[queries:], **options).cpu().numpy()


def _ours_in_blocks(features: Tensor, queries: int) -> None:
    """The same, of which only a block of queries is kept: a million images would make 146 GB."""
    choice = Reranking("fastreid", K1, K2, 0.0)
    for _, block in rerank_blocks(choice, features[:queries], features[queries:]):
        block[0, 0].item()  # waits for the device


def _ours_after_search(features: Tensor, queries: int, near: Tensor) -> np.ndarray:
    """`_ours` from given (N, k1 + 1) neighbour lists."""
    choice = Reranking("fastreid", K1, K2, 0.0)
    blocks = mix(path_for(features.device), choice, features, queries, near, None)
    return whole(blocks, queries, len(features) - queries).cpu().numpy()


def fastreid_jaccard(features: Tensor, queries: int) -> np.ndarray:
    """fast-reid's utils/compute_dist.py: (Q, G), cut out of the (N, N) that it makes."""
    distances = compute_dist.compute_jaccard_distance(features, K1, K2, search_option=3)
    return distances[:queries, queries:]


def _jaccard_after_search(features: Tensor, queries: int, near: np.ndarray) -> np.ndarray:
    """`fastreid_jaccard` whose search answers at once with the given (N, >= k1) lists."""
    index = mock.Mock(**{"search.return_value": (None, near[:, :K1])})
    with mock.patch.object(compute_dist, "index_init_cpu", lambda dimensions: index):
        return fastreid_jaccard(features, queries)


def _original(features: Tensor, queries: int) -> np.ndarray:
    """fast-reid's evaluation/rerank.py (Zhong et al.) from features: (Q, G)."""
    query, gallery = features[:queries], features[queries:]
    pairs = ((query, gallery), (query, query), (gallery, gallery))
    return re_ranking(*(torch.cdist(*pair).numpy() for pair in pairs), K1, K2, LAMBDA)


def text(result: dict[str, Any]) -> str:
    """The table of a result."""
    table = [
        {
            "N": one["images"],
            "job": job["job"],
            "ours, s": f"{job['ours']:.3f}",
            "theirs, s": or_dash(job["theirs"], ".2f"),
            "ratio": or_dash(job["ratio"], ".1f"),
            "ours, MB": or_dash(job["ours_memory"], ".0f", 1e6),
            "theirs, MB": or_dash(job["theirs_memory"], ".0f", 1e6),
            "entries that differ": or_dash(job["differ"], ".1e"),
        }
        for one in result["sizes"]
        for job in one["jobs"]
    ]
    return tabulate(table, headers="keys", tablefmt="github", disable_numparse=True)


def save_plot(result: dict[str, Any], path: str | Path) -> None:
    """Draw seconds and gigabytes over the number of images, both axes logarithmic (PNG)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    for axes, suffix, unit, label in zip(
        figure.subplots(1, 2), ("", "_memory"), (1, 1e9), ("seconds", "peak memory, GB")
    ):
        for job, line in _LINES.items():
            for side, colour in _COLOURS.items():
                points = [
                    (one["images"], entry[side + suffix] / unit)
                    for one in result["sizes"]
                    for entry in one["jobs"]
                    if entry["job"] == job and entry[side + suffix]
                ]
                if points:
                    style = {"color": colour, "marker": "o", "markersize": 3}
                    axes.plot(*zip(*points), line, label=f"{_LABELS[side]}, {job}", **style)
        axes.set(xscale="log", yscale="log", xlabel="images (3.8 % are queries)", ylabel=label)
        axes.grid(alpha=0.3)
    figure.axes[0].legend(fontsize=8, frameon=False)
    on_cpu = result["device"] == "cpu"
    where = f"{result['cpu']}, {result['threads']} threads" if on_cpu else result["gpu"]
    figure.suptitle(
        f"k-reciprocal re-ranking, D = {result['dimensions']}, k1 = {result['k1']}, "
        f"k2 = {result['k2']}; {where}",
        fontsize=9,
    )
    with replaced(path) as temporary:
        figure.savefig(temporary, dpi=100, format="png")
