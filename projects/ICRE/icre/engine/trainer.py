"""The trainer: fast-reid's DefaultTrainer with what a modern stack and cross-modal data change."""

import logging
from collections import OrderedDict
from pathlib import Path

import torch
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

import icre.compat  # noqa: F401

from fastreid.config import CfgNode
from fastreid.engine import DefaultTrainer, hooks
from fastreid.engine.train_loop import TrainerBase
from fastreid.evaluation import DatasetEvaluator, ReidEvaluator
from fastreid.modeling.meta_arch import build_model
from fastreid.solver import build_lr_scheduler
from fastreid.utils import comm
from fastreid.utils.events import JSONWriter, TensorboardXWriter

from icre.data.loader import (
    build_test_loader,
    build_train_loader,
    build_train_set,
    iters_per_epoch,
    load_dataset,
)
from icre.engine.checkpoint import SafeCheckpointer, origin, refuse_other_split, start_of
from icre.engine.findings import keep, report
from icre.engine.guard import FiniteGuard
from icre.engine.hooks import (
    EnvironmentWriter,
    EpochWriter,
    Evaluation,
    LayerFreeze,
    LinePrinter,
    ProgressBar,
    TrainingCheckpointer,
    due,
    forget_steps,
)
from icre.engine.loop import run_epochs
from icre.engine.optimizer import build_optimizer, scale_warmup
from icre.engine.rng import set_rng_states
from icre.engine.setup import reranking, resolve_device
from icre.engine.step import Step, compile_model, memory_layout
from icre.engine.stop import StopRequest
from icre.engine.validation import BestOnValidation
from icre.evaluation import records
from icre.evaluation.evaluator import ProtocolEvaluator
from icre.evaluation.extraction import run_inference
from icre.evaluation.rerank import reranker
from icre.modeling.pretrained import pretrained_file

logger = logging.getLogger("fastreid.icre")
LOG_EVERY = 20  # iterations


