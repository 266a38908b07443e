"""Training hooks beside fast-reid's: a progress bar, and checkpoints that lose nothing."""

import datetime
import logging
import sys

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

import icre.compat  # noqa: F401  (before any fastreid import)
from fastreid.engine.hooks import PeriodicWriter
from fastreid.engine.train_loop import HookBase
from fastreid.utils import comm
from fastreid.utils.checkpoint import Checkpointer
from fastreid.utils.events import EventWriter, get_event_storage

from icre.engine.checkpoint import rng_state

logger = logging.getLogger("fastreid.icre")
_SHOWN = ("health/cls_accuracy", "health/sdce_share", "health/mask_saturation")


class ProgressBar(HookBase):
    """A bar over all iterations with an estimate; on a terminal only, the log has its own lines."""

    def before_train(self) -> None:
        """Open the bar where a resumed run goes on."""
        trainer = self.trainer
        visible = comm.is_main_process() and sys.stderr.isatty()
        self._bar = tqdm(
            total=trainer.max_iter, initial=trainer.start_iter, desc="training", unit="step",
            disable=not visible,
        )
        fastreid_log = logging.getLogger("fastreid")
        self._redirect = logging_redirect_tqdm([fastreid_log]) if visible else None
        if self._redirect:
            self._redirect.__enter__()

    def after_step(self) -> None:
        """Move on, and show the last known loss."""
        latest = self.trainer.storage.latest().get("total_loss")
        if latest is not None:
            self._bar.set_postfix(epoch=self.trainer.epoch + 1, loss=f"{latest[0]:.3f}", refresh=False)
        self._bar.update()

    def after_train(self) -> None:
        """Close the bar, also after a failure."""
        self._bar.close()
        if self._redirect:
            self._redirect.__exit__(None, None, None)


class LinePrinter(EventWriter):
    """One plain line into the log: where training stands, what it has lost, what is alive.

    fast-reid's CommonMetricPrinter shows medians over its last 200 readings, which with a reading
    every LOG_EVERY steps would be those of many epochs; these are means over the last ten.

    Args:
        max_iter: iterations of the whole run.
        iters_per_epoch: of an epoch.
    """

    def __init__(self, max_iter: int, iters_per_epoch: int):
        self.max_iter, self.iters_per_epoch = max_iter, iters_per_epoch

    def write(self) -> None:
        """Write the line; called by a PeriodicWriter."""
        storage = get_event_storage()
        means = {name: history.avg(10) for name, history in storage.histories().items()}
        if "total_loss" not in means:
            return
        done = storage.iter + 1
        seconds = means.get("time", 0.0)
        left = datetime.timedelta(seconds=round(seconds * (self.max_iter - done)))
        shown = [f"{name.removeprefix('health/')} {value:.3g}" for name, value in means.items()
                 if "loss" in name or name in _SHOWN]
        logger.info(
            "epoch %.1f of %d  %s  lr %.2e  %.2f s/step  eta %s", done / self.iters_per_epoch,
            self.max_iter // self.iters_per_epoch, "  ".join(shown),
            storage.latest()["lr"][0], seconds, left,
        )


class EpochWriter(PeriodicWriter):
    """fast-reid's PeriodicWriter, which loses what is evaluated after the last step.

    Its writers skip an iteration that they have already written, and it writes after the last step
    of training, before the evaluation. Here an epoch's last step is written after the epoch's
    hooks only.
    """

    def after_step(self) -> None:
        """Write every `period` iterations, but not at an epoch's end."""
        done = self.trainer.iter + 1
        if done % self._period == 0 and done % self.trainer.iters_per_epoch:
            self.after_epoch()


class EpochCheckpointer(HookBase):
    """Writes `model_last` after every epoch, numbered copies, and `model_final` after the last.

    fast-reid's own hook also keeps `model_best` by the test metric, which would be a choice made
    on the test set; here the last epoch is the result.

    Args:
        checkpointer: what to write with; only the first rank's writes.
        period: epochs between two numbered copies that stay.
        extra: entries that every checkpoint carries (what the model was trained on).
    """

    def __init__(self, checkpointer: Checkpointer, period: int, extra: dict):
        self.checkpointer, self.period, self.extra = checkpointer, period, extra

    def after_epoch(self) -> None:
        """Save; every rank calls this, since each has random generators of its own."""
        epoch = self.trainer.epoch
        state = {"epoch": epoch, "rng": comm.gather(rng_state()), **self.extra}
        last = epoch + 1 == self.trainer.max_epoch
        if (epoch + 1) % self.period == 0 and not last:
            self.checkpointer.save(f"model_{epoch:04d}", **state)
        self.checkpointer.save("model_final" if last else "model_last", **state)
