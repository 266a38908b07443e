"""A loss that is not finite ends the run, and says where it came from."""

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


class _Watched(NamedTuple):
    """A step whose losses are not known to be finite yet."""

    step: int
    losses: Mapping[str, Tensor]
    files: Sequence[str]
    finite: Tensor  # bool on the CPU, filled in by the time of `ready`
    ready: torch.cuda.Event | None


class FiniteGuard:
    """Looks at the losses of every step without making the CPU wait for the GPU.

    On a CPU a step is judged before its gradients are computed. On a GPU it is judged one step
    later, by when its losses have arrived, and in any case before a checkpoint is written.

    Args:
        output: OUTPUT_DIR, where the names of a bad batch's files go.
    """

    def __init__(self, output: Path):
        self.output = output
        self._watched: _Watched | None = None

    def watch(self, step: int, losses: Mapping[str, Tensor], files: Sequence[str]) -> None:
        """Judge the step before on a GPU, this one on a CPU.

        Args:
            step: finished steps before this one.
            losses: {name: 0-d}.
            files: of the batch.

        Raises:
            UserError: a loss is NaN or infinite.
        """
        self.check()
        losses = {name: value.detach() for name, value in losses.items()}
        finite = torch.stack(list(losses.values())).isfinite().all()
        ready = None
        if finite.is_cuda:
            finite = torch.empty_like(finite, device="cpu", pin_memory=True).copy_(finite, True)
            ready = torch.cuda.Event()
            ready.record()
        self._watched = _Watched(step, losses, files, finite, ready)
        if ready is None:
            self.check()

    def check(self) -> None:
        """Judge what is not judged yet; raises as `watch` does."""
        watched, self._watched = self._watched, None
        if watched is None:
            return
        if watched.ready:
            watched.ready.synchronize()
        if not watched.finite:
            self._end(watched)

    def _end(self, watched: _Watched) -> None:
        step, rank = watched.step + 1, comm.get_rank()
        terms = {name: value.item() for name, value in watched.losses.items()}
        bad = ", ".join(f"{k} {v}" for k, v in terms.items() if not math.isfinite(v))
        path = self.output / f"not_finite_rank{rank}.json"
        content = {
            "step": step,
            "rank": rank,
            "terms": {k: str(v) for k, v in terms.items()},
            "files": list(watched.files),
        }
        with replaced(path) as temporary:
            temporary.write_text(json.dumps(content, indent=1))
        raise UserError(
            f"step {step}: the loss is not finite ({bad}), on {len(watched.files)} images from "
            f"{watched.files[0]} on; {path} names all, and all terms. Look at them, or lower "
            "SOLVER.BASE_LR; the last checkpoint is from before"
        )
