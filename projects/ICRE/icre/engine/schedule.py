"""The learning rate of a run that goes on under another SOLVER.MAX_EPOCH."""

import warnings
from collections.abc import Callable
from typing import Any

import torch


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
