"""`benchmark living`: a large gallery that is opened, searched, filtered, extended and reduced.

The vectors are those of `benchmark search`. Recall is the share of the ten nearest of exact search
over the same rows; a gallery of the last rows, built at once, is the last to be measured.
"""

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from tabulate import tabulate

from icre.benchmark.measure import or_dash, peak_memory
from icre.benchmark.search import PER_IDENTITY, clustered, recall
from icre.benchmark.watch import Watch
from icre.gallery import changes
from icre.gallery import index as indexes
from icre.gallery.filters import Filter
from icre.gallery.store import Gallery, ModelInfo, open_gallery
from icre.gallery.table import ImageTable
from icre.gallery.verify import verify
from icre.gallery.writing import write
from icre.utils.environment import environment
from icre.utils.errors import UserError

CAMERAS, TOP = 50, 10
START = np.datetime64("2026-11-01T00:00", "us")
MODEL = ModelInfo("none", "0" * 64, "")
NARROW = Filter(camera=("7",), before=START + np.timedelta64(5, "D"))
WIDE = Filter(camera=tuple(map(str, range(CAMERAS // 2))))


def run(
    size: int = 1_000_000,
    dimensions: int = 256,
    added: int = 10_000,
    removed: int = 1000,
    queries: int = 100,
    kinds: Sequence[str] = ("flat", "ivf"),
    seed: int = 0,
    folder: str | Path | None = None,
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Measure galleries of each kind, and print each row as soon as it is measured.

    Args:
        size: images at the beginning.
        dimensions: D.
        added, removed: images; those that are removed are all of some people, spread over all
            images.
        queries: in one batch.
        kinds: of index.
        seed: of the vectors.
        folder: for the galleries, removed afterwards; None: the system's for temporary files.
        watch: shows the rows as they are measured.

    Raises:
        UserError: a size that is too small.
    """
    if min(size, added, removed) < PER_IDENTITY or queries < 1 or removed > size // 2:
        raise UserError(
            f"--size, --added and --removed must be at least {PER_IDENTITY}, --queries at least 1, "
            "and --removed at most half of --size"
        )
    for kind in kinds:
        indexes.require_enough(kind, size)
    vectors, asked = clustered(size + added, queries, dimensions, seed)
    # shuffled, so that a person's images are spread over the gallery
    order = np.random.default_rng(seed).permutation(size + added)
    vectors, table = vectors[order], image_table(order)
    rows: list[dict[str, Any]] = []
    watch = watch or Watch()
    with tempfile.TemporaryDirectory(dir=folder, prefix="living") as below:
        for kind in watch.each(kinds, "kinds of index"):
            measured = _Measured(kind, Path(below), rows, watch)
            _measure(measured, table, vectors, asked, size, removed)
            shutil.rmtree(measured.folder)
    return environment() | {
        "benchmark": "living",
        "threads": faiss.omp_get_max_threads(),
        "faiss": faiss.__version__,
        "size": size,
        "dimensions": dimensions,
        "added": added,
        "removed": removed,
        "queries": queries,
        "seed": seed,
        "rows": rows,
    }


def image_table(order: np.ndarray) -> ImageTable:
    """Images of `CAMERAS` cameras in thirty days; the person of a row is order // PER_IDENTITY."""
    count = len(order)
    rows = np.arange(count)
    return ImageTable(
        [f"/data/frames/camera{n % CAMERAS}/{n:09d}.jpg" for n in range(count)],
        np.zeros(count, dtype=np.int64),
        [str(n % CAMERAS) for n in range(count)],
        [f"person {number // PER_IDENTITY}" for number in order.tolist()],
        START + (rows * (30 * 86_400 / count)).astype("m8[s]"),  # thirty days
    )


class _Measured:
    """Rows of one kind of index, shown as they come."""

    def __init__(self, kind: str, below: Path, rows: list[dict[str, Any]], watch: Watch):
        self.kind, self.folder, self.rows, self.watch = kind, below / kind, rows, watch

    def __call__(self, step: str, work: Callable[[], Any], **more: Any) -> Any:
        """Do a step; its seconds and the rise of memory are a row."""
        start = time.perf_counter()
        result, memory = peak_memory(work)
        seconds = time.perf_counter() - start
        row = {"index": self.kind, "step": step, "seconds": seconds} | more
        row["memory_gib"] = memory and memory["rise"] / 2**30
        self.rows.append(row)
        return result

    def show(self) -> None:
        """Show the newest row."""
        self.watch.row("  ".join(_cells(self.rows[-1]).values()), **self.rows[-1])

    def search(
        self, step: str, gallery: Gallery, queries: np.ndarray, filter: Filter | None = None
    ) -> None:
        """A batch of queries; milliseconds of each, and the recall."""
        truth, _ = replace(gallery, stored=None).nearest(queries, TOP, filter)
        gallery.nearest(queries[:1], TOP, filter)  # reads from the disk what is mapped
        one = time.perf_counter()
        for query in queries[:10]:
            gallery.nearest(query[None], TOP, filter)
        one = (time.perf_counter() - one) / len(queries[:10])
        found, _ = self(step, lambda: gallery.nearest(queries, TOP, filter))
        self.rows[-1] |= {
            "milliseconds": 1000 * one,
            "batch_milliseconds": 1000 * self.rows[-1]["seconds"] / len(queries),
            "recall@10": recall(found, truth, truth.shape[1]),
            "passing": int(gallery.passing(filter).sum()) if filter else len(gallery.images),
        }
        self.show()


def _measure(
    measured: _Measured,
    table: ImageTable,
    vectors: np.ndarray,
    queries: np.ndarray,
    size: int,
    removed: int,
) -> None:
    folder, kind = measured.folder, measured.kind
    first = table.take(range(size))

    def build(where: Path, images: ImageTable, features: np.ndarray) -> None:
        write(where, images, [features], MODEL, kind, progress=False)

    measured("build", lambda: build(folder, first, vectors[:size]))
    measured.rows[-1]["disk_gib"] = _size(folder)
    measured.show()
    open_gallery(folder).nearest(queries[:1], TOP)  # warm
    measured("open, warm", lambda: open_gallery(folder))
    measured.show()
    measured("open and first query, warm", lambda: open_gallery(folder).nearest(queries[:1], TOP))
    measured.show()
    measured.search("query", open_gallery(folder), queries)
    measured.search("query, narrow filter", open_gallery(folder), queries, NARROW)
    measured.search("query, wide filter", open_gallery(folder), queries, WIDE)
    rest = table.take(range(size, len(table)))
    measured(f"add {len(rest)}", lambda: changes.add(folder, rest, [vectors[size:]]))
    measured.show()
    measured.search("query after it", open_gallery(folder), queries)
    people = [f"person {number}" for number in range(removed // PER_IDENTITY)]
    gone = Filter(identity=tuple(people))
    change = measured(f"remove {removed}, spread", lambda: changes.remove(folder, gone))
    measured.rows[-1] |= {"images": len(change.images), "disk_gib": _size(folder)}
    measured.show()
    measured.search("query after it", open_gallery(folder), queries)
    # as many in a row, as a rule for the oldest removes them
    evening = open_gallery(folder).images.take(range(removed)).times.max()
    old = Filter(before=evening)
    change = measured(f"remove {removed} in a row", lambda: changes.remove(folder, old))
    measured.rows[-1] |= {"images": len(change.images)}
    measured.show()
    left = open_gallery(folder)
    measured.search("query after it", left, queries)
    measured("verify", lambda: verify(left))
    measured.show()
    fresh = folder.with_name(f"{kind} fresh")
    keep = np.flatnonzero(~(np.isin(np.array(table.identities), people) | (table.times < evening)))
    kept, features = table.take(keep), vectors[keep]
    measured("build of these at once", lambda: build(fresh, kept, features))
    measured.show()
    measured.search("query of that", open_gallery(fresh), queries)
    shutil.rmtree(fresh)


def _size(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**30


def _cells(row: dict[str, Any]) -> dict[str, str]:
    return {
        "index": row["index"],
        "step": row["step"],
        "seconds": or_dash(row.get("seconds"), ".2f"),
        "ms a query": or_dash(row.get("milliseconds"), ".1f"),
        "in a batch": or_dash(row.get("batch_milliseconds"), ".1f"),
        "recall@10": or_dash(row.get("recall@10"), ".3f"),
        "images": str(row.get("passing") or row.get("images") or "-"),
        "peak GiB": or_dash(row.get("memory_gib"), ".2f"),
        "disk GiB": or_dash(row.get("disk_gib"), ".2f"),
    }


def text(result: dict[str, Any]) -> str:
    """The table of a result."""
    shown = [_cells(row) for row in result["rows"]]
    return tabulate(shown, headers="keys", tablefmt="github", disable_numparse=True)
