"""`benchmark stores`: a gallery in Milvus beside those in folders, with the same images.

The images are those of `benchmark living`. Recall is the share of the nearest of exact search; CPU
is that of this process, which is all of it with milvus-lite, and the client's part with a server.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from icre.benchmark.living import MODEL, NARROW, TOP, WIDE, image_table
from icre.benchmark.measure import or_dash
from icre.benchmark.search import PER_IDENTITY, clustered
from icre.benchmark.watch import Watch
from icre.gallery.backend import Gallery, Store
from icre.gallery.filters import Filter
from icre.gallery.folder import FolderStore
from icre.gallery.milvus.address import Address, parse_address
from icre.gallery.table import ImageTable
from icre.gallery.writing import write
from icre.utils.environment import environment
from icre.utils.errors import UserError

FOLDERS, COLLECTION = ("flat", "hnsw"), "icre_benchmark"
SINGLE = 20  # queries that are asked one at a time


def run(
    size: int = 20_000,
    dimensions: int = 512,
    added: int = 1000,
    queries: int = 100,
    seed: int = 0,
    store: str | None = None,
    token_file: str | None = None,
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Measure each place, and print each row as soon as it is measured.

    Args:
        size: images at the beginning.
        dimensions: D.
        added: images that are added, and as many that are removed.
        queries: in one batch.
        seed: of the vectors.
        store: a Milvus, in which the collection `COLLECTION` is made and dropped; None: a file of
            milvus-lite.
        token_file: of that Milvus.
        watch: shows the rows as they are measured.

    Raises:
        UserError: a size that is too small, or the store does not answer.
    """
    if min(size, added) < PER_IDENTITY or queries < 1 or added > size // 2:
        raise UserError(
            f"--size and --added must be at least {PER_IDENTITY}, --queries at least 1, and "
            "--added at most half of --size"
        )
    vectors, asked = clustered(size + added, queries, dimensions, seed)
    order = np.random.default_rng(seed).permutation(size + added)
    vectors, table = vectors[order], image_table(order)
    rows: list[dict[str, Any]] = []
    watch = watch or Watch()
    with tempfile.TemporaryDirectory() as below:
        address = parse_address(store or f"{below}/store.db", token_file)
        name = "milvus-lite" if address.is_local else "Milvus"
        places = [f"folder, {kind}" for kind in FOLDERS] + [f"{name}, hnsw"]
        for place in watch.each(places, "places"):
            kind = place.split(", ")[1]
            if place.startswith("folder"):
                made: Store = FolderStore(Path(below) / kind)
                _measure(_Rows(place, rows, watch), made, kind, table, vectors, asked, size)
            else:
                with _collection(address) as made:
                    _measure(_Rows(place, rows, watch), made, kind, table, vectors, asked, size)
    return environment() | {
        "benchmark": "stores",
        "size": size,
        "dimensions": dimensions,
        "added": added,
        "queries": queries,
        "seed": seed,
        "store": store,
        "rows": rows,
    }


@contextmanager
def _collection(address: Address) -> Iterator[Store]:
    from icre.gallery.milvus.connection import Client
    from icre.gallery.milvus.store import MilvusStore

    client = Client(address, timeout=600)
    store = MilvusStore(client, COLLECTION)
    store.check_absent()
    try:
        yield store
    finally:
        for name in (COLLECTION, store.records.collection):
            if client("has_collection", name):
                client("drop_collection", name)
        client.close()


