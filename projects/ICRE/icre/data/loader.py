"""Data loaders from a config, on fast-reid's registry, samplers and collator."""

from collections.abc import Iterable
from typing import Any

import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

import icre.compat  # noqa: F401
from icre.compat import is_two_stream, registered

from fastreid.config import CfgNode
from fastreid.data import build as fastreid_build
from fastreid.data import samplers
from fastreid.modeling.meta_arch import META_ARCH_REGISTRY
from fastreid.utils import comm

from icre.data.batch import DeviceLoader
from icre.data.dataset import CORRUPT, CrossModalDataset
from icre.data.faults import outlive_sigterm
from icre.data.pipeline import build_pipeline
from icre.data.sampler import (
    CrossModalitySampler,
    RandomCrossModalitySampler,
    SeededBatchSampler,
    batches_per_epoch,
)
from icre.datasets import load_dataset
from icre.modality import INFRARED, VISIBLE
from icre.utils.device import resolve_device, resolve_memory_format
from icre.utils.errors import UserError
from icre.utils.image import verify_images

CROSS_MODALITY = {
    kind.__name__: kind for kind in (CrossModalitySampler, RandomCrossModalitySampler)
}
# fast-reid's: config, items, images per process -> sampler. Without a seed each would take one from
# the generators of the run, and another one when the run is resumed.
STOCK = {
    "NaiveIdentitySampler": lambda cfg, items, batch: samplers.NaiveIdentitySampler(
        items, batch, cfg.DATALOADER.NUM_INSTANCE, cfg.SEED
    ),
    "BalancedIdentitySampler": lambda cfg, items, batch: samplers.BalancedIdentitySampler(
        items, batch, cfg.DATALOADER.NUM_INSTANCE, cfg.SEED
    ),
    "TrainingSampler": lambda cfg, items, batch: samplers.TrainingSampler(
        len(items), seed=cfg.SEED
    ),
    "ImbalancedDatasetSampler": lambda cfg, items, batch: samplers.ImbalancedDatasetSampler(
        items, seed=cfg.SEED
    ),
}
IDENTITY_SAMPLERS = ("NaiveIdentitySampler", "BalancedIdentitySampler")
SAMPLERS = (*CROSS_MODALITY, *STOCK)


def verify_datasets(cfg: CfgNode, train: bool) -> None:
    """Decode every image that a run will read, before it starts.

    Args:
        cfg: DATASETS.TESTS and, when `train`, DATASETS.NAMES are read.
        train: check the training images too, where they must all be readable (DATALOADER.CORRUPT).

    Raises:
        UserError: names the first broken file, or what a data set is missing.
    """
    train = train and not CORRUPT[cfg.DATALOADER.CORRUPT]
    items: list[tuple] = []
    for name in dict.fromkeys((*cfg.DATASETS.NAMES, *cfg.DATASETS.TESTS)):
        is_test = name in cfg.DATASETS.TESTS
        if not (train or is_test):
            continue
        data = load_dataset(cfg, name, validation=not train and cfg.TEST.SPLIT == "val")
        items += data.train if train and name in cfg.DATASETS.NAMES else []
        items += data.query + data.gallery if is_test else []
    verify_images([item[0] for item in items])


def modalities_of(data, items: list[tuple]) -> list[int]:
    """Modality per item; a data set that does not know (fast-reid's own) is visible."""
    if not hasattr(data, "modality_of"):
        return [VISIBLE] * len(items)
    return [data.modality_of(item[0]) for item in items]


