"""The training loops that the speed benchmarks compare, on the same data.

A loop is built, warmed up and timed through four functions. It is a config of this project
(`ConfigLoop`), a plain fast-reid (`FastReidLoop`) or public code (`public_loops`).

Shapes: B images of H x W pixels, P identities with K images of each modality (B = 2PK).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import cycle

import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader

import icre.compat.evaluation  # noqa: F401

from fastreid.config import CfgNode
from fastreid.data import build as fastreid_build
from fastreid.data.common import CommDataset
from fastreid.data.transforms import build_transforms
from fastreid.engine.train_loop import AMPTrainer, SimpleTrainer
from fastreid.solver import build_optimizer
from fastreid.utils.events import EventStorage

from icre.benchmark.measure import DTYPES, StepTimer
from icre.data.loader import collate
from icre.datasets import load_dataset
from icre.engine.step import Step, compile_model
from icre.engine.trainer import LOG_EVERY, Trainer
from icre.evaluation.extraction import extract_features
from icre.modality import INFRARED, VISIBLE
from icre.modeling.build import build_model
from icre.utils.device import resolve_memory_format

FASTREID = "fast-reid Baseline"
# As configs/Demo/bagtricks_r18.yml: one stream, fast-reid's own head and losses.
FASTREID_OPTIONS = (
    *("MODEL.META_ARCHITECTURE", "Baseline"),
    *("MODEL.HEADS.TEST_FEAT", "after"),
    *("MODEL.BACKBONE.NAME", "build_resnet_backbone"),
    *("MODEL.BACKBONE.TIMM", ""),
    *("MODEL.HEADS.NAME", "EmbeddingHead"),
    *("MODEL.HEADS.POOL_LAYER", "GlobalAvgPool"),
    *("MODEL.LOSSES.NAME", "('CrossEntropyLoss', 'TripletLoss')"),
    *("DATALOADER.SAMPLER_TRAIN", "NaiveIdentitySampler"),
)
_IN_MEMORY = 2  # different random batches


@dataclass(frozen=True)
class Setup:
    """What all loops of a benchmark share.

    Attributes:
        batch: B, images per step of both modalities together.
        size: (H, W).
        device: of models and batches.
        classes: identities of the classifier.
        instances: K.
        root: DATASETS.ROOT of the images to load; None: random images in memory.
        workers: processes of a loader.
        seed: of weights and random images.
    """

    batch: int
    size: tuple[int, int]
    device: torch.device
    classes: int = 395  # SYSU-MM01's training identities
    instances: int = 4
    root: str | None = None
    workers: int = 0
    seed: int = 0

    @property
    def prefetched(self) -> int:
        """Batches that a loader may have ready before a timing starts."""
        return 2 * self.workers if self.root else 0


class Loop(ABC):
    """One training loop.

    Attributes:
        name: in the table.
        precision: of its forward pass, a key of DTYPES.
        model: its network.
        timer: splits `step` into its parts.
    """

    name: str
    precision: str
    model: nn.Module
    timer: StepTimer

    @abstractmethod
    def step(self) -> None:
        """Train on the next batch, with all that the loop does per step."""

    @abstractmethod
    def extract(self, pixels: Tensor, modalities: Tensor, flip: bool) -> Tensor:
        """Features on the host, as the loop's own test extracts them.

        Args:
            pixels: (B, H, W, 3) uint8 on the host.
            modalities: (B,).
            flip: average with the mirrored images' features.
        """

    def eval_mode(self) -> None:
        """Switch to evaluation mode, for `extract`."""
        self.model.eval()


class ConfigLoop(Loop):
    """A config of this project, whatever model it names, trained by the trainer's own parts.

    Args:
        name: of the row.
        cfg: with batch, size, device and number of identities set.
        setup: what all loops share.
    """

    def __init__(self, name: str, cfg: CfgNode, setup: Setup):
        torch.manual_seed(setup.seed)
        self.name, self.device, self.timer = name, setup.device, StepTimer(setup.device)
        self.model = Trainer.build_model(cfg)
        memory_format = resolve_memory_format(cfg.SOLVER.LAYOUT, setup.device)
        compile_model(self.model, cfg.SOLVER.COMPILE)
        optimizer = Trainer.build_optimizer(cfg, self.model)
        self._step = Step(self.model, optimizer, setup.device, cfg.SOLVER.AMP, memory_format)
        self._step.model = self.timer.wrap(self.model)
        loaded = iter(Trainer.build_train_loader(cfg)) if setup.root else None
        self._step.batches = loaded or cycle(random_batches(setup))
        self.precision = next(name for name, known in DTYPES.items() if known == self._step.dtype)
        self._done = 0

    def step(self) -> None:
        """The trainer's step, which logs its losses every LOG_EVERY steps."""
        with EventStorage():
            self._step.run(log=self._done % LOG_EVERY == 0)
        self._done += 1

    def extract(self, pixels: Tensor, modalities: Tensor, flip: bool) -> Tensor:
        """By `extract_features`, as tools/extract_features.py does."""
        batch = {"images": pixels, "modalities": modalities}
        ((_, features),) = extract_features(self.model, [batch], self.device, flip)
        return features.float().cpu()


