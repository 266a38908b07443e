"""The learning rate: fast-reid's schedulers by epoch or by step, and under another MAX_EPOCH."""

import logging
import shutil
import warnings
from pathlib import Path
from typing import Any

import torch

import icre.compat.evaluation  # noqa: F401

from fastreid.config import CfgNode
from fastreid.engine import hooks
from fastreid.solver import build_lr_scheduler
from fastreid.utils import comm
from fastreid.utils.checkpoint import Checkpointer

from icre.utils.errors import UserError
from icre.utils.files import replaced
from icre.utils.run_folder import RunFolder

logger = logging.getLogger("fastreid.icre")


def build_schedulers(
    cfg: CfgNode, optimizer: torch.optim.Optimizer, iters_per_epoch: int
) -> dict[str, Any]:
    """fast-reid's schedulers by name: `lr_sched` and, with a warm-up, `warmup_sched`.

    With SOLVER.SCHED_BY_STEP `lr_sched` counts steps in place of epochs.
    """
    if not cfg.SOLVER.SCHED_BY_STEP:
        return build_lr_scheduler(cfg, optimizer, iters_per_epoch)
    cfg = cfg.clone()
    cfg.defrost()
    solver = cfg.SOLVER
    solver.MAX_EPOCH *= iters_per_epoch
    solver.DELAY_EPOCHS *= iters_per_epoch
    solver.STEPS = [step * iters_per_epoch for step in solver.STEPS]
    return build_lr_scheduler(cfg, optimizer, 1)


class LRScheduler(hooks.LRScheduler):
    """fast-reid's hook; with SOLVER.SCHED_BY_STEP `lr_sched` moves after every step.

    Theirs holds the warm-up back in a step that changes float16's scale, but ends it by the number
    of the step: the rate would stay too low for good.
    """

    def before_step(self) -> None:
        """Nothing: to read the scale is to wait for the GPU."""

    def after_step(self) -> None:
        """Log the learning rate, and set that of the next step."""
        trainer = self.trainer
        lr = self._optimizer.param_groups[self._best_param_group_id]["lr"]
        trainer.storage.put_scalar("lr", lr, smoothing_hint=False)
        if trainer.iter + 1 <= trainer.warmup_iters:
            self._scheduler["warmup_sched"].step()
        if trainer.cfg.SOLVER.SCHED_BY_STEP and trainer.iter + 1 > _start(trainer):
            self._scheduler["lr_sched"].step()

    def after_epoch(self) -> None:
        """Set the learning rate of the next epoch."""
        if not self.trainer.cfg.SOLVER.SCHED_BY_STEP:
            super().after_epoch()


def _start(trainer: Any) -> int:
    """How many steps end before the first that moves a `lr_sched` by step."""
    return max(trainer.warmup_iters, trainer.delay_epochs * trainer.iters_per_epoch)


def replan(trainer: Any, planned: int | None) -> None:
    """Put the learning rate where a run of SOLVER.MAX_EPOCH epochs would have it by now.

    A cosine that was planned for fewer epochs would rise again after them.

    Args:
        trainer: an `icre.engine.trainer.Trainer` that has been resumed.
        planned: SOLVER.MAX_EPOCH of the checkpoint; None: not known.

    Raises:
        UserError: the run has been trained for longer already.
    """
    steps, cfg = trainer.start_iter, trainer.cfg
    if planned in (None, trainer.max_epoch):
        return
    if steps > trainer.max_iter:
        raise UserError(
            f"SOLVER.MAX_EPOCH {trainer.max_epoch}: the run in {cfg.OUTPUT_DIR} has already been "
            f"trained for {steps / trainer.iters_per_epoch:.3g} epochs"
        )
    before = trainer.optimizer.param_groups[0]["lr"]
    trainer.scheduler = _planned(trainer, steps)
    trainer.checkpointer.checkpointables.update(trainer.scheduler)
    logger.info(
        "SOLVER.MAX_EPOCH is %d, it was %d: from step %d on the learning rate is that of the new "
        "schedule, %.3g in place of %.3g",
        trainer.max_epoch,
        planned,
        steps,
        trainer.optimizer.param_groups[0]["lr"],
        before,
    )


def finish_early(checkpointer: Checkpointer) -> None:
    """Write model_final of a run whose SOLVER.MAX_EPOCH was lowered to the epochs it has."""
    final = RunFolder(Path(checkpointer.save_dir)).final
    if checkpointer.save_to_disk and Path(checkpointer.path) != final:
        with replaced(final) as temporary:
            shutil.copyfile(checkpointer.path, temporary)
        checkpointer.tag_last_checkpoint(final.name)
    comm.synchronize()


def _moves(trainer: Any, steps: int) -> int:
    """How often `lr_sched` has moved after `steps` steps of an uninterrupted run."""
    if trainer.cfg.SOLVER.SCHED_BY_STEP:
        return max(steps - _start(trainer), 0)
    length = trainer.iters_per_epoch
    # fastreid/engine/hooks.py:263: the hook looks after the epoch's last step
    return sum(
        epoch * length + 1 > trainer.warmup_iters and epoch > trainer.delay_epochs
        for epoch in range(1, steps // length + 1)
    )


def _planned(trainer: Any, steps: int) -> dict[str, Any]:
    """New schedulers of a trainer, and its optimiser's rates, as after `steps` unbroken steps."""
    for group in trainer.optimizer.param_groups:
        group["lr"] = group["initial_lr"]
    schedulers = trainer.build_lr_scheduler(trainer.cfg, trainer.optimizer, trainer.iters_per_epoch)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
        for _ in range(min(steps, trainer.warmup_iters) if "warmup_sched" in schedulers else 0):
            schedulers["warmup_sched"].step()
        for _ in range(_moves(trainer, steps)):
            schedulers["lr_sched"].step()
    return schedulers
