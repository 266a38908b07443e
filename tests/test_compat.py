"""The fence to fast-reid's age, and the learning rates that its schedule gives."""

import collections
import importlib.metadata
import os
import subprocess
import sys

import pytest
import torch

from fastreid.engine import hooks
from fastreid.engine.train_loop import TrainerBase
from fastreid.evaluation import ReidEvaluator
from fastreid.evaluation.rank_cylib import compile_helper
from fastreid.solver import build_lr_scheduler

from conftest import CONFIGS
from icre import compat
from icre.config import load_config


def test_lent_names_are_gone_after_import():
    assert "torch._six" not in sys.modules
    assert not hasattr(collections, "Mapping")


@pytest.mark.slow
def test_importing_fastreid_first_still_needs_the_fence():
    """That it is enough, every other test shows."""
    code = "import fastreid.data.build"
    alone = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert alone.returncode != 0 and "torch._six" in alone.stderr


@pytest.mark.parametrize("found", [None, "1.3.0", "1.4.1"])
def test_another_version_is_refused_with_the_command(monkeypatch, found):
    def version(name):
        if found is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return found

    monkeypatch.setattr(importlib.metadata, "version", version)
    with pytest.raises(ImportError, match=r"fastreid==1\.4\.0") as caught:
        compat.check_version()
    assert "\n" not in str(caught.value)


def test_a_local_build_of_the_version_is_accepted(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.4.0+local")
    compat.check_version()


def test_fastreids_evaluator_needs_no_compiler(monkeypatch):
    called = []
    monkeypatch.setattr("fastreid.evaluation.reid_evaluation.compile_helper", called.append)
    monkeypatch.setattr(os, "system", called.append)
    evaluator = ReidEvaluator(load_config(), num_query=12)  # it wants ten in the gallery
    features = torch.eye(12).repeat(2, 1)
    pids, camids = torch.arange(12).repeat(2), torch.arange(2).repeat_interleave(12)
    evaluator.process({"targets": pids, "camids": camids}, features)
    assert evaluator.evaluate()["Rank-1"] == 100
    assert not called and callable(compile_helper)


def learning_rates(config: str, iters: int, epochs: int) -> list[float]:
    """The rate of the backbone at the first step of each epoch, by fast-reid's own hook."""
    cfg = load_config(str(CONFIGS / config)).clone()
    cfg.defrost()
    cfg.SOLVER.WARMUP_ITERS = round(cfg.SOLVER.WARMUP_EPOCHS * iters)
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=cfg.SOLVER.BASE_LR)
    scheduler = build_lr_scheduler(cfg, optimizer, iters)
    seen = []

    class Loop(TrainerBase):
        grad_scaler = None
        warmup_iters, delay_epochs = cfg.SOLVER.WARMUP_ITERS, 0

        def before_epoch(self):
            super().before_epoch()
            seen.append(optimizer.param_groups[0]["lr"])

        def run_step(self):
            optimizer.step()

    loop = Loop()
    loop.register_hooks([hooks.LRScheduler(optimizer, scheduler)])
    loop.train(0, epochs, iters)
    return seen


def test_the_sysu_schedule_is_what_the_config_says():
    rates = learning_rates("SYSU/icre_r50.yml", iters=3, epochs=125)
    assert rates[0] == pytest.approx(0.001)  # WARMUP_FACTOR 0.1
    assert rates[5] == pytest.approx(0.01 * (0.1 + 0.9 * 0.5))
    expected = {10: 0.01, 24: 0.01, 25: 1e-3, 89: 1e-3, 90: 1e-4, 119: 1e-4, 120: 1e-5}
    assert {epoch: rates[epoch] for epoch in expected} == pytest.approx(expected)


@pytest.mark.parametrize("found", ["", "1.3.0"])
def test_installing_without_fastreid_gives_the_command(tmp_path, found):
    """setup.py asks the interpreter that pip uses; here that is a script that answers `found`."""
    fake = tmp_path / "python"
    fake.write_text(f"#!/bin/sh\n[ -n '{found}' ] && echo {found}\n")
    fake.chmod(0o755)
    code = (
        "import runpy, sys; sys.argv = ['setup.py', 'editable_wheel']; "
        f"sys.executable = {str(fake)!r}; runpy.run_path('setup.py', run_name='__main__')"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=CONFIGS.parent, capture_output=True, text=True
    )
    assert result.returncode != 0
    (line,) = result.stderr.splitlines()
    assert "Run: pip install --no-deps fastreid==1.4.0" in line
    assert (found or "not installed") in line