class Trainer(DefaultTrainer):
    """Trains any fast-reid model on this project's data sets (and on fast-reid's own).

    fast-reid's `DefaultTrainer.__init__` builds ContiguousParams, CUDA-only loaders and GPU-only
    DDP, so it is not called; the same things are made here in the same order, from parts that work
    on CPU and GPU. Its hooks, training loop and argument habits are used as they are.

    Args:
        cfg: a frozen config from `icre.engine.setup.load_config`.
    """

    def __init__(self, cfg: CfgNode):
        TrainerBase.__init__(self)
        self.train_set = build_train_set(cfg)
        self.iters_per_epoch = iters_per_epoch(cfg, self.train_set)
        cfg = self.auto_scale_hyperparams(cfg, self.train_set.num_classes)
        self.cfg = cfg = scale_warmup(cfg, self.iters_per_epoch)
        model, device = self.build_model(cfg), resolve_device(cfg.MODEL.DEVICE)
        layout = memory_layout(cfg.SOLVER.LAYOUT, device)
        model.to(memory_format=layout)
        compile_model(model, cfg.SOLVER.COMPILE)
        optimizer = build_optimizer(cfg, model)
        if comm.get_world_size() > 1:
            ids = [device.index] if device.type == "cuda" else None
            model = DistributedDataParallel(model, device_ids=ids, broadcast_buffers=False)
        self.guard, self.stop = FiniteGuard(Path(cfg.OUTPUT_DIR)), StopRequest()
        self._trainer = Step(model, optimizer, device, cfg.SOLVER.AMP, layout, self.guard)
        self.scheduler = build_lr_scheduler(cfg, optimizer, self.iters_per_epoch)
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
        self.start_epoch = self.epoch = self.start_iter = 0
        self.max_epoch = cfg.SOLVER.MAX_EPOCH
        self.max_iter = self.max_epoch * self.iters_per_epoch
        self.warmup_iters = cfg.SOLVER.WARMUP_ITERS
        self.delay_epochs = cfg.SOLVER.DELAY_EPOCHS
        self._last_eval_results: OrderedDict = OrderedDict()

    def resume_or_load(self, resume: bool = True) -> None:
        """Go on after the last saved step in OUTPUT_DIR, or start from MODEL.WEIGHTS."""
        checkpoint = self.checkpointer.resume_or_load(self.cfg.MODEL.WEIGHTS, resume=resume)
        path = self.checkpointer.path
        refuse_other_split(self.cfg, checkpoint, path)
        if self.checkpointer.continues:
            self.start_epoch = self.epoch = checkpoint["epoch"] + 1
            self.start_iter = start_of(checkpoint, path, self.iters_per_epoch)
            set_rng_states(checkpoint["rng"])
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
            RunEnded: SIGTERM asked to leave, or a process that loads images died.
        """
        with self.stop:
            self.best = BestOnValidation(Path(self.cfg.OUTPUT_DIR), self.start_epoch)
            if self._lacks_validation():
                with self.stop.at_once():
                    self._validate(self.start_epoch)
            if self.start_epoch < self.max_epoch:
                self.register_hooks(self.build_hooks())
                run_epochs(self, self.start_iter, self.max_epoch, self.iters_per_epoch)
                if not self.cfg.DATASETS.VALIDATION:
                    return self._last_eval_results
            else:
                logger.info("epoch %d was the last one: scoring again", self.start_epoch)
            with self.stop.at_once():
                return self._test_best() if self.cfg.DATASETS.VALIDATION else self._evaluate()

    def _lacks_validation(self) -> bool:
        """Whether the run was ended between an epoch's checkpoint and its validation."""
        known = {record["epoch"] for record in self.best.records}
        between = self.start_iter == self.start_epoch * self.iters_per_epoch > 0
        lacks = (
            self.cfg.DATASETS.VALIDATION
            and between
            and self.start_epoch not in known
            and due(self.start_epoch, self.max_epoch, self.cfg.TEST.EVAL_PERIOD)
        )
        return comm.all_gather(lacks)[0]  # the first rank's file counts

    def before_train(self) -> None:
        """fast-reid's hooks, then the start of the processes that load images."""
        super().before_train()
        loader = build_train_loader(self.cfg, self.train_set, self.start_iter)
        self._trainer.batches = iter(loader)

    def after_train(self) -> None:
        """fast-reid's hooks, then the end of the processes that load images, come what may."""
        try:
            super().after_train()
        finally:
            self._trainer.batches = None

    def run_step(self) -> None:
        """One iteration; losses are read now and then, as a reading waits for the device."""
        last_of_epoch = (self.iter + 1) % self.iters_per_epoch == 0
        self._trainer.run(log=last_of_epoch or self.iter % LOG_EVERY == 0)

    def build_hooks(self) -> list:
        """fast-reid's hooks, with a progress bar and this project's checkpoints.

        A checkpoint is written before the evaluation, so that a failing evaluation loses nothing.
        """
        cfg = self.cfg
        ret = [hooks.IterationTimer(), hooks.LRScheduler(self.optimizer, self.scheduler)]
        if cfg.MODEL.FREEZE_LAYERS and cfg.SOLVER.FREEZE_ITERS > 0:
            ret.append(
                LayerFreeze(
                    self.model, self.optimizer, cfg.MODEL.FREEZE_LAYERS, cfg.SOLVER.FREEZE_ITERS
                )
            )
        ret.append(
            TrainingCheckpointer(self.checkpointer, self.stop, self.guard, cfg.SOLVER, origin(cfg))
        )
        ret.append(Evaluation(cfg.TEST.EVAL_PERIOD, self._evaluate, self.stop))
        if comm.is_main_process():
            ret.append(EnvironmentWriter(Path(cfg.OUTPUT_DIR), self._trainer.dtype))
            ret.append(EpochWriter(self.build_writers(), period=200))
        return [*ret, ProgressBar()]

    def build_writers(self) -> list:
        """Plain lines for the log; fast-reid's writers of TensorBoard events and scalars.json."""
        scalars = Path(self.cfg.OUTPUT_DIR) / "scalars.json"
        if self.start_iter:
            forget_steps(scalars, self.start_iter)
        return [
            LinePrinter(self.max_iter, self.iters_per_epoch),
            JSONWriter(str(scalars)),
            TensorboardXWriter(self.cfg.OUTPUT_DIR, purge_step=self.start_iter or None),
        ]

    def _evaluate(self) -> OrderedDict:
        """What the evaluation hook runs: the validation identities, or else the test set."""
        epoch = min(self.epoch + 1, self.max_epoch)
        if self.cfg.DATASETS.VALIDATION:
            return self._validate(epoch)
        self._last_eval_results = self.test(self.cfg, self.model, epoch=epoch)
        return self._last_eval_results

    def _validate(self, epoch: int) -> OrderedDict:
        results, scored = self._score(self.cfg, self.model, epoch, validation=True)
        if comm.is_main_process():
            self.best.add(scored, Path(self.checkpointer.get_checkpoint_file()))
        return OrderedDict((f"validation/{name}", value) for name, value in results.items())

    def _test_best(self) -> OrderedDict:
        """The test set, once, by the epoch that the validation identities chose."""
        comm.synchronize()  # the first rank has written model_best by now
        best = self.checkpointer.load(str(self.best.weights), checkpointables=[])
        logger.info("epoch %d was best on the validation identities", best["epoch"] + 1)
        return self.test(self.cfg, self.model, epoch=best["epoch"] + 1)

    @classmethod
    def build_model(cls, cfg: CfgNode) -> torch.nn.Module:
        """fast-reid's `build_model`, with MODEL.DEVICE resolved; the log file gets its structure.

        fast-reid's own ResNet is handed the file of its pretrained weights too: its loader wants
        gdown even where the file is there.
        """
        cfg = cfg.clone()
        cfg.defrost()
        cfg.MODEL.DEVICE = str(resolve_device(cfg.MODEL.DEVICE))
        if cfg.MODEL.BACKBONE.PRETRAIN and cfg.MODEL.BACKBONE.NAME == "build_resnet_backbone":
            cfg.MODEL.BACKBONE.PRETRAIN_PATH = str(pretrained_file(cfg))
        model = build_model(cfg)
        logger.debug("Model:\n%s", model)
        return model

    @classmethod
    def build_evaluator(
        cls, cfg: CfgNode, dataset_name: str, epoch: int | None = None, validation: bool = False
    ) -> tuple[DataLoader, DatasetEvaluator]:
        """(loader, evaluator) of a data set: its protocols, or fast-reid's own evaluation.

        Args:
            epoch: finished epochs of the model, for the record.
            validation: score held-out training identities; the gallery draw is then seeded.
        """
        data = load_dataset(cfg, dataset_name, validation)
        loader = build_test_loader(cfg, data)
        if not hasattr(data, "layout"):
            return loader, ReidEvaluator(cfg, len(data.query), cfg.OUTPUT_DIR)
        official = None if validation else getattr(data, "permutation_file", None)
        return loader, ProtocolEvaluator(
            data.folder,
            cfg.TEST.PROTOCOLS,
            official,
            device=resolve_device(cfg.MODEL.DEVICE),
            seed=cfg.SEED,
            epoch=epoch,
            flip=cfg.TEST.FLIP.ENABLED,
            split="val" if validation else getattr(data, "split", None),
            # an epoch is chosen by the plain figures, so the others would only take time
            reranker=None if validation else reranker(reranking(cfg)),
        )

    @classmethod
    def test(cls, cfg: CfgNode, model: torch.nn.Module, epoch: int | None = None) -> OrderedDict:
        """Score the model on DATASETS.TESTS; leaves metrics.json, features.npz, ranking.png.

        Returns:
            fast-reid's results: a dict of floats with the key `metric`, or one such dict per data
            set where there are several; empty on other ranks than the first.
        """
        results, scored = cls._score(cfg, model, epoch)
        if scored:
            records.save(scored, Path(cfg.OUTPUT_DIR) / "metrics.json")
        return results

    @classmethod
    def _score(
        cls, cfg: CfgNode, model: torch.nn.Module, epoch: int | None, validation: bool = False
    ) -> tuple[OrderedDict, list[dict]]:
        results, scored = OrderedDict(), []
        device = resolve_device(cfg.MODEL.DEVICE)
        for name in cfg.DATASETS.TESTS:
            loader, evaluator = cls.build_evaluator(cfg, name, epoch, validation)
            results[name] = run_inference(model, loader, evaluator, device, cfg.TEST.FLIP.ENABLED)
            if comm.is_main_process():
                title = f"{name}, held-out training identities" if validation else name
                scored += report(title, evaluator, results[name])
                if isinstance(evaluator, ProtocolEvaluator) and not validation:
                    keep(cfg, name, evaluator)
        return (results if len(results) > 1 else next(iter(results.values()), results)), scored
