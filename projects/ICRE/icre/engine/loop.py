"""fast-reid's training loop, which can begin in the middle of an epoch."""

import logging

import icre.compat  # noqa: F401

from fastreid.engine.train_loop import TrainerBase
from fastreid.utils.events import EventStorage

from icre.data.faults import worker_faults
from icre.utils.errors import RunEnded, UserError

logger = logging.getLogger("fastreid.icre")


def run_epochs(trainer: TrainerBase, start_iter: int, max_epoch: int, per_epoch: int) -> None:
    """Train from step `start_iter` on, with the hooks of `TrainerBase.train` in its order.

    Args:
        trainer: its `iter`, `start_iter`, `epoch` and `storage` are set.
        start_iter: finished steps.
        max_epoch: epochs in all.
        per_epoch: steps of an epoch.
    """
    trainer.iter = trainer.start_iter = start_iter
    with EventStorage(start_iter) as trainer.storage:
        try:
            with worker_faults():
                trainer.before_train()
                _run(trainer, start_iter // per_epoch, max_epoch, per_epoch)
        except (UserError, RunEnded) as error:
            logger.error("%s", error)
            raise
        except Exception:
            logger.exception("the run failed after step %d:", trainer.iter)
            raise
        finally:
            trainer.after_train()


def _run(trainer: TrainerBase, first_epoch: int, max_epoch: int, per_epoch: int) -> None:
    for trainer.epoch in range(first_epoch, max_epoch):
        trainer.before_epoch()
        while trainer.iter < (trainer.epoch + 1) * per_epoch:
            trainer.before_step()
            trainer.run_step()
            trainer.after_step()
            trainer.iter += 1
        trainer.after_epoch()
