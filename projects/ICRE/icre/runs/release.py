"""A checkpoint for passing on: what features need, in half precision."""

from pathlib import Path

import torch
from torch import Tensor

from icre.runs.checkpoint import CLASSIFIER, read_checkpoint, write_checkpoint
from icre.utils.errors import UserError

KEPT = ("config", "datasets", "regdb_split")  # the last two: what it may be tested on
LARGEST = torch.finfo(torch.float16).max


def release(weights: str | Path, target: Path) -> None:
    """Write a checkpoint without classifiers, optimiser and random state, as float16.

    It loads as every other (`icre.load`, search, extraction), in float32; a training does not
    resume from it.

    Raises:
        UserError: the checkpoint is damaged, or a weight is beyond the range of float16.
    """
    checkpoint = read_checkpoint(weights)

    def half(name: str, value: Tensor) -> Tensor:
        if not value.is_floating_point():
            return value
        if not bool((value.abs() <= LARGEST).all()):  # NaN too
            raise UserError(f"checkpoint {weights}: {name} has values that float16 does not hold")
        return value.to(torch.float16)

    model = {
        name: half(name, value)
        for name, value in checkpoint["model"].items()
        if not CLASSIFIER.match(name)
    }
    kept = {name: checkpoint[name] for name in KEPT if checkpoint.get(name) is not None}
    write_checkpoint({"model": model, **kept}, target)
