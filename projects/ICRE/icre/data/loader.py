"""Data loaders from a config, on fast-reid's registry, samplers and collator."""

from collections.abc import Iterable

import torch
from torch.utils.data import BatchSampler, DataLoader, Sampler

from fastreid.config import CfgNode
from fastreid.data import build as fastreid_build
from fastreid.data import samplers
from fastreid.utils import comm

from icre.data.dataset import CORRUPT, CrossModalDataset
from icre.data.faults import outlive_sigterm
from icre.data.image import verify_images
from icre.data.pipeline import build_pipeline
from icre.data.sampler import CrossModalitySampler, SeededBatchSampler
from icre.datasets import load_dataset
from icre.modality import VISIBLE
from icre.utils.errors import UserError

CROSS_MODALITY = "CrossModalitySampler"
# fast-reid's: config, items, images per process -> sampler. Seeded, or each would draw a seed of its
# own from the generators of the run, and another one when the run is resumed.
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
SAMPLERS = (CROSS_MODALITY, *STOCK)


def verify_datasets(cfg: CfgNode, train: bool) -> None:
    """Decode every image that a run will read, before it starts.

    Args:
        cfg: DATASETS.TESTS and, when `train`, DATASETS.NAMES are read.
        train: check the training images too, where they must all be readable (DATALOADER.CORRUPT).

    Raises:
        UserError: names the first broken file, or what a data set is missing.
    """
    train = train and not CORRUPT[cfg.DATALOADER.CORRUPT]
    items = []
    for name in dict.fromkeys((*cfg.DATASETS.NAMES, *cfg.DATASETS.TESTS)):
        is_test = name in cfg.DATASETS.TESTS
        if not (train or is_test):
            continue
        data = load_dataset(cfg, name)
        items += data.train if train and name in cfg.DATASETS.NAMES else []
        items += data.query + data.gallery if is_test else []
    verify_images([item[0] for item in items])


def modalities_of(data, items: list[tuple]) -> list[int]:
    """Modality per item; a data set that does not know (fast-reid's own) is visible."""
    if not hasattr(data, "modality_of"):
        return [VISIBLE] * len(items)
    return [data.modality_of(item[0]) for item in items]


def build_train_set(cfg: CfgNode) -> CrossModalDataset:
    """All of DATASETS.NAMES as one training set."""
    items, modalities = [], []
    for name in cfg.DATASETS.NAMES:
        data = load_dataset(cfg, name, cfg.DATASETS.VALIDATION)
        if comm.is_main_process():
            data.show_train()
        items += data.train
        modalities += modalities_of(data, data.train)
    pipeline = build_pipeline(cfg, is_train=True, count=len(items))
    return CrossModalDataset(
        items, modalities, pipeline, relabel=True, replace=CORRUPT[cfg.DATALOADER.CORRUPT]
    )


def build_train_loader(
    cfg: CfgNode, train_set: CrossModalDataset | None = None, start_batch: int = 0
) -> DataLoader:
    """The endless training loader; batches are dicts as fast-reid's, plus `modalities` (B,).

    `icre.data.pipeline.finish` makes their images ready for a model.

    Args:
        cfg: DATALOADER.*, SOLVER.IMS_PER_BATCH (of all ranks together) and SEED are read.
        train_set: default: `build_train_set(cfg)`.
        start_batch: batches that a resumed run has already seen.
    """
    train_set = train_set or build_train_set(cfg)
    world_size = comm.get_world_size()
    if cfg.SOLVER.IMS_PER_BATCH % world_size:
        raise UserError(
            f"SOLVER.IMS_PER_BATCH {cfg.SOLVER.IMS_PER_BATCH} must be a multiple of the "
            f"{world_size} processes"
        )
    per_rank = cfg.SOLVER.IMS_PER_BATCH // world_size
    sampler = _build_sampler(cfg, train_set, per_rank)
    return _loader(
        cfg,
        train_set,
        SeededBatchSampler(sampler, per_rank, cfg.SEED, comm.get_rank(), start_batch),
    )


def build_test_loader(cfg: CfgNode, data) -> DataLoader:
    """Query, then gallery images of a data set, in order, shared out over the ranks.

    Whole batches of TEST.IMS_PER_BATCH are, and not single images: an image's feature depends in its
    last bits on what else is in its batch, and N processes are to find what one finds.
    """
    items = data.query + data.gallery
    test_set = CrossModalDataset(
        items,
        modalities_of(data, items),
        build_pipeline(cfg, is_train=False, count=len(items)),
        relabel=False,
    )
    batches = list(BatchSampler(range(len(test_set)), cfg.TEST.IMS_PER_BATCH, drop_last=False))
    share = -(-len(batches) // comm.get_world_size())
    first = share * comm.get_rank()
    return _loader(cfg, test_set, batches[first : first + share])


def iters_per_epoch(cfg: CfgNode, train_set: CrossModalDataset) -> int:
    """Batches in an epoch, at least one.

    CrossModalitySampler: one pass over the larger modality, half of each batch being of it.
    fast-reid's samplers: its own count, images // IMS_PER_BATCH.
    """
    if cfg.DATALOADER.SAMPLER_TRAIN != CROSS_MODALITY:
        return max(len(train_set) // cfg.SOLVER.IMS_PER_BATCH, 1)
    visible = sum(m == VISIBLE for m in train_set.modalities)
    larger = max(visible, len(train_set) - visible)
    return max(larger // (cfg.SOLVER.IMS_PER_BATCH // 2), 1)


def _build_sampler(cfg: CfgNode, train_set: CrossModalDataset, per_rank: int) -> Sampler[int]:
    name, instances = cfg.DATALOADER.SAMPLER_TRAIN, cfg.DATALOADER.NUM_INSTANCE
    if name not in SAMPLERS:
        raise UserError(
            f"DATALOADER.SAMPLER_TRAIN: unknown sampler {name!r}; known: {', '.join(SAMPLERS)}"
        )
    if name != CROSS_MODALITY:
        _require_identities(cfg, train_set, per_rank)
        return STOCK[name](cfg, train_set.img_items, per_rank)
    if per_rank % (2 * instances):
        raise UserError(
            f"SOLVER.IMS_PER_BATCH gives {per_rank} images per process; it must be a multiple of "
            f"2 x DATALOADER.NUM_INSTANCE = {2 * instances}"
        )
    return CrossModalitySampler(
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


def _loader(cfg: CfgNode, dataset: CrossModalDataset, batches: Iterable[list]) -> DataLoader:
    workers = cfg.DATALOADER.NUM_WORKERS
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
        timeout=cfg.DATALOADER.TIMEOUT if workers else 0,
        worker_init_fn=outlive_sigterm,
        # for the workers' seed, which would else be drawn from the generator of the run
        generator=torch.Generator(),
    )


def collate(samples: list[dict]) -> dict:
    """fast-reid's collator, in a module that a spawned worker can import (compat comes first)."""
    return fastreid_build.fast_batch_collator(samples)
