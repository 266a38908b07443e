"""Stop a training whose loss is not finite, and name the batch."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

import icre.compat  # noqa: F401

from fastreid.utils import comm

from icre.utils.errors import UserError
from icre.utils.files import replaced


class _Pending(NamedTuple):
    """A step whose losses have not been checked yet."""

    step: int
    names: Sequence[str]
    losses: Tensor  # (terms,)
    files: Sequence[str]
    finite: Tensor  # bool on the CPU, valid once `ready` has happened
    ready: torch.cuda.Event | None


class FiniteLossCheck:
    """Checks the losses of every step without making the CPU wait for the GPU.

    On a CPU a step is checked before its gradients are computed. On a GPU it is checked one step
    later, when its losses have arrived, and in any case before a checkpoint is written.

    Args:
        output: OUTPUT_DIR, where the file names of a bad batch are written.
    """

    def __init__(self, output: Path):
        self.output = output
        self._pending: _Pending | None = None

    def add(self, step: int, losses: Mapping[str, Tensor], files: Sequence[str]) -> None:
        """Check the previous step on a GPU, this one on a CPU.

        Args:
            step: number of finished steps before this one.
            losses: {name: 0-d}.
            files: paths of the batch's images.

        Raises:
            UserError: a loss is NaN or infinite.
        """
        self.finish()
        # a copy: the next step of a CUDA graph writes over its results
        values = torch.stack([value.detach() for value in losses.values()])
        finite = values.isfinite().all()
        ready = None
        if finite.is_cuda:
            finite = torch.empty_like(finite, device="cpu", pin_memory=True).copy_(finite, True)
            ready = torch.cuda.Event()
            ready.record()
        self._pending = _Pending(step, list(losses), values, files, finite, ready)
        if ready is None:
            self.finish()

    def finish(self) -> None:
        """Check what has not been checked; raises as `add` does."""
        pending, self._pending = self._pending, None
        if pending is None:
            return
        if pending.ready:
            pending.ready.synchronize()
        if not pending.finite:
            self._fail(pending)

    def _fail(self, pending: _Pending) -> None:
        step, rank = pending.step + 1, comm.get_rank()
        terms = dict(zip(pending.names, pending.losses.tolist()))
        bad = ", ".join(f"{k} {v}" for k, v in terms.items() if not math.isfinite(v))
        path = self.output / f"not_finite_rank{rank}.json"
        content = {
            "step": step,
            "rank": rank,
            "terms": {k: str(v) for k, v in terms.items()},
            "files": list(pending.files),
        }
        with replaced(path) as temporary:
            temporary.write_text(json.dumps(content, indent=1))
        raise UserError(
            f"step {step}: the loss is not finite ({bad}), on {len(pending.files)} images from "
            f"{pending.files[0]} on; {path} names all, and all terms. Look at them, or lower "
            "SOLVER.BASE_LR; the last checkpoint is from before"
        )
