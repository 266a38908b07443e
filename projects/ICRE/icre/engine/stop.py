"""SIGTERM as a request to stop, which schedulers send some time before they kill."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch
import torch.distributed as dist

import icre.compat  # noqa: F401

from fastreid.utils import comm

from icre.utils.errors import STOPPED, RunEnded


class StopSignal:
    """While entered, SIGTERM is remembered, and training stops after the current step.

    Outside of the main thread, where Python allows no handler, SIGTERM keeps its meaning.
    """

    def __init__(self) -> None:
        self._received = self._immediate = False

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._before)

    def on_any_rank(self) -> bool:
        """Whether any rank has received SIGTERM; every rank calls this, after the same step.

        Reduced on the CPU, so that no rank waits for its GPU.
        """
        if comm.get_world_size() == 1:
            return self._received
        received = torch.tensor(int(self._received))
        dist.all_reduce(received, dist.ReduceOp.MAX, group=comm._get_global_gloo_group())
        return bool(received)

    @contextmanager
    def immediate(self) -> Iterator[None]:
        """A block that may be interrupted anywhere without loss, such as an evaluation.

        Raises:
            RunEnded: on SIGTERM.
        """
        self._immediate = True
        try:
            yield
        finally:
            self._immediate = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._received = True
        if self._immediate:
            raise stopped("while it was scoring")


def stopped(where: str) -> RunEnded:
    """The exception that ends a run after SIGTERM."""
    return RunEnded(f"left on SIGTERM {where}; go on with --resume", STOPPED)
