"""The row of a plain fast-reid: its Baseline, optimiser, trainer step and transforms.

What of fast-reid 1.4.0 does not work on a current torch is left out (see README.md): its contiguous
parameters, which train nothing, and its loader's own CUDA stream; batches are moved by `.to`.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader

import icre.compat  # noqa: F401

from fastreid.config import CfgNode
from fastreid.data import build as fastreid_build
from fastreid.data.common import CommDataset
from fastreid.data.transforms import build_transforms
from fastreid.engine.train_loop import AMPTrainer, SimpleTrainer
from fastreid.solver import build_optimizer
from fastreid.utils.events import EventStorage

from icre.benchmark.measure import Marks
from icre.benchmark.rows import Row, Setup, as_floats, endless, random_batches
from icre.data.loader import collate, load_dataset
from icre.engine.trainer import Trainer

NAME = "fast-reid Baseline"
# As configs/Demo/bagtricks_r18.yml: one stream, fast-reid's own head and losses.
OPTIONS = (
    "MODEL.META_ARCHITECTURE",
    "Baseline",
    "MODEL.BACKBONE.NAME",
    "build_resnet_backbone",
    "MODEL.HEADS.NAME",
    "EmbeddingHead",
    "MODEL.HEADS.POOL_LAYER",
    "GlobalAvgPool",
    "MODEL.LOSSES.NAME",
    "('CrossEntropyLoss', 'TripletLoss')",
    "DATALOADER.SAMPLER_TRAIN",
    "NaiveIdentitySampler",
)


class StockRow(Row):
    """fast-reid's Baseline in fast-reid's SimpleTrainer, or its AMPTrainer (fp16, GPU only).

    Args:
        cfg: a config with OPTIONS, batch, size, device and number of identities set.
        setup: what all rows share.
    """

    def __init__(self, cfg: CfgNode, setup: Setup):
        torch.manual_seed(setup.seed)
        self.name, self.device, self.marks = NAME, setup.device, Marks(setup.device)
        self.model = Trainer.build_model(cfg)
        optimizer, _ = build_optimizer(cfg, self.model, contiguous=False)
        mixed = cfg.SOLVER.AMP.ENABLED and setup.device.type == "cuda"
        self.precision = "fp16" if mixed else "fp32"
        if setup.root:
            batches = stock_loader(cfg, setup)
        else:
            batches = endless([_floats(batch) for batch in random_batches(setup)])
        kind = AMPTrainer if mixed else SimpleTrainer
        self._trainer = kind(self.model, _Moved(batches, setup.device), optimizer, None)
        self._trainer.model = self.marks.seen(self.model)

    def step(self) -> None:
        """fast-reid's own step, which reads every loss on the host."""
        with EventStorage():
            self._trainer.run_step()

    def test_mode(self) -> None:
        """Evaluation mode."""
        self.model.eval()

    @torch.no_grad()
    def extract(self, pixels: Tensor, modalities: Tensor, flip: bool) -> Tensor:
        """As fast-reid's inference_on_dataset, but mirrored before the images are normalised."""
        images = as_floats(pixels).to(self.device)
        mirrored = images.flip(dims=[3]) if flip else None
        features = self.model({"images": images})  # normalises `images` in place
        if flip:
            features = (features + self.model({"images": mirrored})) / 2
        return features.cpu()


def stock_loader(cfg: CfgNode, setup: Setup) -> DataLoader:
    """Endless batches: CommDataset, one transform per image, fast-reid's sampler and collator."""
    items = [item for name in cfg.DATASETS.NAMES for item in load_dataset(cfg, name).train]
    train_set = CommDataset(items, build_transforms(cfg, is_train=True), relabel=True)
    sampler = fastreid_build._train_loader_from_config(cfg, train_set=train_set)["sampler"]
    return DataLoader(
        train_set,
        batch_sampler=BatchSampler(sampler, setup.batch, True),
        collate_fn=collate,
        num_workers=setup.workers,
        pin_memory=setup.device.type == "cuda",
    )


class _Moved:
    """Batches on the device, each a new tensor (the model normalises it in place)."""

    def __init__(self, batches: Iterable[dict], device: torch.device):
        self.batches, self.device = batches, device

    def __iter__(self) -> Iterator[dict]:
        for batch in self.batches:
            yield {
                **batch,
                "images": batch["images"].to(self.device, non_blocking=True, copy=True),
                "targets": batch["targets"].to(self.device, non_blocking=True),
            }


def _floats(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**batch, "images": as_floats(batch["images"])}
