"""`benchmark search`: the kinds of gallery index against exact search.

The vectors are made as the demo model's test features are, whose variance within one modality is to
43 % image noise over what its identity explains (0.30 / 0.70), and from identity to image across
modalities 2.6 to 1 (0.72 / 0.28). A vector of identity i in modality m is the unit vector of
sqrt(0.28) a_i + sqrt(0.42) b_im + sqrt(0.30) c, with a, b, c normal and the variance of dimension j
falling as (j + 10)^-1.5 (57 effective dimensions of 512; 65 % of the variance in 40 of them).
The gallery holds 20 visible images per identity; a query is an infrared image of one of them.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from tabulate import tabulate

from icre.benchmark.measure import or_dash, peak_memory
from icre.benchmark.watch import Watch
from icre.gallery import index as indexes
from icre.utils.device import resolve_device
from icre.utils.environment import environment
from icre.utils.errors import UserError
from icre.utils.faiss_gpu import faiss_on
from icre.utils.files import replaced
from icre.utils.progress import progress_bar

SHARES = (0.28, 0.42, 0.30)  # variance of identity, identity in a modality, image
PER_IDENTITY = 20
TIMED_EXACT = 250  # queries that exact search is timed by
# shares of the cells, or efSearch
_EFFORTS = {"nprobe": (1 / 64, 1 / 32, 1 / 16, 1 / 8), "efSearch": (64, 128, 256, 512)}


def run(
    sizes: Sequence[int] = (1_000_000,),
    dimensions: int = 512,
    queries: int = 1000,
    kinds: Sequence[str] | None = None,
    seed: int = 0,
    device: str = "cpu",
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Build each index and search it at several efforts in turn with exact search.

    Args:
        sizes: gallery vectors.
        dimensions: D.
        queries: in one batch.
        kinds: of index; None: all that are not exact.
        seed: of the vectors.
        device: of the indexes that faiss has there, see `index.on_device`.
        watch: shows the rows as they are measured.

    Raises:
        UserError: a gallery too small for one identity or for an index, or no query.
    """
    kinds = kinds or [name for name, kind in indexes.KINDS.items() if kind.effort]
    if min(sizes) < PER_IDENTITY or queries < 1:
        raise UserError(f"--size must be at least {PER_IDENTITY}, --queries at least 1")
    for kind in kinds:
        indexes.require_enough(kind, min(sizes))
    where, watch, rows = resolve_device(device), watch or Watch(), []
    for size in watch.each(sorted(sizes), "sizes", float):
        vectors = clustered(size, queries, dimensions, seed)
        rows += _one_size(*vectors, kinds, where, watch)
    return environment() | {
        "benchmark": "search",
        "threads": faiss.omp_get_max_threads(),
        "faiss": faiss.__version__,
        "device": str(where) if faiss_on(where) else "cpu",
        "sizes": sorted({row["size"] for row in rows}),
        "dimensions": dimensions,
        "queries": queries,
        "seed": seed,
        "shares": SHARES,
        "rows": rows,
    }


def _one_size(
    gallery: np.ndarray, query: np.ndarray, kinds: Sequence[str], device: torch.device, watch: Watch
) -> list[dict[str, Any]]:
    """Exact search, then each kind."""
    size, queries = len(gallery), len(query)
    exact = indexes.on_device("flat", indexes.build("flat", gallery, progress=False), device)
    _search("flat", exact, gallery, query[:10])  # a GPU's first search initialises it
    truth, (seconds, _) = _search("flat", exact, gallery, query)
    rows = [
        {
            "size": size,
            "index": "flat",
            "effort": None,
            "recall@1": 1.0,
            "recall@10": 1.0,
            "ratio": 1.0,
            "cpu_ratio": 1.0,
            "queries_per_second": queries / seconds,
            "build_seconds": None,
            "memory_gib": gallery.nbytes / 2**30,
            "default": True,
        }
    ]
    watch.row(f"{size} vectors, flat: {queries / seconds:.0f} queries/s", **rows[0])
    for kind in watch.each(kinds, f"indexes of {size} vectors"):
        for row in _measure(kind, gallery, query, exact, truth, device):
            rows.append({"size": size, **row})
            text = f"{kind}, {row['effort']}: {row['queries_per_second']:.0f} queries/s"
            watch.row(f"{size} vectors, {text}", **row)
    return rows


