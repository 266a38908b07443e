"""A disk that fills during a run: a small file system in memory that only this run sees."""

import os
import random
import resource
import shutil
import subprocess
import sys
from pathlib import Path

from conftest import render_demo, train_arguments
from faults.runs import Faults, ended, same_end, saved_steps, start, tail
from small_runs import STOCK, TINY_MODEL

OPTIONS = (*TINY_MODEL, "SOLVER.MAX_EPOCH", "3", "SOLVER.CHECKPOINT_ITERS", "1")
DISKS = 8
PLENTY = 256  # MiB


def fill(folder: Path, faults: Faults) -> int:
    """Fill DISKS disks, in a process that may mount one; returns how many."""
    folder.mkdir(parents=True)
    inside = [sys.executable, "-m", "faults.disk", str(folder)]
    mount = f'mount -t tmpfs -o size={PLENTY}m tmpfs {folder} && exec "$@"'
    done = subprocess.run(["unshare", "-rm", "sh", "-c", mount, "sh", *inside, "tmpfs"])
    if done.returncode == 32 or done.returncode == 1:  # mount's and unshare's own
        print("disk: no file system may be mounted here; a limit on the size of files instead")
        done = subprocess.run([*inside, "limit"])
    faults.check(done.returncode == 0, f"disk: status {done.returncode}")
    return DISKS


def main(folder: Path, kind: str) -> int:
    """The process that has the disk in `folder`; returns what was lost, plus two."""
    faults, rng = Faults(), random.Random(0)
    root, whole, broken = (folder / name for name in ("data", "whole", "broken"))
    log = folder.parent / "disk.txt"  # which is on another disk
    render_demo(root)
    status = ended(start(train_arguments(root, whole, *OPTIONS, config=STOCK), log))
    faults.check(status == 0, f"disk: an unbroken run ended with {status}: {tail(log)}")
    checkpoint = (whole / "model_final.pth").stat().st_size
    needed = sum(path.stat().st_size for path in whole.rglob("*") if path.is_file()) + checkpoint
    for number in range(DISKS):
        shutil.rmtree(broken, ignore_errors=True)
        share = number / 64 if number < 2 else rng.uniform(0, 0.8)
        free = share * needed if kind == "tmpfs" else rng.uniform(0.1, 0.9) * checkpoint
        argv = train_arguments(root, broken, "--resume", *OPTIONS, config=STOCK)
        log.unlink()
        with _limited(folder, int(free), kind):
            status = ended(start(argv, log))
        steps = saved_steps(broken, faults)
        said = tail(log, 4000)
        faults.check(
            status == 2 and "\nerror: " in said and "Traceback" not in said,
            f"disk {number} with {free:.0f} bytes ended with {status}: {said}",
        )
        half = list(broken.glob(".*"))
        faults.check(not half, f"disk {number}: half written files stay: {half}")
        status = ended(start(argv, log))
        print(
            f"disk {number}: {free / 2**20:.1f} MiB, full with step {steps} saved, then resumed: "
            f"status {status}",
            flush=True,
        )
        if faults.check(status == 0, f"disk {number}, resumed: {status}: {tail(log)}"):
            faults.check(same_end(whole, broken), f"disk {number}: another end than unbroken")
    return faults.lost + 2 if faults.lost else 0


class _limited:
    """While entered, this process and its children may write that many bytes more."""

    def __init__(self, folder: Path, free: int, kind: str):
        self.folder, self.free, self.kind = folder, free, kind

    def __enter__(self) -> None:
        if self.kind == "limit":
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.free, resource.RLIM_INFINITY))
            return
        disk = os.statvfs(self.folder)
        self.ballast = self.folder / "ballast"
        with open(self.ballast, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(disk.f_bavail * disk.f_frsize - self.free, 1))

    def __exit__(self, *error) -> None:
        if self.kind == "limit":
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        else:
            self.ballast.unlink()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