class _Rows:
    """Rows of one place, shown as they come."""

    def __init__(self, place: str, rows: list[dict[str, Any]], watch: Watch):
        self._place, self._rows, self._watch = place, rows, watch

    def __call__(self, step: str, work: Callable[[], Any], count: int, **more: Any) -> Any:
        """Do a step of `count` images or queries; its times are a row."""
        start, cpu = time.perf_counter(), time.process_time()
        result = work()
        row = {
            "place": self._place,
            "step": step,
            "seconds": time.perf_counter() - start,
            "cpu_milliseconds": 1000 * (time.process_time() - cpu) / count,
            **more,
        }
        row["milliseconds"] = 1000 * row["seconds"] / count
        row["per_second"] = count / row["seconds"]
        self._rows.append(row)
        self._watch.row("  ".join(_cells(row).values()), **row)
        return result

    def search(
        self,
        step: str,
        gallery: Gallery,
        queries: np.ndarray,
        truth: list[list[str]],
        filter: Filter | None,
    ) -> None:
        """Queries one at a time, and in a batch, whose recall is measured."""
        gallery.nearest(queries[:1], TOP, filter)
        some = queries[:SINGLE]
        self(step, lambda: [gallery.nearest(one[None], TOP, filter) for one in some], len(some))
        found, _ = gallery.nearest(queries, TOP, filter)
        paths = [gallery.images.take(rows).paths for rows in found]
        hits = [[path in best for path in ours] for ours, best in zip(paths, truth)]
        first = [ours[0] == best[0] for ours, best in zip(paths, truth)]
        self(
            f"{step}, in a batch",
            lambda: gallery.nearest(queries, TOP, filter),
            len(queries),
            **{
                "recall@1": float(np.mean(first)),
                "recall@10": float(np.mean(np.concatenate(hits))),
            },
        )


def _measure(
    measured: _Rows,
    store: Store,
    kind: str,
    table: ImageTable,
    vectors: np.ndarray,
    queries: np.ndarray,
    size: int,
) -> None:
    first, rest = table.take(range(size)), table.take(range(size, len(table)))
    measured("index", lambda: _index(store, first, vectors[:size], kind), size)
    measured("open", store.open, 1)
    for step, filter in (("query", None), ("narrow filter", NARROW), ("wide filter", WIDE)):
        truth = _truth(first, vectors[:size], queries, filter)
        measured.search(step, store.open(), queries, truth, filter)
    measured("add", lambda: store.add(rest, [vectors[size:]], progress=False), len(rest))
    gone = Filter(before=first.times[len(rest)])
    measured("remove", lambda: store.remove(gone), len(rest))


def _index(store: Store, images: ImageTable, features: np.ndarray, kind: str) -> None:
    if isinstance(store, FolderStore):
        write(store.folder, images, [features], MODEL, kind, progress=False)
        return
    store.create(MODEL, features.shape[1], kind)
    addition = store.addition(images)
    addition.write(images, features)
    addition.finish()
    store.open().nearest(features[:1], 1)  # Milvus builds the index behind the writer's back


def _truth(
    images: ImageTable, features: np.ndarray, queries: np.ndarray, filter: Filter | None
) -> list[list[str]]:
    """Paths of the nearest images that pass, by comparing all."""
    passing = np.ones(len(images), dtype=bool)
    if filter and filter.camera:
        passing &= np.isin(np.array(images.cameras), filter.camera)
    if filter and filter.before is not None:
        passing &= images.times < filter.before
    similarity = np.where(passing, queries @ features.T, -np.inf)
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :TOP]
    return [[images.paths[row] for row in rows] for rows in nearest]


def _cells(row: dict[str, Any]) -> dict[str, str]:
    one = row["step"] == "open"
    return {
        "place": row["place"],
        "step": row["step"],
        "seconds": f"{row['seconds']:.2f}",
        "images or queries/s": "-" if one else f"{row['per_second']:.0f}",
        "ms each": f"{row['milliseconds']:.2f}",
        "CPU ms each": f"{row['cpu_milliseconds']:.2f}",
        "recall@1": or_dash(row.get("recall@1"), ".3f"),
        "recall@10": or_dash(row.get("recall@10"), ".3f"),
    }


def text(result: dict[str, Any]) -> str:
    """The table of a result."""
    shown = [_cells(row) for row in result["rows"]]
    return tabulate(shown, headers="keys", tablefmt="github", disable_numparse=True)
