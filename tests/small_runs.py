"""Runs of a second or two, stopped where a test wants, and compared with unbroken ones."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from PIL import Image

from conftest import words
from icre.engine import testing
from icre.engine.step import Step
from small_model import NARROW

# 2 epochs of 5 steps of a narrow ICRE, with all that draws random numbers
SMALL = (
    *map(str, NARROW),
    *words(
        "MODEL.MPFR.DIM 16 MODEL.SDCE.HEADS 2 MODEL.SDCE.DROPOUT 0.2 INPUT.REA.ENABLED True "
        "DATALOADER.NUM_INSTANCE 4 SOLVER.IMS_PER_BATCH 32 TEST.PROTOCOLS ('sysu-all-single',)"
    ),
)
# a fast-reid model of 0.2 million parameters, with configs/Demo/bagtricks_r18.yml
TINY_MODEL = words(
    "MODEL.BACKBONE.NAME build_osnet_backbone MODEL.BACKBONE.DEPTH x0_25 "
    "MODEL.BACKBONE.FEAT_DIM 128 INPUT.REA.ENABLED True DATALOADER.NUM_INSTANCE 4 "
    "SOLVER.IMS_PER_BATCH 32 TEST.PROTOCOLS ('sysu-all-single',)"
)
STOCK = "Demo/bagtricks_r18.yml"


_DRAW = testing.save_rankings


def skip_pictures(patch: pytest.MonkeyPatch) -> None:
    """Write a dot as ranking.png: drawing the lists takes longer than a small training."""
    patch.setattr(testing, "save_rankings", lambda *args: Image.new("RGB", (1, 1)).save(args[-1]))


def draw_pictures(patch: pytest.MonkeyPatch) -> None:
    """Undo `skip_pictures`."""
    patch.setattr(testing, "save_rankings", _DRAW)


@contextmanager
def asked_to_stop(steps: int) -> Iterator[None]:
    """SIGTERM comes in the n-th step that is trained in the block."""
    run, count = Step.run, iter(range(1, 10**6))
    before = signal.getsignal(signal.SIGTERM)  # Ray leaves one in a process that it was used in

    def run_then_ask(step, *args, **kwargs):
        run(step, *args, **kwargs)
        if next(count) == steps:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Step, "run", run_then_ask)
        yield
    assert signal.getsignal(signal.SIGTERM) == before


def load(output: Path, name: str = "model_final") -> dict:
    """A checkpoint of a run."""
    return torch.load(output / f"{name}.pth", weights_only=True)


def assert_same_end(one: Path, other: Path) -> None:
    """Two runs' last checkpoints are equal bit by bit: weights, optimiser, steps and generators."""
    first, second = load(one), load(other)
    for name, value in first["model"].items():
        assert torch.equal(value, second["model"][name]), name
    moments = (first["optimizer"]["state"], second["optimizer"]["state"])
    assert moments[0].keys() == moments[1].keys()
    for key in moments[0]:
        for name, value in moments[0][key].items():
            assert value is None or torch.equal(value, moments[1][key][name]), (key, name)
    for name in ("epoch", "iteration", "lr_sched", "warmup_sched", "grad_scaler"):
        assert first.get(name) == second.get(name), name
    for mine, theirs in zip(first["rng"], second["rng"], strict=True):
        assert torch.equal(mine["torch"], theirs["torch"]) and mine["python"] == theirs["python"]