def require_modalities(cfg: CfgNode, data: Any, items: list[tuple]) -> None:
    """Refuse a data set that names no modality where the config needs one of every image.

    Args:
        cfg: MODEL, DATALOADER.SAMPLER_TRAIN and INPUT.CHANNEL_AUG are read.
        data: the data set of `items`.

    Raises:
        UserError: names the key that needs modalities, and the data set.
    """
    model = cfg.MODEL
    architecture = registered(META_ARCH_REGISTRY)[model.META_ARCHITECTURE]
    needs = [
        f"{key} {value}"
        for key, value, needed in (
            ("MODEL.META_ARCHITECTURE", model.META_ARCHITECTURE, is_two_stream(architecture)),
            ("DATALOADER.SAMPLER_TRAIN", cfg.DATALOADER.SAMPLER_TRAIN,
             cfg.DATALOADER.SAMPLER_TRAIN in CROSS_MODALITY),
            ("INPUT.CHANNEL_AUG.ENABLED", True, cfg.INPUT.CHANNEL_AUG.ENABLED),
        )
        if needed
    ]  # fmt: skip
    if not needs:
        return
    name = type(data).__name__
    if not hasattr(data, "modality_of"):
        raise UserError(
            f"data set {name} does not say which images are visible and which infrared, and "
            f"{needs[0]} needs it: give its class a method modality_of(path), which returns "
            f"{VISIBLE} (visible) or {INFRARED} (infrared), or take a stock model and sampler (a "
            "meta-architecture of your own that needs no modalities says two_stream = False)"
        )
    for path, *_ in items:
        modality = data.modality_of(path)
        if modality not in (VISIBLE, INFRARED):
            raise UserError(
                f"data set {name}: modality_of({path!r}) is {modality!r}, it must be {VISIBLE} "
                f"(visible) or {INFRARED} (infrared)"
            )


def build_train_set(cfg: CfgNode) -> CrossModalDataset:
    """All of DATASETS.NAMES as one training set."""
    items: list[tuple] = []
    modalities: list[int] = []
    for name in cfg.DATASETS.NAMES:
        data = load_dataset(cfg, name, cfg.DATASETS.VALIDATION)
        if comm.is_main_process():
            data.show_train()
        require_modalities(cfg, data, data.train)
        items += data.train
        modalities += modalities_of(data, data.train)
    pipeline = build_pipeline(cfg, is_train=True, count=len(items))
    return CrossModalDataset(
        items, modalities, pipeline, relabel=True, replace=CORRUPT[cfg.DATALOADER.CORRUPT]
    )


def build_train_loader(cfg: CfgNode) -> DeviceLoader:
    """The endless training loader of DATASETS.NAMES, on MODEL.DEVICE.

    Batches are fast-reid's, ready for a model: `images` (B, 3, H, W) in 0..255, `targets`,
    `camids`, `img_paths`, and `modalities` (B,) on the CPU. `batch_sampler.start_batch` may be set
    before the first batch.

    Args:
        cfg: DATALOADER.*, SOLVER.IMS_PER_BATCH (of all ranks together) and SEED are read.
    """
    train_set = build_train_set(cfg)
    world_size = comm.get_world_size()
    if cfg.SOLVER.IMS_PER_BATCH % world_size:
        raise UserError(
            f"SOLVER.IMS_PER_BATCH {cfg.SOLVER.IMS_PER_BATCH} must be a multiple of the "
            f"{world_size} processes"
        )
    per_rank = cfg.SOLVER.IMS_PER_BATCH // world_size
    sampler = _build_sampler(cfg, train_set, per_rank)
    batches = SeededBatchSampler(sampler, per_rank, cfg.SEED, comm.get_rank())
    device = resolve_device(cfg.MODEL.DEVICE)
    memory_format = resolve_memory_format(cfg.SOLVER.LAYOUT, device)
    return DeviceLoader(data_loader(cfg, train_set, batches), device, memory_format)


