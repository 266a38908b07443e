"""Work on a Ray cluster of this machine: the results are those of the local commands."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import CONFIGS, SHORT
from icre.commands import ablate
from small_runs import STOCK, TINY_MODEL

TOOLS = CONFIGS.parent / "tools"
SPEC = f"""
title: Two rows
config: {CONFIGS / STOCK}
rows:
  ID loss:
    options: {{MODEL.LOSSES.NAME: [CrossEntropyLoss]}}
  Both:
"""
LIMIT = 300.0  # seconds that a test waits for anything


def environment() -> dict[str, str]:
    """Of a command in a process of its own, whose cluster is its own too."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "RAY_ADDRESS": "local"}


def wait_for(happened, process):
    """Wait until `happened()` is true; returns it."""
    deadline = time.monotonic() + LIMIT
    while not (found := happened()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def without_environments(folder: Path) -> dict:
    found = json.loads((folder / "results.json").read_text())
    for row in found["rows"]:
        del row["environments"]  # the dates
    return found


@pytest.mark.slow
def test_an_ablation_whose_worker_is_killed_has_the_table_of_the_local_runner(demo_root, tmp_path):
    spec = tmp_path / "two.yml"
    spec.write_text(SPEC)
    epochs = ("SOLVER.MAX_EPOCH", "8", "SOLVER.WARMUP_EPOCHS", "0.0", "SOLVER.SCHED", "MultiStepLR")
    options = ("DATASETS.ROOT", str(demo_root), *SHORT, *TINY_MODEL, *epochs)

    def words(out, *flags):
        folders = ["--out", str(out), "--records", str(out / "records")]
        return [str(spec), *folders, *flags, "--options", *options]

    here, there = tmp_path / "here", tmp_path / "there"
    command = [sys.executable, TOOLS / "ablate.py", *words(there, "--cluster", "auto")]
    command[-len(options) - 1 : -len(options) - 1] = ["--jobs", "2"]
    process = subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    workers = {}
    for row in ("ID_loss", "Both"):
        console, lock = (there / row / "seed_0" / name for name in ("console.txt", ".lock"))
        # two epochs of eight are behind it, and a checkpoint of the first
        wait_for(lambda: console.is_file() and "epoch 2.0 of 8" in console.read_text(), process)
        training = int(lock.read_text().split()[1])
        workers[row] = training, parent_of(training)
    (training, worker), (_, other) = workers.values()
    assert worker != other
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: not is_alive(training), process)  # it ends with its worker
    printed, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, errors
    assert "resum" in (there / "ID_loss/seed_0/console.txt").read_text().lower()
    assert "resum" not in (there / "Both/seed_0/console.txt").read_text().lower()
    assert ablate.main(words(here)) == 0
    assert without_environments(here) == without_environments(there)
    for name in os.listdir(here / "records"):
        ours, theirs = (json.loads((f / "records" / name).read_text()) for f in (here, there))
        assert {**ours, "environment": None} == {**theirs, "environment": None}
    assert (here / "table.md").read_text() == (there / "table.md").read_text() and printed
