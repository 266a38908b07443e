"""`benchmark data`: loaders alone, and what each stage of loading an image costs.

Our loader decodes each image, or takes it from DATALOADER.CACHE_GB's cache; fast-reid's is its
CommDataset with one transform per image. A batch counts as loaded when it is on the device, ready
for a model.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from statistics import median
from time import perf_counter
from typing import Any

import torch
from tabulate import tabulate
from torchvision import transforms as T

import icre.compat  # noqa: F401

from fastreid.config import CfgNode
from fastreid.data.data_utils import read_image as fastreid_read_image
from fastreid.data.transforms import build_transforms

from icre.benchmark.loops import FASTREID, Setup, fastreid_loader
from icre.benchmark.measure import synchronise
from icre.benchmark.setup import Options, conditions, fastreid_overrides, overrides, read_setup
from icre.benchmark.watch import Watch
from icre.config import load_config
from icre.data.batch import to_device
from icre.data.dataset import CrossModalDataset
from icre.data.loader import build_train_loader, build_train_set, collate
from icre.utils.environment import environment
from icre.utils.image import read_image
from icre.utils.progress import progress_bar

DECODED, CACHED = "ours, decoding", "ours, from the cache"
STAGES = ("decode", "resize", "augment", "collate", "transfer")


def run(options: Options, workers: int | None = None, watch: Watch | None = None) -> dict[str, Any]:
    """Time the loaders in turn, then the stages in this process; returns the result.

    Args:
        options: of the speed benchmarks; the images are the config's unless `data` is set.
        workers: instead of the config's DATALOADER.NUM_WORKERS.
        watch: shows the rows as they are measured.
    """
    watch = watch or Watch()
    file, opts = options.config_file[0], list(options.opts)
    if workers is not None:
        opts += ["DATALOADER.NUM_WORKERS", str(workers)]
    root = options.data or load_config(file, opts).DATASETS.ROOT
    options = replace(options, opts=opts, data=root)
    setup = read_setup(options)
    common = overrides(options, setup)
    cfg = load_config(file, common)
    decoding = load_config(file, [*common, "DATALOADER.CACHE_GB", "0.0"])
    plain = load_config(file, fastreid_overrides(options, setup))
    loaders = {
        DECODED: build_train_loader(decoding),
        CACHED: build_train_loader(cfg),
        FASTREID: fastreid_loader(plain, setup),
    }
    cached_set, decoding_set = loaders[CACHED].dataset, loaders[DECODED].dataset
    for index in progress_bar(range(len(cached_set)), "filling the cache", leave=False):
        cached_set[index]
    batches = {name: iter(loader) for name, loader in loaders.items()}
    rates = _rates(batches, setup, options.steps, options.rounds, watch)
    return {
        **environment(),
        **conditions(setup),
        "benchmark": "data",
        "batch": setup.batch,
        "workers": setup.workers,
        "steps": options.steps,
        "reference": FASTREID,
        "rows": [_row(name, rates) for name in loaders],
        "stages_ms": {
            DECODED: _our_stages(decoding_set, setup),
            CACHED: _our_stages(cached_set, setup),
            FASTREID: _fastreid_stages(plain, setup),
        },
    }


def _row(name: str, rates: dict[str, list[float]]) -> dict[str, Any]:
    return {
        "name": name,
        "images_per_second": median(rates[name]),
        "rounds": rates[name],
        "ratio": median(mine / other for mine, other in zip(rates[name], rates[FASTREID])),
    }


def _rates(
    loaders: dict[str, Iterator[dict]], setup: Setup, steps: int, rounds: int, watch: Watch
) -> dict[str, list[float]]:
    """Images per second of each loader in each round, without batches that workers had ready."""
    rates: dict[str, list[float]] = {name: [] for name in loaders}
    for number in watch.each(range(1, rounds + 1), "rounds"):
        for name, loader in loaders.items():
            for _ in range(1 + setup.prefetched):
                to_device(next(loader), setup.device)
            start = perf_counter()
            for _ in range(steps):
                to_device(next(loader), setup.device)
            synchronise(setup.device)
            rate = setup.batch * steps / (perf_counter() - start)
            rates[name].append(rate)
            watch.row(f"{name}, round {number}: {rate:.0f} images/s", images_per_second=rate)
    return rates


def _our_stages(data: CrossModalDataset, setup: Setup) -> dict[str, float]:
    """Milliseconds per image and stage, in this process.

    `augment` is what an image of the data set costs beyond reading and resizing it, and what
    `to_device` costs beyond moving. Images in the cache are neither read nor resized.
    """
    indices = _spread(len(data), setup.batch)
    cached = bool(getattr(getattr(data.pipeline, "cache", None), "capacity", 0))
    paths = [] if cached else [data.img_items[index][0] for index in indices]
    by_image = T.Resize(setup.size, interpolation=T.InterpolationMode.BICUBIC)  # as fast-reid
    resize = getattr(data.pipeline, "resize", by_image)
    images, decode = _timed(lambda: [read_image(path) for path in paths])
    _, resized = _timed(lambda: [resize(image) for image in images])
    samples, whole = _timed(lambda: [data[index, seed] for seed, index in enumerate(indices)])
    batch, collated = _timed(lambda: collate(samples))
    _, moved = _timed(lambda: _move(batch, setup.device))
    _, ready = _timed(lambda: _ready(batch, setup.device))
    augment = max(whole - decode - resized, 0.0) + max(ready - moved, 0.0)
    seconds = (decode, resized, augment, collated, moved)
    return {name: 1000 * value / setup.batch for name, value in zip(STAGES, seconds)}


def _fastreid_stages(cfg: CfgNode, setup: Setup) -> dict[str, float]:
    """The same of fast-reid's reader, transforms and collator."""
    items = build_train_set(cfg).img_items
    first, *others = build_transforms(cfg, is_train=True).transforms
    chain = T.Compose(others)
    paths = [items[index][0] for index in _spread(len(items), setup.batch)]
    images, decode = _timed(lambda: [fastreid_read_image(path) for path in paths])
    resized, resize = _timed(lambda: [first(image) for image in images])
    tensors, augment = _timed(lambda: [chain(image) for image in resized])
    rows = [
        {"images": image, "targets": 0, "camids": 0, "img_paths": path}
        for image, path in zip(tensors, paths)
    ]
    batch, collated = _timed(lambda: collate(rows))
    _, moved = _timed(lambda: _move(batch, setup.device))
    seconds = (decode, resize, augment, collated, moved)
    return {name: 1000 * value / setup.batch for name, value in zip(STAGES, seconds)}


