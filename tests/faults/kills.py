"""kill -9 at random moments: every kill is resumed, and the end is that of the unbroken run."""

import os
import random
import shutil
import signal
import time
from pathlib import Path

from faults.runs import Faults, command, ended, last_words, same_end, saved_steps, start
from small_runs import SMALL, STOCK, TINY_MODEL

# config, options, steps between checkpoints
RUNS = {
    "icre": ("Demo/icre_r18.yml", (*SMALL, "SOLVER.MAX_EPOCH", "6"), 3),
    "stock": (STOCK, (*TINY_MODEL, "SOLVER.MAX_EPOCH", "8", "TEST.EVAL_PERIOD", "3"), 1),
}


def kill(root: Path, folder: Path, count: int, faults: Faults, seed: int = 0) -> int:
    """Kill each of RUNS at least `count` times; returns the kills."""
    rng, kills = random.Random(seed), 0
    for name, (config, options, every) in RUNS.items():
        options = (*options, "SOLVER.CHECKPOINT_ITERS", str(every))
        kills += _kill_one(root, folder / name, config, options, count, faults, rng)
    return kills


def _kill_one(
    root: Path, folder: Path, config: str, options: tuple, count: int, faults: Faults,
    rng: random.Random,
) -> int:
    whole, broken, log = folder / "whole", folder / "broken", folder / "log.txt"
    folder.mkdir(parents=True)
    before, total = _time(command(root, whole, config, *options), whole, log)
    print(f"{folder.name}: {before:.1f} s to the first checkpoint, {total:.1f} s in all", flush=True)
    kills, runs, known = 0, 0, 0
    while kills < count or not runs:
        workers = str(rng.choice([0, 0, 2]))
        argv = command(
            root, broken, config, "--resume", *options, "DATALOADER.NUM_WORKERS", workers)
        pid = start(argv, log)
        # from its first moment on, and far enough to get on by a tenth of the run or so
        moment = rng.uniform(0, before + total / 4) if kills < count else None
        status = ended(pid, moment) if moment is not None else ended(pid)
        if status is None:
            os.kill(pid, signal.SIGKILL)
            ended(pid)
            kills += 1
            faults.check(moment is not None, f"{folder.name} hangs: {last_words(log)}")
            steps = saved_steps(broken, faults) if broken.is_dir() else 0
            faults.check(steps >= known, f"{folder.name}: step {known} was saved, now {steps}")
            known = steps
            continue
        if faults.check(status == 0, f"{folder.name} ended with {status}: {last_words(log)}"):
            faults.check(same_end(whole, broken), f"{folder.name}: another end than unbroken")
            half = list(broken.glob(".*"))
            faults.check(not half, f"{folder.name}: half written files stay: {half}")
        shutil.rmtree(broken)
        runs, known = runs + 1, 0
    print(f"{folder.name}: {kills} kills, {runs} runs brought to their end", flush=True)
    shutil.rmtree(folder)
    return kills


def _time(argv: list[str], output: Path, log: Path) -> tuple[float, float]:
    """Seconds of an unbroken run until its first checkpoint, and in all."""
    begin, first = time.monotonic(), None
    pid = start(argv, log)
    while (status := ended(pid, 0.05)) is None:
        if first is None and (output / "model_last.pth").is_file():
            first = time.monotonic() - begin
    if status:
        raise SystemExit(f"the unbroken run ended with {status}: {last_words(log)}")
    return first, time.monotonic() - begin
