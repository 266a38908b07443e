"""The learning rate of a run that goes on under another SOLVER.MAX_EPOCH."""

import logging
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import icre.compat  # noqa: F401

from fastreid.utils import comm
from fastreid.utils.checkpoint import Checkpointer

from icre.utils.errors import UserError
from icre.utils.files import replaced
from icre.utils.run_folder import RunFolder

logger = logging.getLogger("fastreid.icre")


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
    trainer.scheduler = replanned(
        lambda: trainer.build_lr_scheduler(cfg, trainer.optimizer, trainer.iters_per_epoch),
        trainer.optimizer,
        steps=steps,
        iters_per_epoch=trainer.iters_per_epoch,
        warmup_iters=trainer.warmup_iters,
        delay_epochs=trainer.delay_epochs,
    )
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


def replanned(
    build: Callable[[], dict[str, Any]],
    optimizer: torch.optim.Optimizer,
    steps: int,
    iters_per_epoch: int,
    warmup_iters: int,
    delay_epochs: int,
) -> dict[str, Any]:
    """New schedulers, stepped as fast-reid's hook does in an uninterrupted run.

    Args:
        build: makes fast-reid's schedulers by name, for `optimizer`.
        optimizer: its learning rates are set to those after `steps` steps.
        steps: finished ones.
        warmup_iters, delay_epochs: SOLVER.WARMUP_ITERS, SOLVER.DELAY_EPOCHS.
    """
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"]
    schedulers = build()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
        for _ in range(min(steps, warmup_iters) if "warmup_sched" in schedulers else 0):
            schedulers["warmup_sched"].step()
        for epoch in range(1, steps // iters_per_epoch + 1):
            # fastreid/engine/hooks.py:263: the hook looks after the epoch's last step
            if epoch * iters_per_epoch + 1 > warmup_iters and epoch > delay_epochs:
                schedulers["lr_sched"].step()
    return schedulers