def _spread(count: int, wanted: int) -> list[int]:
    """`wanted` indices over the whole data set (all cameras and modalities)."""
    return [number * count // wanted for number in range(wanted)]


def _move(batch: dict, device: torch.device) -> None:
    for value in batch.values():
        if isinstance(value, torch.Tensor):
            value.to(device)
    synchronise(device)


def _ready(batch: dict, device: torch.device) -> None:
    to_device(batch, device)
    synchronise(device)


def _timed(function: Callable[[], Any], repeat: int = 3) -> tuple[Any, float]:
    """The last result and the median seconds of `repeat` calls after one that is not timed."""
    function()
    seconds = []
    for _ in range(repeat):
        start = perf_counter()
        result = function()
        seconds.append(perf_counter() - start)
    return result, median(seconds)


def text(result: dict[str, Any]) -> str:
    """Both tables of a result."""
    height, width = result["size"]
    speeds = [
        {
            "loader": row["name"],
            "images/s": f"{row['images_per_second']:.0f}",
            f"x {result['reference']}": f"{row['ratio']:.2f}",
        }
        for row in result["rows"]
    ]
    stages = [
        {
            "ms per image, one process": name,
            **{stage: f"{ms[stage]:.3f}" for stage in STAGES},
            "sum": f"{sum(ms.values()):.3f}",
        }
        for name, ms in result["stages_ms"].items()
    ]
    head = (
        f"batches of {result['batch']} images of {height}x{width}, {result['workers']} workers, to "
        f"{result['device']} ({result['gpu'] or result['cpu']})"
    )
    tables = [
        tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True)
        for rows in (speeds, stages)
    ]
    return "\n\n".join([head, *tables])
