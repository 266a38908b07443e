"""The trainer: fast-reid's DefaultTrainer on current torch, CPU and GPU, for cross-modal data."""

import logging
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import icre.compat.evaluation  # noqa: F401

from fastreid.config import CfgNode
from fastreid.engine import DefaultTrainer, hooks
from fastreid.engine.train_loop import TrainerBase
from fastreid.evaluation import DatasetEvaluator, ReidEvaluator
from fastreid.utils import comm
from fastreid.utils.events import EventStorage, JSONWriter

from icre.data import loader as loaders
from icre.data.batch import DeviceLoader
from icre.data.faults import worker_faults
from icre.datasets import load_dataset
from icre.engine.before import check_space
from icre.engine.finite import FiniteLossCheck
from icre.engine.hooks import (
    EnvironmentWriter,
    EpochWriter,
    Evaluation,
    LayerFreeze,
    LinePrinter,
    ProgressBar,
    TrainingCheckpointer,
    due,
)
from icre.engine.optimizer import build_optimizer, scale_warmup
from icre.engine.schedule import LRScheduler, build_schedulers, finish_early, replan
from icre.engine.step import Step, compile_model
from icre.engine.stop import StopSignal
from icre.engine.testing import protocol_evaluator, score_model
from icre.engine.trackers import Trackers
from icre.engine.validation import BestOnValidation
from icre.evaluation import records
from icre.modeling.build import build_model
from icre.runs.checkpoint import SafeCheckpointer, training_config
from icre.runs.resume import (
    check_split,
    finished_steps,
    identities,
    origin,
    require_same_run,
    restore_rng_states,
    truncate_scalars,
)
from icre.utils.device import resolve_device, resolve_memory_format
from icre.utils.errors import RunEnded, UserError
from icre.utils.run_folder import RunFolder

logger = logging.getLogger("fastreid.icre")
LOG_EVERY = 20  # iterations


