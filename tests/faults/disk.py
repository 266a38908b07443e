"""A disk that fills while something is written: a small file system that only this run sees."""

import os
import random
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from faults.commands import Command, commands, half_written, results
from faults.runs import (
    Faults,
    ended,
    same_end,
    saved_steps,
    start,
    tail,
    training,
    wait_for_checkpoints,
)
from small_runs import STOCK, TINY_MODEL

OPTIONS = (*TINY_MODEL, "SOLVER.MAX_EPOCH", "6", "SOLVER.CHECKPOINT_ITERS", "1")
TRAININGS = 6
SHARES = (0, 0.5, 0.9)  # of what a command writes, that fits
PLENTY = 256  # MiB


def fill(root: Path, prepared: Path, folder: Path, faults: Faults) -> int:
    """Fill disks under trainings and under every command that writes; returns how many.

    In a process that may mount a file system, where the machine lets it; else the size of its files
    is limited.
    """
    folder.mkdir(parents=True)
    inside = [sys.executable, "-m", "faults.disk", str(root), str(prepared), str(folder)]
    mount = ["unshare", "-rm", "sh", "-c"]
    disk = f"mount -t tmpfs -o size={PLENTY}m tmpfs {folder}"
    if subprocess.run([*mount, disk]).returncode == 0:
        done = subprocess.run([*mount, f'{disk} && exec "$@"', "sh", *inside, "tmpfs"])
    else:
        print("disk: no file system may be mounted here; a limit on the size of files instead")
        done = subprocess.run([*inside, "limit"])
    faults.check(done.returncode == 0, f"disk: status {done.returncode}")
    return TRAININGS + len(SHARES) * len(commands(root, prepared))


def main(root: Path, prepared: Path, folder: Path, kind: str) -> int:
    """The process that has the disk in `folder`; returns what was lost, plus two."""
    faults = Faults()
    log = folder.parent / "disk.txt"  # which is on another disk
    _fill_trainings(root, folder, kind, log, faults)
    for name, command in commands(root, prepared).items():
        _fill_command(name, command, folder, kind, log, faults)
    return faults.lost + 2 if faults.lost else 0


def _fill_trainings(root: Path, folder: Path, kind: str, log: Path, faults: Faults) -> None:
    """The disk is full before the first step, or fills after some checkpoint."""
    rng = random.Random(0)
    whole, broken = folder / "whole", folder / "broken"
    status = ended(start(training(root, whole, *OPTIONS, config=STOCK), log))
    faults.check(status == 0, f"disk: an unbroken run ended with {status}: {tail(log)}")
    checkpoint = (whole / "model_final.pth").stat().st_size
    argv = training(root, broken, "--resume", *OPTIONS, config=STOCK)
    for number in range(TRAININGS):
        shutil.rmtree(broken, ignore_errors=True)
        log.unlink()
        free = int(checkpoint * rng.uniform(0, 0.9))
        if number < 2 and kind == "tmpfs":  # full from the beginning
            with _full(folder, free):
                status = ended(start(argv, log))
        else:
            pid, saved = start(argv, log), rng.randint(1, 8)
            wait_for_checkpoints(pid, broken / "model_last.pth", saved)
            with _full(folder, free, None if kind == "tmpfs" else pid):
                status = ended(pid)
        steps, said = saved_steps(broken, faults), tail(log, 4000)
        _require_told(f"disk: training {number} with {free} bytes", status, said, faults)
        half = list(broken.glob(".*"))
        faults.check(not half, f"disk: training {number}: half written files stay: {half}")
        status = ended(start(argv, log))
        print(f"disk: training, full with step {steps} saved, then resumed: {status}", flush=True)
        if faults.check(status == 0, f"disk: training {number}, resumed: {status}: {tail(log)}"):
            faults.check(same_end(whole, broken), f"disk: training {number}: another end")
    for path in (whole, broken):
        shutil.rmtree(path, ignore_errors=True)


def _fill_command(
    name: str, command: Command, folder: Path, kind: str, log: Path, faults: Faults
) -> None:
    out = folder / "out"
    before, after = command.unbroken(out, log, faults)
    sizes = [path.stat().st_size for path in out.rglob("*") if path.is_file()]
    statuses = []
    for share in SHARES:
        command.prepare(out)
        log.unlink()
        given = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
        if kind == "tmpfs":
            with _full(folder, int(share * (sum(sizes) - given))):
                status = ended(command.start(out, log))
        else:
            with _limited(int(share * max(sizes))):
                status = ended(command.start(out, log))
        statuses.append(status)
        if status:  # what is small may fit
            _require_told(f"disk: {name}", status, tail(log, 4000), faults)
        half = half_written(results(out), before, after)
        faults.check(not half, f"disk: {name}: half written: {half}")
        half = [path for path in out.rglob(".*") if path.is_file() and path.name != ".lock"]
        faults.check(not half, f"disk: {name}: half written files stay: {half}")
        if results(out) != after:
            status = ended(command.start(out, log))
            faults.check(status == 0, f"disk: {name}, again: {status}: {tail(log)}")
        found = results(out)
        other = [path for path in {*found, *after} if found.get(path) != after.get(path)]
        faults.check(not other, f"disk: {name}, again: others in {other}")
    faults.check(any(statuses), f"disk: {name} never met a full disk")
    print(f"disk: {name}: status {statuses}, and 0 with room", flush=True)
    shutil.rmtree(out)


def _require_told(what: str, status: int | None, said: str, faults: Faults) -> None:
    faults.check(
        status == 2 and "error: " in said and "Traceback" not in said,
        f"{what} ended with {status}: {said}",
    )


@contextmanager
def _full(folder: Path, free: int, pid: int | None = None) -> Iterator[None]:
    """The disk has that many bytes left; or files of process `pid` may have no more bytes."""
    if pid is not None:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (free, resource.RLIM_INFINITY))
        yield
        return
    ballast, disk = folder / "ballast", os.statvfs(folder)
    with open(ballast, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(disk.f_bavail * disk.f_frsize - free, 1))
    try:
        yield
    finally:
        ballast.unlink()


@contextmanager
def _limited(most: int) -> Iterator[None]:
    """Files that this process and its children write have at most that many bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:4]), sys.argv[4]))
