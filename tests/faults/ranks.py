"""Two processes on gloo, one of which dies, freezes, or loses its launcher."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from faults.runs import (
    Faults,
    ended,
    errors,
    same_end,
    saved_steps,
    start,
    tail,
    training,
    wait_for_checkpoints,
)
from small_runs import STOCK, TINY_MODEL

OPTIONS = (*TINY_MODEL, "SOLVER.MAX_EPOCH", "12", "SOLVER.CHECKPOINT_ITERS", "1", "--num-gpus=2")
TOLD = 120.0  # seconds within which a run must have ended after the fault


def break_ranks(root: Path, folder: Path, faults: Faults) -> int:
    """Break one run again and again, then bring it to its end; returns the broken ranks."""
    folder.mkdir(parents=True)
    whole, broken, log = folder / "whole", folder / "broken", folder / "log.txt"
    argv = training(root, whole, *OPTIONS, config=STOCK)
    status = ended(start(argv, folder / "whole.txt"))
    faults.check(status == 0, f"two processes ended with {status}: {tail(folder / 'whole.txt')}")
    argv = training(root, broken, "--resume", *OPTIONS, config=STOCK)
    known = 0
    for name, (act, options, status, words) in FAULTS.items():
        log.unlink(missing_ok=True)
        launcher = start([*argv, *options], log)
        ranks = _ranks(launcher, broken, known)
        if not faults.check(len(ranks) == 2, f"{name}: the run never got on: {tail(log)}"):
            os.kill(launcher, signal.SIGKILL)
            continue
        begin = time.monotonic()
        act(launcher, ranks)
        found = ended(launcher, TOLD)
        took = time.monotonic() - begin
        said = errors(log)
        print(f"ranks: {name}: {took:.1f} s, status {found}, {said}", flush=True)
        if found is None:
            os.kill(launcher, signal.SIGKILL)
        faults.check(found == status, f"{name}: status {found}, not {status}: {tail(log)}")
        faults.check(
            not words or any(words in line for line in said), f"{name}: not told: {tail(log)}"
        )
        faults.check(_gone(ranks), f"{name}: a rank is still there")
        steps = saved_steps(broken, faults)
        faults.check(steps >= known, f"{name}: step {known} was saved, now {steps}")
        known = steps
    status = ended(start(argv, log))
    if faults.check(status == 0, f"resumed two processes ended with {status}: {tail(log)}"):
        faults.check(same_end(whole, broken), "two processes: another end than unbroken")
    return sum(name != "SIGTERM" for name in FAULTS)


def interrupt(root: Path, folder: Path, faults: Faults) -> int:
    """Ctrl-C and a scheduler's SIGTERM, to all processes of a run of one and of two ranks."""
    folder.mkdir(parents=True)
    log, tried = folder / "log.txt", 0
    for ranks in (1, 2):
        workers = ("DATALOADER.NUM_WORKERS", "1", "SOLVER.MAX_EPOCH", "8")
        options = (*OPTIONS, f"--num-gpus={ranks}", *workers)
        whole = folder / f"whole{ranks}"
        argv = training(root, whole, *options, config=STOCK)
        faults.check(ended(start(argv, log)) == 0, f"{ranks} ranks: {tail(log)}")
        for number, expected in ((signal.SIGINT, 130), (signal.SIGTERM, 75)):
            log.unlink(missing_ok=True)
            broken = folder / f"{number.name}{ranks}"
            argv = training(root, broken, "--resume", *options, config=STOCK)
            launcher = start(argv, log)
            wait_for_checkpoints(launcher, broken / "model_last.pth")
            steps = saved_steps(broken, faults)
            os.killpg(launcher, number)
            status, said = ended(launcher, TOLD), tail(log, 10**6)
            lines = errors(log)
            name = f"{number.name} with {ranks} ranks"
            print(f"interrupts: {name}: status {status}, {lines}", flush=True)
            faults.check(
                status == expected and len(lines) == 1 and "Traceback" not in said,
                f"{name}: status {status}, not {expected}: {said[-1500:]}",
            )
            faults.check(saved_steps(broken, faults) >= steps, f"{name}: lost step {steps}")
            status = ended(start(argv, log))
            if faults.check(status == 0, f"{name}, resumed: {status}: {tail(log)}"):
                faults.check(same_end(whole, broken), f"{name}: another end than unbroken")
            tried += 1
    return tried


def _kill(number: int) -> Callable:
    return lambda launcher, ranks: os.kill(ranks[number], signal.SIGKILL)


# what is done, options, the launcher's exit status, what its last line says
FAULTS = {
    "rank 1 killed": (_kill(1), (), 1, "rank 1 (process"),
    "rank 0 killed": (_kill(0), (), 1, "rank 0 (process"),
    "rank 1 frozen": (
        lambda launcher, ranks: os.kill(ranks[1], signal.SIGSTOP),
        ("DIST_TIMEOUT", "30"),
        1,
        "imed out",
    ),
    "launcher killed": (lambda launcher, ranks: os.kill(launcher, signal.SIGKILL), (), -9, ""),
    "SIGTERM": (
        lambda launcher, ranks: os.kill(launcher, signal.SIGTERM),
        (),
        75,
        "left on SIGTERM",
    ),
}


def _ranks(launcher: int, output: Path, known: int) -> list[int]:
    """The launcher's ranks in order, once a checkpoint newer than `known` steps is there."""
    last = output / "model_last.pth"
    before = last.stat().st_mtime_ns if last.is_file() else 0
    limit = time.monotonic() + 300
    while time.monotonic() < limit and Path(f"/proc/{launcher}/task").is_dir():
        if last.is_file() and last.stat().st_mtime_ns > before:
            children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
            return [pid for pid in map(int, children) if "spawn_main" in _words(pid)]
        time.sleep(0.02)
    return []


def _words(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def _gone(pids: list[int]) -> bool:
    """Whether the processes end within a few seconds."""
    limit = time.monotonic() + 20
    while any(_words(pid) for pid in pids):
        if time.monotonic() > limit:
            return False
        time.sleep(0.1)
    return True