class FastReidLoop(Loop):
    """fast-reid's Baseline in its SimpleTrainer, or AMPTrainer (fp16, GPU only).

    What of fast-reid 1.4.0 does not work on a current torch is left out (see README.md): its
    contiguous parameters, which train nothing, and its loader's own CUDA stream.

    Args:
        cfg: a config with FASTREID_OPTIONS, batch, size, device and number of identities set.
        setup: what all loops share.
    """

    name = FASTREID

    def __init__(self, cfg: CfgNode, setup: Setup):
        torch.manual_seed(setup.seed)
        self.device, self.timer = setup.device, StepTimer(setup.device)
        self.model = build_model(cfg, setup.device)
        optimizer, _ = build_optimizer(cfg, self.model, contiguous=False)
        mixed = cfg.SOLVER.AMP.ENABLED and setup.device.type == "cuda"
        self.precision = "fp16" if mixed else "fp32"
        batches = fastreid_loader(cfg, setup) if setup.root else _endless_floats(setup)
        trainer = AMPTrainer if mixed else SimpleTrainer
        self._trainer = trainer(self.model, _on_device(batches, setup.device), optimizer, None)
        self._trainer.model = self.timer.wrap(self.model)

    def step(self) -> None:
        """fast-reid's own step, which reads every loss on the host."""
        with EventStorage():
            self._trainer.run_step()

    @torch.no_grad()
    def extract(self, pixels: Tensor, modalities: Tensor, flip: bool) -> Tensor:
        """As fast-reid's inference_on_dataset, but mirrored before the images are normalised."""
        images = as_floats(pixels).to(self.device)
        mirrored = images.flip(dims=[3]) if flip else None
        features = self.model({"images": images})  # normalises `images` in place
        if flip:
            features = (features + self.model({"images": mirrored})) / 2
        return features.cpu()


def fastreid_loader(cfg: CfgNode, setup: Setup) -> DataLoader:
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


def _endless_floats(setup: Setup) -> Iterator[dict[str, Tensor]]:
    return cycle(
        [{**batch, "images": as_floats(batch["images"])} for batch in random_batches(setup)]
    )


def _on_device(batches: Iterable[dict], device: torch.device) -> Iterator[dict]:
    """Batches on the device, each a new tensor (the model normalises it in place)."""
    for batch in batches:
        yield {
            **batch,
            "images": batch["images"].to(device, non_blocking=True, copy=True),
            "targets": batch["targets"].to(device, non_blocking=True),
        }


def random_batches(setup: Setup, batch: int | None = None) -> list[dict[str, Tensor]]:
    """Random batches of P identities as our loader gives them: visible first, then infrared.

    Returns:
        Dicts with `images` (B, H, W, 3) uint8, `targets`, `camids` and `modalities` (B,).
    """
    random = torch.Generator().manual_seed(setup.seed)
    count = batch or setup.batch
    half = (count + 1) // 2
    modalities = torch.tensor([VISIBLE] * half + [INFRARED] * (count - half))
    targets = (torch.arange(half) // setup.instances).repeat(2)[:count]
    return [
        {
            "images": torch.randint(
                256, (count, *setup.size, 3), generator=random, dtype=torch.uint8
            ),
            "targets": targets,
            "camids": modalities.clone(),
            "modalities": modalities,
        }
        for _ in range(_IN_MEMORY)
    ]


def as_floats(pixels: Tensor) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float32 in 0..255, as an image-by-image loader gives."""
    return pixels.permute(0, 3, 1, 2).float().contiguous()