def build_test_loader(cfg: CfgNode, data: Any) -> DeviceLoader:
    """Query, then gallery images of a data set, in order, divided among the ranks.

    Whole batches of TEST.IMS_PER_BATCH are divided, and not single images: an image's feature
    depends in its last bits on the rest of its batch, and N processes are to find what one finds.
    """
    items = data.query + data.gallery
    require_modalities(cfg, data, items)
    pipeline = build_pipeline(cfg, is_train=False, count=len(items))
    test_set = CrossModalDataset(
        items, modalities_of(data, items), pipeline, relabel=False, source=data
    )
    batches = list(BatchSampler(range(len(test_set)), cfg.TEST.IMS_PER_BATCH, drop_last=False))
    share = -(-len(batches) // comm.get_world_size())
    first = share * comm.get_rank()
    loader = data_loader(cfg, test_set, batches[first : first + share])
    return DeviceLoader(loader, resolve_device(cfg.MODEL.DEVICE))


def iters_per_epoch(cfg: CfgNode, train_set: Dataset) -> int:
    """Batches in an epoch, at least one.

    CrossModalitySampler: one pass over the larger modality, half of each batch being of it.
    RandomCrossModalitySampler: one batch more, as in the public codes.
    fast-reid's samplers, or a data set without modalities: images // IMS_PER_BATCH, as fast-reid.

    Args:
        cfg: DATALOADER.SAMPLER_TRAIN and SOLVER.IMS_PER_BATCH are read.
        train_set: what the training loader loads.
    """
    modalities = getattr(train_set, "modalities", None)
    if cfg.DATALOADER.SAMPLER_TRAIN not in CROSS_MODALITY or modalities is None:
        return max(len(train_set) // cfg.SOLVER.IMS_PER_BATCH, 1)  # type: ignore[arg-type]
    more = CROSS_MODALITY[cfg.DATALOADER.SAMPLER_TRAIN].extra_batches
    return batches_per_epoch(modalities, cfg.SOLVER.IMS_PER_BATCH) + more


def _build_sampler(cfg: CfgNode, train_set: CrossModalDataset, per_rank: int) -> Sampler[int]:
    name, instances = cfg.DATALOADER.SAMPLER_TRAIN, cfg.DATALOADER.NUM_INSTANCE
    if name not in SAMPLERS:
        raise UserError(
            f"DATALOADER.SAMPLER_TRAIN: unknown sampler {name!r}; known: {', '.join(SAMPLERS)}"
        )
    if name not in CROSS_MODALITY:
        _require_identities(cfg, train_set, per_rank)
        return STOCK[name](cfg, train_set.img_items, per_rank)
    if per_rank % (2 * instances):
        raise UserError(
            f"SOLVER.IMS_PER_BATCH gives {per_rank} images per process; it must be a multiple of "
            f"2 x DATALOADER.NUM_INSTANCE = {2 * instances}"
        )
    return CROSS_MODALITY[name](
        [pid for _, pid, _ in train_set.img_items],
        train_set.modalities,
        num_pids=per_rank // (2 * instances),
        num_instances=instances,
        seed=cfg.SEED,
        rank=comm.get_rank(),
        world_size=comm.get_world_size(),
    )


def _require_identities(cfg: CfgNode, train_set: CrossModalDataset, per_rank: int) -> None:
    """fast-reid's identity samplers loop for ever where a batch can never be filled."""
    if cfg.DATALOADER.SAMPLER_TRAIN not in IDENTITY_SAMPLERS:
        return
    instances = cfg.DATALOADER.NUM_INSTANCE
    needed = per_rank // instances * comm.get_world_size()
    if per_rank % instances or train_set.num_classes < needed:
        raise UserError(
            f"SOLVER.IMS_PER_BATCH gives {per_rank} images per process: it must be a multiple of "
            f"DATALOADER.NUM_INSTANCE {instances}, and the {needed} identities it asks for must "
            f"not exceed the {train_set.num_classes} of the training set"
        )


def data_loader(cfg: CfgNode, dataset: CrossModalDataset, batches: Iterable[list]) -> DataLoader:
    """A torch DataLoader of the given batches of indices, by DATALOADER.*."""
    workers = cfg.DATALOADER.NUM_WORKERS
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=resolve_device(cfg.MODEL.DEVICE).type == "cuda",
        timeout=cfg.DATALOADER.TIMEOUT if workers else 0,
        worker_init_fn=outlive_sigterm,
        # for the workers' seed, which would else be drawn from the generator of the run
        generator=torch.Generator(),
    )


def collate(samples: list[dict]) -> dict:
    """fast-reid's collator, in a module that a spawned worker can import (compat comes first)."""
    return fastreid_build.fast_batch_collator(samples)
