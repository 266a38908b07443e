"""`benchmark serve`: queries a second, latency and memory of `search serve` under load.

The service is a process of its own, started as a user starts it; the clients are threads with one
connection each, which ask again as soon as they have an answer. They share the machine with it.
"""

import http.client
import io
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tabulate import tabulate

import icre.compat  # noqa: F401

from icre.benchmark.measure import or_dash
from icre.benchmark.watch import Watch
from icre.config import load_config
from icre.gallery.index import require_enough
from icre.gallery.store import ModelInfo, open_gallery
from icre.gallery.table import ImageTable
from icre.gallery.writing import write
from icre.inference.extractor import FeatureExtractor
from icre.modeling.build import build_model
from icre.utils.environment import environment
from icre.utils.errors import UserError
from icre.utils.files import sha256_of

TOP, BLOCK = 10, 32_768
WARM = 8  # requests of each client before the measurement
START_SECONDS = 300  # at most, until the service answers
# ICRE with ResNet-18, on images of 128x64
MODEL = (
    *("MODEL.META_ARCHITECTURE", "ICRE", "MODEL.BACKBONE.NAME", "build_two_stream_resnet_backbone"),
    *("MODEL.BACKBONE.DEPTH", "18x", "MODEL.BACKBONE.FEAT_DIM", "512"),
    *("MODEL.HEADS.NAME", "ICREHead", "MODEL.HEADS.POOL_LAYER", "GeneralizedMeanPooling"),
    *("MODEL.HEADS.WITH_BNNECK", "True", "MODEL.HEADS.NUM_CLASSES", "8"),
    *("MODEL.LOSSES.NAME", "('CrossEntropyLoss',)", "MODEL.BACKBONE.PRETRAIN", "False"),
    *("INPUT.SIZE_TEST", "[128,64]", "MODEL.DEVICE", "cpu"),
)


