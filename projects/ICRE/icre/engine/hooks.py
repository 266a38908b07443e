"""Training hooks beside fast-reid's, and in place of those that a resumed run would mislead."""

import datetime
import json
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

import icre.compat.evaluation  # noqa: F401

from fastreid.config import CfgNode
from fastreid.engine.hooks import EvalHook, PeriodicWriter
from fastreid.engine.train_loop import HookBase
from fastreid.utils import comm
from fastreid.utils.events import EventWriter, get_event_storage

from icre.engine.finite import FiniteLossCheck
from icre.engine.stop import StopSignal, stopped
from icre.runs.checkpoint import LAST, SafeCheckpointer
from icre.runs.resume import rng_state
from icre.utils.environment import environment, precision
from icre.utils.errors import UserError
from icre.utils.files import read_json, replaced, sha256_of

logger = logging.getLogger("fastreid.icre")
_SILENCE = 30  # seconds between two lines of the log
_SHOWN = ("health/cls_accuracy", "health/sdce_share", "health/mask_saturation")


class ProgressBar(HookBase):
    """A bar over all iterations with an estimate; on a terminal only, the log has its own lines."""

    def before_train(self) -> None:
        """Open the bar, at the step of a resumed run."""
        trainer = self.trainer
        visible = comm.is_main_process() and sys.stderr.isatty()
        self._bar = tqdm(
            total=trainer.max_iter,
            initial=trainer.start_iter,
            desc="training",
            unit="step",
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
            self._bar.set_postfix(
                epoch=self.trainer.epoch + 1, loss=f"{latest[0]:.3f}", refresh=False
            )
        self._bar.update()

    def after_train(self) -> None:
        """Close the bar, also after a failure."""
        self._bar.close()
        if self._redirect:
            self._redirect.__exit__(None, None, None)


class EnvironmentWriter(HookBase):
    """environment.json: the machine, versions, date, precision and initial weights of a training.

    Args:
        path: of the file.
        dtype: of the steps' convolutions and matrix products.
        pretrained: file of the backbone's initial weights, if the config names one.
    """

    def __init__(self, path: Path, dtype: torch.dtype, pretrained: str = ""):
        self.path, self.dtype, self.pretrained = path, dtype, pretrained

    def before_train(self) -> None:
        """Write it; that of a resumed run describes its last machine, and its first weights."""
        content = environment() | precision(self.dtype)
        initial = self._initial()
        if initial:
            content["pretrained"] = initial
        with replaced(self.path) as file:
            file.write_text(json.dumps(content, indent=1) + "\n")

    def _initial(self) -> str | None:
        """Sha256 of the initial weights; another file may have taken their place since."""
        if self.trainer.start_iter and self.path.is_file():
            try:
                return dict(read_json(self.path)).get("pretrained")
            except (UserError, TypeError, ValueError):
                return None  # damaged: unknown
        return sha256_of(Path(self.pretrained).expanduser()) if self.pretrained else None


class LinePrinter(EventWriter):
    """A line of the log: epoch, step, mean losses, learning rate, health of the modules, time left.

    fast-reid's CommonMetricPrinter shows medians over its last 200 readings, which with a reading
    every LOG_EVERY steps would be those of many epochs; these are means over the last ten.

    Args:
        max_iter: iterations of the whole run.
        iters_per_epoch: of an epoch.
    """

    def __init__(self, max_iter: int, iters_per_epoch: int):
        self.max_iter, self.iters_per_epoch = max_iter, iters_per_epoch
        self._written: float | None = None

    def due(self) -> bool:
        """Whether half a minute has passed since the last line, or the first's speed is known."""
        if self._written is None:
            return "time" in get_event_storage().latest()
        return time.monotonic() - self._written > _SILENCE

    def write(self) -> None:
        """Write the line; called by a PeriodicWriter."""
        self._written = time.monotonic()
        storage = get_event_storage()
        means = {name: history.avg(10) for name, history in storage.histories().items()}
        if "total_loss" not in means:
            return
        done = storage.iter + 1
        seconds = means.get("time", 0.0)
        left = datetime.timedelta(seconds=round(seconds * (self.max_iter - done)))
        shown = [
            f"{name.removeprefix('health/')} {value:.3g}"
            for name, value in means.items()
            if "loss" in name or name in _SHOWN
        ]
        logger.info(
            "epoch %.1f of %d, step %d of %d  %s  lr %.2e  %.2f s/step  eta %s",
            done / self.iters_per_epoch,
            self.max_iter // self.iters_per_epoch,
            done,
            self.max_iter,
            "  ".join(shown),
            storage.latest()["lr"][0],
            seconds,
            left,
        )


class EpochWriter(PeriodicWriter):
    """fast-reid's PeriodicWriter, which is silent in slow steps and loses the last evaluation.

    Its writers skip an iteration that they have already written, and it writes after the last step
    of training, before the evaluation. Here an epoch's last step is written after the epoch's
    hooks only. Where no bar is seen, the log gets a line at once and every half minute.
    """

    def after_step(self) -> None:
        """Write every `period` iterations, but not at an epoch's end."""
        done = self.trainer.iter + 1
        if done % self.trainer.iters_per_epoch == 0:
            return
        if done % self._period == 0:
            self.after_epoch()
        elif not sys.stderr.isatty():
            for writer in self._writers:
                if isinstance(writer, LinePrinter) and writer.due():
                    writer.write()


class TrainingCheckpointer(HookBase):
    """Writes the checkpoints that a run resumes from, and stops the run after SIGTERM.

    Writes `model_last` after every epoch and every `every` steps, with a few older ones beside it,
    numbered copies that are kept, and `model_final` after the last epoch. fast-reid's own hook also
    keeps `model_best` by the test metric, which would be a choice made on the test set; here the
    last epoch is the result.

    Args:
        checkpointer: only the first rank's writes.
        stop: checked after every step.
        finite: checks the losses before weights are saved.
        solver: CHECKPOINT_PERIOD (epochs between numbered copies) and CHECKPOINT_ITERS (`every`; 0:
            epochs only) are read.
        extra: entries that every checkpoint carries (what the model was trained on).
    """

    def __init__(
        self,
        checkpointer: SafeCheckpointer,
        stop: StopSignal,
        finite: FiniteLossCheck,
        solver: CfgNode,
        extra: dict,
    ):
        self.checkpointer, self.stop, self.finite = checkpointer, stop, finite
        self.period, self.every, self.extra = (
            solver.CHECKPOINT_PERIOD,
            solver.CHECKPOINT_ITERS,
            extra,
        )

    def after_step(self) -> None:
        """Save inside an epoch, if it is time or SIGTERM was received."""
        done = self.trainer.iter + 1
        if done % self.trainer.iters_per_epoch == 0:
            return  # the schedulers' step of the epoch is still to come
        stop = self.stop.on_any_rank()
        if stop or (self.every and done % self.every == 0):
            self.checkpointer.save(LAST, **self._state(self.trainer.epoch, done))
        if stop:
            raise stopped(f"after step {done}")

    def after_epoch(self) -> None:
        """Save; every rank calls this, since each has random generators of its own."""
        epoch, last = self.trainer.epoch, self.trainer.epoch + 1 == self.trainer.max_epoch
        state = self._state(epoch + 1, self.trainer.iter)
        if (epoch + 1) % self.period == 0 and not last:
            self.checkpointer.save(f"model_{epoch:04d}", **state)
        self.checkpointer.save("model_final" if last else LAST, **state)
        if self.stop.on_any_rank():
            raise stopped(f"after epoch {epoch + 1}")

    def _state(self, epochs: int, steps: int) -> dict:
        """Entries beside the weights; `epoch` is fast-reid's: the last finished one, from 0."""
        self.finite.finish()
        rng = comm.gather(rng_state())
        return {"epoch": epochs - 1, "iteration": steps, "rng": rng, **self.extra}


class Evaluation(EvalHook):
    """fast-reid's EvalHook, which also evaluates after a failure in the last epoch.

    Args:
        period: epochs; 0: after the last one only.
        evaluate: returns scalars for the event storage.
        stop: an evaluation is interrupted at once, as nothing is lost.
    """

    def __init__(self, period: int, evaluate: Callable[[], dict], stop: StopSignal):
        super().__init__(period, evaluate)
        self.stop = stop

    def after_epoch(self) -> None:
        """Evaluate if it is time."""
        if due(self.trainer.epoch + 1, self.trainer.max_epoch, self._period):
            with self.stop.immediate():
                self._do_eval()

    def after_train(self) -> None:
        """Nothing: the end of the last epoch has evaluated."""


def due(finished: int, max_epoch: int, period: int) -> bool:
    """Whether an evaluation follows that many finished epochs."""
    return finished == max_epoch or bool(period and finished and finished % period == 0)


class LayerFreeze(HookBase):
    """fast-reid's LayerFreeze and its optimiser's, by the number of the step alone.

    Theirs count steps from the start of the process, so that a resumed run freezes once more, and
    an evaluation puts their batch norms back into training mode.

    Args:
        model: DDP or plain; its children named in `layers` are frozen.
        optimizer: its groups with `freeze_status` "freeze" stay as they are.
        layers, iters: MODEL.FREEZE_LAYERS, SOLVER.FREEZE_ITERS.
    """

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, layers: list[str], iters: int
    ):
        model = getattr(model, "module", model)
        self.frozen = [child for name, child in model.named_children() if name in layers]
        self.iters = iters
        optimizer.register_step_pre_hook(self._drop_gradients)

    def before_step(self) -> None:
        """Batch norms of frozen layers use their running statistics, and keep them."""
        train = self.trainer.iter >= self.iters
        for child in self.frozen:
            if child.training != train:
                child.train(train)

    def _drop_gradients(self, optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
        if self.trainer.iter < self.iters:
            for group in optimizer.param_groups:
                if group["freeze_status"] == "freeze":
                    for parameter in group["params"]:
                        parameter.grad = None
