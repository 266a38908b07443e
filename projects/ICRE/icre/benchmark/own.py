"""Rows of this project: a config, trained by its trainer's own parts."""

import torch
from torch import Tensor

import icre.compat

from fastreid.config import CfgNode
from fastreid.utils.events import EventStorage

import icre.engine  # noqa: F401
from icre.benchmark.measure import Marks
from icre.benchmark.rows import Row, Setup, endless, precision_name, random_batches
from icre.data.loader import build_train_loader
from icre.engine.optimizer import build_optimizer
from icre.engine.step import Step, compile_model, memory_layout
from icre.engine.trainer import LOG_EVERY, Trainer
from icre.evaluation.extraction import run_inference


class OwnRow(Row):
    """A config of this project, whatever model it names.

    Args:
        name: of the row.
        cfg: with batch, size, device and number of identities set.
        setup: what all rows share.
    """

    def __init__(self, name: str, cfg: CfgNode, setup: Setup):
        torch.manual_seed(setup.seed)
        self.name, self.device, self.marks = name, setup.device, Marks(setup.device)
        self.model = Trainer.build_model(cfg)
        layout = memory_layout(cfg.SOLVER.LAYOUT, setup.device)
        self.model.to(memory_format=layout)
        compile_model(self.model, cfg.SOLVER.COMPILE)
        optimizer = build_optimizer(cfg, self.model)
        self._step = Step(self.model, optimizer, setup.device, cfg.SOLVER.AMP, layout)
        self._step.model = self.marks.seen(self.model)
        self._step.batches = (
            iter(build_train_loader(cfg)) if setup.root else endless(random_batches(setup))
        )
        self.precision = precision_name(self._step.dtype)
        self._done = 0

    def step(self) -> None:
        """The trainer's step, which reads its losses now and then."""
        with EventStorage():
            self._step.run(log=self._done % LOG_EVERY == 0)
        self._done += 1

    def test_mode(self) -> None:
        """Evaluation mode."""
        self.model.eval()

    def extract(self, pixels: Tensor, modalities: Tensor, flip: bool) -> Tensor:
        """By `run_inference`, as tools/extract_features.py does."""
        sink = _Sink()
        batch = {"images": pixels, "modalities": modalities}
        run_inference(self.model, [batch], sink, self.device, flip)
        return sink.features


class _Sink:
    """An evaluator that only takes the features to the host."""

    def reset(self) -> None:
        """Forget."""
        self.features = None

    def process(self, batch: dict, features: Tensor) -> None:
        """Take (B, C)."""
        self.features = features.float().cpu()

    def evaluate(self) -> None:
        """Nothing to score."""