class Trainer(DefaultTrainer):
    """Trains any fast-reid model on this project's data sets and on fast-reid's own.

    Extend it as fast-reid's: a subclass may override `build_model`, `build_optimizer`,
    `build_lr_scheduler`, `build_train_loader`, `build_test_loader`, `build_evaluator` and
    `build_hooks`, with fast-reid's arguments and results.

    fast-reid's `DefaultTrainer.__init__` builds ContiguousParams, CUDA-only loaders and GPU-only
    DDP, so it is not called; the same objects are built here in the same order.

    Args:
        cfg: a frozen config from `icre.config.load_config`.
    """

    def __init__(self, cfg: CfgNode):
        TrainerBase.__init__(self)
        self.loader = self.build_train_loader(cfg)
        self.iters_per_epoch = loaders.iters_per_epoch(cfg, self.loader.dataset)
        cfg = self.auto_scale_hyperparams(cfg, self.loader.dataset.num_classes)
        self.cfg = cfg = scale_warmup(cfg, self.iters_per_epoch)
        device = resolve_device(cfg.MODEL.DEVICE)
        memory_format = resolve_memory_format(cfg.SOLVER.LAYOUT, device)
        model = self.build_model(cfg).to(memory_format=memory_format)  # a subclass' too
        compile_model(model, cfg.SOLVER.COMPILE)
        optimizer = self.build_optimizer(cfg, model)
        if isinstance(optimizer, tuple):  # fast-reid's builder adds a wrapper of the parameters
            optimizer = optimizer[0]
        if comm.get_world_size() > 1:
            ids = [device.index] if device.type == "cuda" else None
            model = DistributedDataParallel(model, device_ids=ids, broadcast_buffers=False)
        self.finite, self.stop = FiniteLossCheck(Path(cfg.OUTPUT_DIR)), StopSignal()
        self._trainer = Step(model, optimizer, device, cfg.SOLVER.AMP, memory_format, self.finite)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer, self.iters_per_epoch)
        scaler = {"grad_scaler": self.grad_scaler} if self.grad_scaler else {}
        self.checkpointer = SafeCheckpointer(
            model,
            cfg.OUTPUT_DIR,
            save_to_disk=comm.is_main_process(),
            optimizer=optimizer,
            **self.scheduler,
            **scaler,
        )
        self.checkpointer.keep = cfg.SOLVER.CHECKPOINT_KEEP
        items = getattr(self.loader.dataset, "img_items", None)
        self.people = identities(items) if items else None
        self.start_epoch = self.epoch = self.start_iter = 0
        self.max_epoch = cfg.SOLVER.MAX_EPOCH
        self.max_iter = self.max_epoch * self.iters_per_epoch
        self.warmup_iters, self.delay_epochs = cfg.SOLVER.WARMUP_ITERS, cfg.SOLVER.DELAY_EPOCHS
        self.trackers = Trackers(cfg)
        self._last_eval_results: OrderedDict = OrderedDict()

    def resume_or_load(self, resume: bool = True) -> None:
        """Continue after the last saved step in OUTPUT_DIR, or start from MODEL.WEIGHTS."""
        checkpoint = self.checkpointer.resume_or_load(self.cfg.MODEL.WEIGHTS, resume=resume)
        path = self.checkpointer.path
        check_split(self.cfg, checkpoint, path)
        if self.checkpointer.continues:
            require_same_run(self.cfg, checkpoint, path, self.people)
            self.start_epoch = self.epoch = checkpoint["epoch"] + 1
            self.start_iter = finished_steps(checkpoint, path, self.iters_per_epoch)
            restore_rng_states(checkpoint.get("rng", []), path)
            replan(self, training_config(checkpoint).get("SOLVER", {}).get("MAX_EPOCH"))
            logger.info(
                "resuming %s after epoch %d of %d, step %d",
                path,
                self.start_epoch,
                self.max_epoch,
                self.start_iter,
            )

    def train(self) -> OrderedDict:
        """Train to the last epoch and return its test results.

        Raises:
            RunEnded: SIGTERM was received, or a process that loads images died.
        """
        if comm.is_main_process():
            check_space(self.cfg, self.model, self.optimizer)
        with self.stop, self.trackers.running(self.start_iter):
            self.best = BestOnValidation(RunFolder(self.cfg.OUTPUT_DIR), self.start_epoch)
            if self._lacks_validation():
                with self.stop.immediate():
                    self._validate(self.start_epoch)
            if self.start_epoch < self.max_epoch:
                self.register_hooks(self.build_hooks())
                self._train_epochs()
                if not self.cfg.DATASETS.VALIDATION:
                    return self.trackers.finish(self._last_eval_results)
            else:
                logger.info("epoch %d was the last one: scoring again", self.start_epoch)
                finish_early(self.checkpointer)
            with self.stop.immediate():
                validated = self.cfg.DATASETS.VALIDATION
                return self.trackers.finish(self._test_best() if validated else self._evaluate())

    def _train_epochs(self) -> None:
        """`TrainerBase.train`, which cannot begin in the middle of an epoch."""
        self.iter = self.start_iter
        with EventStorage(self.start_iter) as self.storage:
            try:
                with worker_faults():
                    self.before_train()
                    first = self.start_iter // self.iters_per_epoch
                    for epoch in range(first, self.max_epoch):
                        self.epoch = epoch
                        self.before_epoch()
                        while self.iter < (self.epoch + 1) * self.iters_per_epoch:
                            self.before_step()
                            self.run_step()
                            self.after_step()
                            self.iter += 1
                        self.after_epoch()
            except (UserError, RunEnded) as error:
                logger.error("%s", error)
                raise
            except Exception:
                logger.exception("the run failed after step %d:", self.iter)
                raise
            finally:
                self.after_train()

    def _lacks_validation(self) -> bool:
        """Whether the run was ended between an epoch's checkpoint and its validation."""
        between = self.start_iter == self.start_epoch * self.iters_per_epoch > 0
        wanted = due(self.start_epoch, self.max_epoch, self.cfg.TEST.EVAL_PERIOD)
        lacks = self.cfg.DATASETS.VALIDATION and between and wanted
        # the first rank's file counts
        return comm.all_gather(lacks and not self.best.knows(self.start_epoch))[0]

    def before_train(self) -> None:
        """fast-reid's hooks, then the start of the processes that load images."""
        super().before_train()
        sampler = getattr(self.loader, "batch_sampler", None)  # a subclass' loader may lack it
        if hasattr(sampler, "start_batch"):
            sampler.start_batch = self.start_iter
        elif self.start_iter:
            logger.warning(
                "the training loader has no batch_sampler.start_batch: it starts with its first "
                "batch again"
            )
        self._trainer.batches = iter(self.loader)

    def after_train(self) -> None:
        """fast-reid's hooks, then the end of the processes that load images in any case."""
        try:
            super().after_train()
        finally:
            self._trainer.batches = iter(())

    def run_step(self) -> None:
        """One iteration; losses are read now and then, as reading waits for the device."""
        last_of_epoch = (self.iter + 1) % self.iters_per_epoch == 0
        self._trainer.run(log=last_of_epoch or self.iter % LOG_EVERY == 0)

    def build_hooks(self) -> list:
        """fast-reid's hooks, with a progress bar and this project's checkpoints.

        A checkpoint is written before the evaluation, so that a failing evaluation loses nothing.
        """
        cfg = self.cfg
        ret = [hooks.IterationTimer(), LRScheduler(self.optimizer, self.scheduler)]
        if cfg.MODEL.FREEZE_LAYERS and cfg.SOLVER.FREEZE_ITERS > 0:
            ret.append(
                LayerFreeze(
                    self.model, self.optimizer, cfg.MODEL.FREEZE_LAYERS, cfg.SOLVER.FREEZE_ITERS
                )
            )
        ret.append(
            TrainingCheckpointer(
                self.checkpointer, self.stop, self.finite, cfg.SOLVER, origin(cfg, self.people)
            )
        )
        ret.append(Evaluation(cfg.TEST.EVAL_PERIOD, self._evaluate, self.stop))
        if comm.is_main_process():
            pretrained = cfg.MODEL.BACKBONE.PRETRAIN and cfg.MODEL.BACKBONE.PRETRAIN_PATH
            file = RunFolder(cfg.OUTPUT_DIR).environment
            ret.append(EnvironmentWriter(file, self._trainer.dtype, pretrained or ""))
            ret.append(EpochWriter(self.build_writers(), period=200))
        return [*ret, ProgressBar()]

    def build_writers(self) -> list:
        """Plain lines for the log, fast-reid's writer of scalars.json, and those of TRACKERS."""
        scalars = RunFolder(self.cfg.OUTPUT_DIR).scalars
        truncate_scalars(scalars, self.start_iter)
        return [
            LinePrinter(self.max_iter, self.iters_per_epoch),
            JSONWriter(str(scalars)),
            *self.trackers.writers(self.start_iter),
        ]

    def _evaluate(self) -> OrderedDict:
        """What the evaluation hook runs: the validation identities, or else the test set."""
        epoch = min(self.epoch + 1, self.max_epoch)
        if self.cfg.DATASETS.VALIDATION:
            return self._validate(epoch)
        steps = epoch * self.iters_per_epoch
        self._last_eval_results = self.test(self.cfg, self.model, epoch=epoch, steps=steps)
        return self._last_eval_results

    def _validate(self, epoch: int) -> OrderedDict:
        cfg = self.cfg.clone()
        cfg.defrost()
        cfg.TEST.SPLIT = "val"
        steps = epoch * self.iters_per_epoch
        results, scored = score_model(type(self), cfg, self.model, epoch=epoch, steps=steps)
        if comm.is_main_process():
            self.best.add(scored, Path(self.checkpointer.get_checkpoint_file()))
        return OrderedDict((f"validation/{name}", value) for name, value in results.items())

    def _test_best(self) -> OrderedDict:
        """The test set, once, by the epoch that was best on the validation identities."""
        comm.synchronize()  # the first rank has written model_best by now
        best = self.checkpointer.load(str(self.best.run.best), checkpointables=[])
        logger.info("epoch %d was best on the validation identities", best["epoch"] + 1)
        steps = best["iteration"]
        return self.test(self.cfg, self.model, epoch=best["epoch"] + 1, steps=steps)

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """The model of the config, on its device."""
        return build_model(cfg, resolve_device(cfg.MODEL.DEVICE))

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        """The optimiser; fast-reid's pair (optimiser, wrapper of parameters) is accepted too."""
        return build_optimizer(cfg, model)

    @classmethod
    def build_lr_scheduler(
        cls, cfg: CfgNode, optimizer: torch.optim.Optimizer, iters_per_epoch: int
    ) -> dict[str, Any]:
        """fast-reid's schedulers by name: `lr_sched` and, with a warm-up, `warmup_sched`."""
        return build_schedulers(cfg, optimizer, iters_per_epoch)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> DeviceLoader:
        """Endless batches as fast-reid's: `images` (B, 3, H, W) in 0..255 on the device, `targets`,
        `camids`, `img_paths`, and `modalities` (B,) on the CPU.

        `dataset.num_classes` is the number of identities. A loader whose `batch_sampler` has an
        attribute `start_batch` continues there when a run is resumed.
        """
        return loaders.build_train_loader(cfg)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> tuple[DeviceLoader, int]:
        """(loader, number of query images) of a data set; queries come first.

        TEST.SPLIT says whether test identities or held-out training identities are loaded.
        """
        data = load_dataset(cfg, dataset_name, validation=cfg.TEST.SPLIT == "val")
        return loaders.build_test_loader(cfg, data), len(data.query)

    @classmethod
    def build_evaluator(
        cls, cfg: CfgNode, dataset_name: str, output_dir: str | None = None
    ) -> tuple[Any, DatasetEvaluator]:
        """(test loader, evaluator) of a data set: its protocols, or fast-reid's own evaluation."""
        loader, num_query = cls.build_test_loader(cfg, dataset_name)
        validation = cfg.TEST.SPLIT == "val"
        data = getattr(loader.dataset, "source", None) or load_dataset(
            cfg, dataset_name, validation
        )
        if not hasattr(data, "layout"):
            return loader, ReidEvaluator(cfg, num_query, output_dir or cfg.OUTPUT_DIR)
        return loader, protocol_evaluator(cfg, data)

    @classmethod
    def test(cls, cfg: CfgNode, model: nn.Module, **labels: Any) -> OrderedDict:
        """Score the model on DATASETS.TESTS and write metrics.json, features.npz, ranking.png.

        Args:
            cfg: with TEST.SPLIT val only metrics_val.json is written.
            model: DDP or plain.
            labels: see `icre.engine.testing.score_model`.

        Returns:
            See `icre.engine.testing.score_model`.
        """
        results, scored = score_model(cls, cfg, model, **labels)
        if scored:
            run = RunFolder(cfg.OUTPUT_DIR)
            is_test = cfg.TEST.SPLIT == "test"
            records.save(scored, run.metrics if is_test else run.path / "metrics_val.json")
        return results
