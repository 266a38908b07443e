"""The learning rate by epoch and by step, and that of a run that goes on under another length."""

import math

import pytest
import torch

from fastreid.engine.train_loop import TrainerBase

from icre.config import load_config
from icre.engine.optimizer import scale_warmup
from icre.engine.schedule import LRScheduler, build_schedulers, replan
from icre.utils.errors import UserError

ITERS = 5  # steps of an epoch


def config(**solver):
    cfg = load_config().clone()
    cfg.defrost()
    cfg.SOLVER.update(
        {"BASE_LR": 0.1, "ETA_MIN_LR": 0.001, "WARMUP_ITERS": 0, "WARMUP_EPOCHS": 0.0, **solver}
    )
    return cfg


class Loop(TrainerBase):
    """A loop that trains nothing and notes the rate of every step."""

    grad_scaler = None

    def __init__(self, cfg):
        super().__init__()
        self.cfg = cfg
        self.warmup_iters, self.delay_epochs = cfg.SOLVER.WARMUP_ITERS, cfg.SOLVER.DELAY_EPOCHS
        self.iters_per_epoch, self.max_epoch = ITERS, cfg.SOLVER.MAX_EPOCH
        self.max_iter = ITERS * self.max_epoch
        parameter = torch.nn.Parameter(torch.zeros(1))
        self.optimizer = torch.optim.SGD([parameter], lr=cfg.SOLVER.BASE_LR)
        self.scheduler = self.build_lr_scheduler(cfg, self.optimizer, ITERS)
        self.register_hooks([LRScheduler(self.optimizer, self.scheduler)])
        self.checkpointer = type("Checkpointer", (), {"checkpointables": {}})
        self.rates = []

    build_lr_scheduler = staticmethod(build_schedulers)

    @property
    def rate(self):
        return self.optimizer.param_groups[0]["lr"]

    def run_step(self):
        self.rates.append(self.rate)
        self.optimizer.step()


def rates(cfg):
    """The rate of every step, and that after the last."""
    loop = Loop(cfg)
    loop.train(0, cfg.SOLVER.MAX_EPOCH, ITERS)
    return [*loop.rates, loop.rate]


def cosine(share):
    return 0.001 + 0.099 * (1 + math.cos(math.pi * share)) / 2


def test_a_cosine_by_step_falls_from_the_warm_up_to_the_last_step():
    found = rates(
        config(SCHED="CosineAnnealingLR", SCHED_BY_STEP=True, MAX_EPOCH=4, WARMUP_ITERS=3)
    )
    assert found[0] == pytest.approx(0.01) and found[3] == pytest.approx(0.1)
    expected = [cosine(step / 17) for step in range(18)]
    assert found[3:] == pytest.approx(expected)
    assert found[-1] == pytest.approx(0.001)


def test_by_epoch_the_last_epoch_is_at_its_end():
    found = rates(config(SCHED="CosineAnnealingLR", MAX_EPOCH=3, WARMUP_ITERS=3))
    assert found[3:15] == pytest.approx([0.1] * 2 + [cosine(1 / 2)] * 5 + [0.001] * 5)


@pytest.mark.parametrize("by_step", [False, True])
def test_steps_of_multistep_and_the_delay_are_epochs(by_step):
    found = rates(
        config(
            SCHED="MultiStepLR", SCHED_BY_STEP=by_step, STEPS=[1, 2], DELAY_EPOCHS=1, MAX_EPOCH=4
        )
    )
    assert found[:20] == pytest.approx([0.1] * 10 + [0.01] * 5 + [0.001] * 5)


@pytest.mark.parametrize("by_step", [False, True])
@pytest.mark.parametrize("steps", [0, 3, 5, 10, 15, 20, 30])
@pytest.mark.parametrize("warmup, delay", [(0, 0), (7, 2), (12, 1), (5, 0)])
def test_replanned_rates_are_those_of_an_unbroken_run(by_step, steps, warmup, delay):
    cfg = config(
        SCHED="CosineAnnealingLR",
        SCHED_BY_STEP=by_step,
        MAX_EPOCH=8,
        WARMUP_ITERS=warmup,
        DELAY_EPOCHS=delay,
    )
    loop = Loop(cfg)
    loop.start_iter = steps
    loop.optimizer.param_groups[0]["lr"] = 123.0
    replan(loop, planned=4)
    assert loop.rate == pytest.approx(rates(cfg)[steps])


class Overflowing(Loop):
    """A loop whose float16 scale falls in each of the first three steps."""

    @property
    def grad_scaler(self):
        scale = 2.0 ** -min(len(self.rates), 3)
        return type("Scaler", (), {"get_scale": lambda self: scale})()


@pytest.mark.parametrize("by_step", [False, True])
def test_the_warm_up_ends_at_the_full_rate_though_the_scale_changes(by_step):
    cfg = config(SCHED="CosineAnnealingLR", SCHED_BY_STEP=by_step, MAX_EPOCH=3, WARMUP_ITERS=4)
    loop = Overflowing(cfg)
    loop.train(0, cfg.SOLVER.MAX_EPOCH, ITERS)
    assert loop.rates[4] == pytest.approx(0.1)
    assert [*loop.rates, loop.rate] == rates(cfg)
    assert loop.storage.latest()["lr"][0] == loop.rates[-1]


def test_a_warm_up_leaves_an_epoch_or_a_step():
    options = {"MAX_EPOCH": 1, "WARMUP_EPOCHS": 0.6, "SCHED": "CosineAnnealingLR"}
    assert scale_warmup(config(**options), ITERS).SOLVER.WARMUP_ITERS == 0
    by_step = config(**options, SCHED_BY_STEP=True)
    assert scale_warmup(by_step, ITERS).SOLVER.WARMUP_ITERS == 3
    by_step.SOLVER.WARMUP_EPOCHS = 2.0
    assert scale_warmup(by_step, ITERS).SOLVER.WARMUP_ITERS == 4
    by_step.SOLVER.DELAY_EPOCHS = 1
    with pytest.raises(UserError, match="nothing is left for CosineAnnealingLR"):
        scale_warmup(by_step, ITERS)