def clustered(size: int, queries: int, dimensions: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(gallery (size, D), queries (queries, D)): float32 unit vectors, as the module describes."""
    generator = np.random.default_rng(seed)
    spectrum = (np.arange(dimensions) + 10.0) ** -1.5
    spread = np.sqrt(spectrum / spectrum.sum()).astype(np.float32)

    def normal(count: int, share: float) -> np.ndarray:
        values = generator.standard_normal((count, dimensions), dtype=np.float32)
        return values * (spread * share**0.5).astype(np.float32)

    people = -(-size // PER_IDENTITY)
    identity, visible = normal(people, SHARES[0]), normal(people, SHARES[1])
    gallery = np.empty((size, dimensions), dtype=np.float32)
    for start in range(0, size, indexes.BLOCK):
        rows = np.arange(start, min(start + indexes.BLOCK, size))
        pids = rows // PER_IDENTITY
        gallery[rows] = identity[pids] + visible[pids] + normal(len(rows), SHARES[2])
    wanted = generator.choice(people, queries, replace=queries > people)
    query = identity[wanted] + normal(queries, SHARES[1]) + normal(queries, SHARES[2])
    faiss.normalize_L2(gallery)
    faiss.normalize_L2(query)
    return gallery, query


def _measure(
    kind: str,
    gallery: np.ndarray,
    queries: np.ndarray,
    exact: faiss.Index,
    truth: np.ndarray,
    device: torch.device,
) -> list[dict[str, Any]]:
    """Build one kind and search it at each effort, between two searches by the exact index."""
    start = time.perf_counter()
    index, memory = peak_memory(lambda: indexes.build(kind, gallery))
    built = time.perf_counter() - start
    name = indexes.find(kind).effort
    default = index.hnsw.efSearch if kind == "hnsw" else index.nprobe
    efforts = _EFFORTS[name]
    if name == "nprobe":
        efforts = [max(1, int(share * index.nlist)) for share in efforts]
    index = indexes.on_device(kind, index, device)
    few, rows = queries[:TIMED_EXACT], []
    exact_times = [_search("flat", exact, gallery, few)[1]]
    for value in progress_bar(sorted({*efforts, default}), f"{kind} {name}"):
        indexes.set_effort(kind, index, value)
        found, times = _search(kind, index, gallery, queries)
        rows.append(
            {
                "index": kind,
                "effort": f"{name} {value}",
                "default": value == default,
                **{f"recall@{top}": recall(found, truth, top) for top in (1, 10)},
                "queries_per_second": len(queries) / times[0],
                "cpu_seconds": times[1],
                "build_seconds": built,
                "memory_gib": memory and memory["rise"] / 2**30,
            }
        )
    exact_times.append(_search("flat", exact, gallery, few)[1])
    wall, cpu = np.mean(exact_times, axis=0) * len(queries) / len(few)
    return [
        one
        | {
            "ratio": one["queries_per_second"] * wall / len(queries),
            "cpu_ratio": cpu / one["cpu_seconds"],
            "exact_queries_per_second": len(queries) / wall,
        }
        for one in rows
    ]


def recall(found: np.ndarray, truth: np.ndarray, top: int) -> float:
    """Mean share of the `top` exact results that are among the first `top` found; (Q, >= top)."""
    hits = (found[:, :top, None] == truth[:, None, :top]).any(axis=1)
    return float(hits.mean())


def _search(
    kind: str, index: faiss.Index, gallery: np.ndarray, queries: np.ndarray
) -> tuple[np.ndarray, tuple[float, float]]:
    """Rows of the ten nearest, and (wall seconds, CPU seconds); other load distorts the first."""
    start, cpu_start = time.perf_counter(), time.process_time()
    rows, _ = indexes.nearest(kind, index, gallery, queries, 10)
    return rows, (time.perf_counter() - start, time.process_time() - cpu_start)


def text(result: dict[str, Any]) -> str:
    """The table of a result."""
    shown = [
        {
            "vectors": f"{one['size']}",
            "index": f"{one['index']}{' *' if one['default'] else ''}",
            "effort": one["effort"] or "-",
            "recall@1": f"{one['recall@1']:.3f}",
            "recall@10": f"{one['recall@10']:.3f}",
            "queries/s": f"{one['queries_per_second']:.0f}",
            "x exact": f"{one['ratio']:.1f}",
            "x by CPU": f"{one['cpu_ratio']:.1f}",
            "build s": or_dash(one["build_seconds"], ".0f"),
            "peak GiB": or_dash(one["memory_gib"], ".2f"),
        }
        for one in result["rows"]
    ]
    table = tabulate(shown, headers="keys", tablefmt="github", disable_numparse=True)
    return f"{table}\n* the effort that tools/search.py index sets"


def save_plot(result: dict[str, Any], path: str | Path) -> None:
    """Draw recall over speed at the largest size, a line per kind (PNG)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    size = result["sizes"][-1]
    largest = [one for one in result["rows"] if one["size"] == size and one["effort"]]
    for kind in dict.fromkeys(one["index"] for one in largest):
        of_kind = [one for one in largest if one["index"] == kind]
        ratios, recalls = ([one[key] for one in of_kind] for key in ("ratio", "recall@1"))
        axes.plot(ratios, recalls, marker="o", label=kind)
    axes.axvline(10, color="gray", lw=0.8, ls=":")
    axes.axhline(0.95, color="gray", lw=0.8, ls=":")
    axes.set(
        xscale="log",
        xlabel="queries per second over exact search's",
        ylabel="recall@1 against exact search",
        title=f"{size:,} vectors of {result['dimensions']} dimensions",
    )
    axes.legend()
    with replaced(path) as temporary:
        figure.savefig(temporary, dpi=150, format="png")
