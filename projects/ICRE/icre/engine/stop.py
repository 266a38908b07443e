"""SIGTERM as a request to leave: what schedulers send some time before they kill."""

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


class StopRequest:
    """While entered, SIGTERM is remembered, and training leaves after the step that it is in.

    Outside of the main thread, where Python allows no handler, SIGTERM keeps its meaning.
    """

    def __init__(self):
        self._asked = self._at_once = False

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._remember)
        return self

    def __exit__(self, *error) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._before)

    def agreed(self) -> bool:
        """Whether any rank was asked; every rank calls this, after the same step.

        On the CPU, so that no rank waits for its GPU.
        """
        if comm.get_world_size() == 1:
            return self._asked
        asked = torch.tensor(int(self._asked))
        dist.all_reduce(asked, dist.ReduceOp.MAX, group=comm._get_global_gloo_group())
        return bool(asked)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """A block in which nothing can be lost, such as an evaluation: leave in the middle of it.

        Raises:
            RunEnded: on SIGTERM.
        """
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self._asked = True
        if self._at_once:
            raise left("while it was scoring")


def left(where: str) -> RunEnded:
    """What a run ends with that was asked to leave."""
    return RunEnded(f"left on SIGTERM {where}; go on with --resume", STOPPED)
