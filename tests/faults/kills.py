"""kill -9 at random moments: every kill is resumed, and the end is that of the unbroken run."""

import os
import random
import shutil
import signal
import time
from pathlib import Path

from faults.commands import Command, half_written, results
from faults.runs import (
    ENDLESS,
    Faults,
    ended,
    same_end,
    saved_steps,
    start,
    tail,
    training,
    written_at,
)
from small_runs import SMALL, STOCK, TINY_MODEL

# config, options, steps between checkpoints
RUNS = {
    "icre": ("Demo/icre_r18.yml", (*SMALL, "SOLVER.MAX_EPOCH", "4"), 2),
    "stock": (STOCK, (*TINY_MODEL, "SOLVER.MAX_EPOCH", "6", "TEST.EVAL_PERIOD", "2"), 1),
}


def kill(root: Path, folder: Path, count: int, faults: Faults, seed: int = 0) -> int:
    """Kill each of RUNS at least `count` times; returns the kills."""
    rng, kills = random.Random(seed), 0
    for name, (config, options, every) in RUNS.items():
        options = (*options, "SOLVER.CHECKPOINT_ITERS", str(every))
        kills += _kill_one(root, folder / name, config, options, count, faults, rng)
    return kills


def _kill_one(
    root: Path,
    folder: Path,
    config: str,
    options: tuple,
    count: int,
    faults: Faults,
    rng: random.Random,
) -> int:
    whole, broken, log = folder / "whole", folder / "broken", folder / "log.txt"
    folder.mkdir(parents=True)
    status = ended(start(training(root, whole, *options, config=config), log))
    if not faults.check(status == 0, f"{folder.name} ended with {status}: {tail(log)}"):
        return 0
    kills, runs, known = 0, 0, 0
    while kills < count or not runs:
        workers = str(rng.choice([0, 0, 2]))
        argv = training(
            root, broken, "--resume", *options, "DATALOADER.NUM_WORKERS", workers, config=config
        )
        pid = start(argv, log)
        status = (
            _until(rng, pid, broken / "model_last.pth", faults) if kills < count else ended(pid)
        )
        if status is None:
            os.kill(pid, signal.SIGKILL)
            ended(pid)
            kills += 1
            faults.check(kills <= count, f"{folder.name} hangs: {tail(log)}")
            steps = saved_steps(broken, faults) if broken.is_dir() else 0
            faults.check(steps >= known, f"{folder.name}: step {known} was saved, now {steps}")
            known = steps
            continue
        if faults.check(status == 0, f"{folder.name} ended with {status}: {tail(log)}"):
            faults.check(same_end(whole, broken), f"{folder.name}: another end than unbroken")
            half = list(broken.glob(".*"))
            faults.check(not half, f"{folder.name}: half written files stay: {half}")
        shutil.rmtree(broken)
        runs, known = runs + 1, 0
    print(f"{folder.name}: {kills} kills, {runs} runs brought to their end", flush=True)
    shutil.rmtree(folder)
    return kills


def _until(rng: random.Random, pid: int, checkpoint: Path, faults: Faults) -> int | None:
    """Wait for a random moment: any while the run starts, or some time after its n-th checkpoint.

    Returns the exit status of a run that ends before.
    """
    if rng.random() < 0.3:
        return ended(pid, rng.uniform(0, 2))
    written, several = set(), rng.randint(1, 5)
    known, limit = written_at(checkpoint), time.monotonic() + ENDLESS
    while len(written) < several:
        if not faults.check(time.monotonic() < limit, "a run hangs"):
            return None
        if (status := ended(pid, 0.01)) is not None:
            return status
        written |= {written_at(checkpoint)} - {known, None}
    return ended(pid, rng.uniform(0, 0.4))


def kill_commands(
    table: dict[str, Command], folder: Path, each: int, faults: Faults, seed: int = 0
) -> int:
    """Kill each command that many times at random moments; returns the kills.

    Each file that it leaves is the one before or the one after the command, never half of it; the
    same command, given again, ends as an unbroken one.
    """
    rng, kills = random.Random(seed), 0
    folder.mkdir(parents=True)
    out, log = folder / "out", folder / "log.txt"  # one place, as some files name it
    for name, command in table.items():
        begin = time.monotonic()
        before, after = command.unbroken(out, log, faults)
        took = time.monotonic() - begin
        killed, late = 0, 0
        while killed < each and late < 3 * each:
            command.prepare(out)
            while killed < each and rng.random() < 0.8:
                pid = command.start(out, log)
                if ended(pid, took * rng.uniform(0.1, 1)) is not None:
                    late += 1
                    break
                os.kill(pid, signal.SIGKILL)
                ended(pid)
                killed += 1
                half = half_written(results(out), before, after)
                faults.check(not half, f"{name}: half written after a kill: {half}")
            log.unlink(missing_ok=True)
            if results(out) != after:
                status = ended(command.start(out, log))
                faults.check(status == 0, f"{name}, again: {status}: {tail(log)}")
            faults.check(results(out) == after, f"{name}, again: another end than unbroken")
        print(f"kills: {killed} {name}", flush=True)
        kills += killed
    shutil.rmtree(folder)
    return kills