def run(
    size: int = 100_000,
    clients: Sequence[int] = (1, 8, 64),
    requests: int = 200,
    batch: int = 32,
    device: str = "cpu",
    config_file: str = "",
    seed: int = 0,
    index: str = "flat",
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Measure one query alone, then the service with and without batches.

    Args:
        size: images of the gallery, random unit vectors.
        clients: at a time.
        requests: of one image each, per row.
        batch: of the row with batches; the other computes one image at a time.
        device: of the model.
        config_file: of the model, whose weights are random; "": a small one.
        seed: of weights and vectors.
        index: of the gallery.
        watch: shows the rows as they are measured.

    Raises:
        UserError: a number below 1, or the service does not start.
    """
    if min(size, requests, batch, *clients) < 1:
        raise UserError("--size, --clients, --requests and --batch must be at least 1")
    require_enough(index, size)
    rows: list[dict[str, Any]] = []
    watch = watch or Watch()

    def add(row: dict[str, Any]) -> None:
        rows.append(row)
        watch.row("  ".join(_cells(row).values()), **row)

    with tempfile.TemporaryDirectory(prefix="serve") as folder:
        gallery = _make_gallery(Path(folder), size, config_file, seed, index)
        add(_search_alone(gallery, seed))
        for images in watch.each(list(dict.fromkeys((batch, 1))), "sizes of a batch"):
            with _service(gallery, images, max(clients), device) as (port, process):
                # sizes of batches that were not seen before take memory once
                _ask(port, max(clients), WARM * max(clients), seed)
                for count in clients:
                    row = {"step": "one by one" if images == 1 else f"batches up to {images}"}
                    before, held = _counters(port), _memory(process)
                    row |= _ask(port, count, requests, seed)
                    row |= _parts(before, _counters(port)) | _memory(process)
                    if held:  # what each request would leave behind adds up here
                        row["rise_mib"] = row["own_mib"] - held["own_mib"]
                    add(row)
    return environment() | {
        "benchmark": "serve",
        "device": device,
        "size": size,
        "index": index,
        "requests": requests,
        "model": config_file or "ICRE with ResNet-18, images of 128x64",
        "seed": seed,
        "rows": rows,
    }


def _make_gallery(folder: Path, size: int, config_file: str, seed: int, kind: str) -> Path:
    """A gallery of random vectors, of a model with random weights."""
    torch.manual_seed(seed)
    cfg = load_config(config_file, [] if config_file else MODEL)
    weights = folder / "model.pth"
    torch.save({"model": build_model(cfg).state_dict()}, weights)
    extractor = FeatureExtractor(cfg, weights)
    dimensions = extractor.features([Image.new("RGB", (64, 128))], [0]).shape[1]
    generator = np.random.default_rng(seed)

    def blocks() -> Iterator[np.ndarray]:
        for start in range(0, size, BLOCK):
            shape = min(BLOCK, size - start), dimensions
            vectors = generator.standard_normal(shape, dtype=np.float32)
            yield vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    table = ImageTable(
        [f"/data/frames/{number:09d}.jpg" for number in range(size)],
        np.zeros(size, dtype=np.int64),
        [str(number % 50) for number in range(size)],
        [f"person {number // 20}" for number in range(size)],
    )
    model = ModelInfo(str(weights), sha256_of(weights), cfg.dump())
    write(folder / "gallery", table, blocks(), model, kind, progress=False)
    return folder / "gallery"


def _search_alone(folder: Path, seed: int, repeat: int = 20) -> dict[str, Any]:
    """The search of one query, in this process."""
    gallery = open_gallery(folder)
    dimensions = gallery.manifest["dimensions"]
    queries = np.random.default_rng(seed + 1).standard_normal((repeat, dimensions))
    queries = (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype(np.float32)
    gallery.nearest(queries[:1], TOP)  # reads from the disk what is mapped
    seconds = []
    for query in queries:
        start = time.perf_counter()
        gallery.nearest(query[None], TOP)
        seconds.append(time.perf_counter() - start)
    return {"step": "search alone", "clients": 1} | _summary(seconds, sum(seconds))


@contextmanager
def _service(
    gallery: Path, batch: int, clients: int, device: str
) -> Iterator[tuple[int, subprocess.Popen]]:
    """The command `search serve` as a process; yields its port."""
    words = [sys.executable, "-m", "icre", "search", "serve", str(gallery), "--port", "0"]
    words += ["--device", device, "--batch", str(batch), "--no-audit"]
    words += ["--max-waiting", str(clients), "--time-limit", "120"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    timer = threading.Timer(START_SECONDS, process.kill)
    timer.start()
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        timer.cancel()
        if "http://" not in line:
            raise UserError(f"the service did not start within {START_SECONDS} s")
        yield int(line.rstrip("/\n").rpartition(":")[2]), process
    finally:
        timer.cancel()
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ask(port: int, clients: int, requests: int, seed: int) -> dict[str, Any]:
    """Let clients ask together; each request is of one image."""
    shares = [len(part) for part in np.array_split(np.arange(requests), clients)]

    def client(number: int) -> list[float]:
        body, headers = _form(_picture(seed + number))
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        seconds = []
        for _ in range(shares[number]):
            start = time.perf_counter()
            connection.request("POST", "/v1/query", body, headers)
            reply = connection.getresponse()
            content = reply.read()
            if reply.status != 200:
                raise UserError(f"the service answers {reply.status}: {content[:200]!r}")
            seconds.append(time.perf_counter() - start)
        connection.close()
        return seconds

    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        seconds = [one for part in pool.map(client, range(clients)) for one in part]
    return {"clients": clients} | _summary(seconds, time.perf_counter() - start)


def _counters(port: int) -> dict[str, float]:
    """What the service counted so far, as Prometheus reads it."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def _parts(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """Mean size of a batch, and mean milliseconds of model and search per batch."""

    def mean(name: str) -> float:
        count = after[f"{name}_count"] - before[f"{name}_count"]
        return (after[f"{name}_sum"] - before[f"{name}_sum"]) / max(count, 1)

    return {
        "images_a_batch": mean("icre_batch_images"),
        "model_milliseconds": 1000 * mean("icre_model_seconds"),
        "search_milliseconds": 1000 * mean("icre_search_seconds"),
    }


def _summary(seconds: Sequence[float], total: float) -> dict[str, Any]:
    middle, late = np.percentile(seconds, (50, 99))
    return {
        "requests": len(seconds),
        "queries_a_second": len(seconds) / total,
        "p50_milliseconds": 1000 * float(middle),
        "p99_milliseconds": 1000 * float(late),
    }


def _picture(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (128, 64, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def _form(content: bytes) -> tuple[bytes, dict[str, str]]:
    boundary = secrets.token_hex(16)
    start = f'--{boundary}\r\nContent-Disposition: form-data; name="'
    body = f'{start}modality"\r\n\r\ninfrared\r\n{start}image"; filename="a.jpg"\r\n\r\n'.encode()
    body += content + f"\r\n--{boundary}--\r\n".encode()
    return body, {"Content-Type": f"multipart/form-data; boundary={boundary}"}


def _memory(process: subprocess.Popen) -> dict[str, Any]:
    """Resident memory of the service, of which the mapped gallery is the part `file`."""
    try:
        text = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return {}
    kilobytes = dict(line.split(":", 1) for line in text.splitlines())
    return {
        "own_mib": int(kilobytes["RssAnon"].split()[0]) / 1024,
        "file_mib": int(kilobytes["RssFile"].split()[0]) / 1024,
    }


def _cells(row: dict[str, Any]) -> dict[str, str]:
    return {
        "step": row["step"],
        "clients": str(row["clients"]),
        "requests": str(row["requests"]),
        "queries/s": or_dash(row.get("queries_a_second"), ".1f"),
        "p50 ms": or_dash(row.get("p50_milliseconds"), ".1f"),
        "p99 ms": or_dash(row.get("p99_milliseconds"), ".1f"),
        "images a batch": or_dash(row.get("images_a_batch"), ".1f"),
        "model ms": or_dash(row.get("model_milliseconds"), ".1f"),
        "search ms": or_dash(row.get("search_milliseconds"), ".1f"),
        "own MiB": or_dash(row.get("own_mib"), ".0f"),
        "rise MiB": or_dash(row.get("rise_mib"), ".0f"),
        "mapped MiB": or_dash(row.get("file_mib"), ".0f"),
    }


def text(result: dict[str, Any]) -> str:
    """The table of a result."""
    shown = [_cells(row) for row in result["rows"]]
    return tabulate(shown, headers="keys", tablefmt="github", disable_numparse=True)
