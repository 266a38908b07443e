"""Compute the tables of docs/growth.md from what was measured.

python docs/growth.py            # write them again
python docs/growth.py --check    # are they up to date? (a test does this)
"""

import math
import sys
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

PAGE = Path(__file__).with_name("growth.md")
BEGIN, END = "<!-- docs/growth.py begins -->", "<!-- docs/growth.py ends -->"
SIZES = (10**6, 10**8, 10**10)
GIB = 2**30


@dataclass(frozen=True)
class Given:
    """What the formulas begin with: a number, its unit, and where it comes from."""

    symbol: str
    value: float
    unit: str
    source: str


GIVEN = (
    Given("D", 512, "dimensions", "of a vector, float32"),
    Given(
        "E", 1609, "images/s a GPU",
        "*training* of ICRE ResNet-50 at 384x144 on one H100 (docs/gpu.md). Extraction alone was "
        "not measured on a GPU; it does less, so GPU hours are upper limits",
    ),
    Given(
        "L", 2011, "images/s a core",
        "one loading worker while the cache fills (docs/speed.md, small crops)",
    ),
    Given("I", 10_000, "bytes", "of a crop as JPEG: assumed, put in yours"),
    Given(
        "m", 93, "bytes a row", "of a folder beside its vector: 1.04 GiB for 10^6 rows of 256 "
        "dimensions (docs/gallery.md)",
    ),
    Given("r", 300, "bytes a row", "of a Milvus row beside its vector: assumed (key, path, names)"),
    Given(
        "F", 8.8e9, "bytes/s", "that exact search reads, one query: 117 ms for 10^6 rows of 256 "
        "dimensions (docs/gallery.md)",
    ),
    Given(
        "F_b", 1.02e11, "bytes/s", "the same in a batch of 100: 10 ms a query (docs/gallery.md)"
    ),
    Given(
        "H", 1.0, "CPU ms", "of HNSW with ef 128 in 50,000 rows of 512 dimensions, faiss"
    ),
    Given("M", 32, "links", "of an HNSW node, 2M in the lowest layer (`icre.gallery.milvus.rows`)"),
    Given("S", GIB, "bytes", "of vectors in a Milvus segment, its default; each is searched"),
    Given("K", 2, "replicas", "of what is searched, so that one machine may fail"),
)  # fmt: skip


def growth(rows: int, given: dict[str, float]) -> dict[str, float]:
    """What `rows` crops take.

    Args:
        rows: N.
        given: symbol -> value of `GIVEN`.

    Returns:
        gpu_hours, core_hours, image_bytes, vector_bytes, folder_bytes, store_bytes,
        hnsw_bytes and diskann_bytes (memory of one replica), diskann_disk_bytes, segments,
        flat_seconds, batch_seconds (of a query), hnsw_cpu_seconds, large_cpu_seconds (with
        segments 16 times as large).
    """
    g = given
    vector = 4 * g["D"]
    segments = max(1, math.ceil(rows * vector / g["S"]))
    large = max(1, math.ceil(rows * vector / (16 * g["S"])))

    def hnsw_seconds(parts: int) -> float:
        """Each segment is a graph of its own; its search grows with the logarithm of its rows."""
        inside = max(rows / parts, 2)
        return parts * g["H"] / 1000 * math.log(inside) / math.log(50_000)

    sector = 4096 * math.ceil((vector + 4 * 57) / 4096)
    return {
        "gpu_hours": rows / g["E"] / 3600,
        "core_hours": rows / g["L"] / 3600,
        "image_bytes": rows * g["I"],
        "vector_bytes": rows * vector,
        "folder_bytes": rows * (vector + g["m"]),
        "store_bytes": rows * (vector + g["r"]),
        "hnsw_bytes": rows * (vector + 4 * 2 * g["M"] * 1.1 + g["r"]),
        "diskann_bytes": rows * (vector * 0.225 + 40),
        "diskann_disk_bytes": rows * (sector + g["r"]),
        "segments": segments,
        "flat_seconds": rows * vector / g["F"],
        "batch_seconds": rows * vector / g["F_b"],
        "hnsw_cpu_seconds": hnsw_seconds(segments),
        "large_cpu_seconds": hnsw_seconds(large),
    }


def _bytes(value: float) -> str:
    for unit, size in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value / 1e6:.3g} MB"


def _seconds(value: float) -> str:
    if value < 1:
        return f"{1000 * value:.3g} ms"
    return f"{value:,.3g} s" if value < 1000 else f"{value:,.0f} s"


def _count(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


# text of a row -> (its formula, how it is written, its key)
ROWS = {
    "extraction, GPU hours (at most)": ("N / E", _count, "gpu_hours"),
    "decoding, core hours": ("N / L", _count, "core_hours"),
    "images read over the network": ("N I", _bytes, "image_bytes"),
    "vectors written over the network": ("4 D N", _bytes, "vector_bytes"),
    "folder, disk (flat)": ("N (4 D + m)", _bytes, "folder_bytes"),
    "Milvus, object storage, one copy": ("N (4 D + r)", _bytes, "store_bytes"),
    "Milvus HNSW, memory of a replica": ("N (4 D + 8.8 M + r)", _bytes, "hnsw_bytes"),
    "Milvus DISKANN, memory of a replica": ("N (0.9 D + 40)", _bytes, "diskann_bytes"),
    "Milvus DISKANN, SSD of a replica": ("N (4096 + r)", _bytes, "diskann_disk_bytes"),
    "segments of 1 GiB, n": ("4 D N / S", _count, "segments"),
    "exact search, one query": ("4 D N / F", _seconds, "flat_seconds"),
    "exact search, in a batch of 100": ("4 D N / F_b", _seconds, "batch_seconds"),
    "HNSW, CPU of a query": ("n H ln(N / n) / ln 50,000", _seconds, "hnsw_cpu_seconds"),
    "the same, segments of 16 GiB": ("as above", _seconds, "large_cpu_seconds"),
}  # fmt: skip


def tables() -> str:
    """Both tables, in Markdown."""
    given = {one.symbol: one.value for one in GIVEN}
    found = {size: growth(size, given) for size in SIZES}
    first = [
        {"": one.symbol, "value": f"{one.value:,.6g}", "unit": one.unit, "source": one.source}
        for one in GIVEN
    ]
    second = [
        {"": text, "formula": f"`{formula}`"}
        | {f"10^{len(str(size)) - 1}": write(found[size][key]) for size in SIZES}
        for text, (formula, write, key) in ROWS.items()
    ]
    options = {"headers": "keys", "tablefmt": "github", "disable_numparse": True}
    return "\n\n".join(tabulate(rows, **options) for rows in (first, second))


def main(argv: list[str]) -> int:
    """Write, or with --check compare; 1 where the page is out of date."""
    text = PAGE.read_text()
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    made = f"{before}{BEGIN}\n\n{tables()}\n\n{END}{after}"
    if "--check" in argv:
        return int(made != text)
    PAGE.write_text(made)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
