"""A disk that fills at some step of a run: a small file system in memory that only this run sees."""

import os
import random
import resource
import shutil
import subprocess
import sys
from pathlib import Path

from conftest import TINY
from faults.runs import Faults, command, ended, last_words, same_end, saved_steps, start
from small_runs import STOCK, TINY_MODEL
from synthvi.writer import write_tree

OPTIONS = (*TINY_MODEL, "SOLVER.MAX_EPOCH", "3", "SOLVER.CHECKPOINT_ITERS", "1")
ROOMS = 8  # disks that fill
PLENTY = 256  # MiB


def fill(folder: Path, faults: Faults) -> int:
    """Fill ROOMS disks, in a process that may mount one; returns how many."""
    folder.mkdir(parents=True)
    inside = [sys.executable, "-m", "faults.disk", str(folder)]
    mount = f'mount -t tmpfs -o size={PLENTY}m tmpfs {folder} && exec "$@"'
    done = subprocess.run(["unshare", "-rm", "sh", "-c", mount, "sh", *inside, "tmpfs"])
    if done.returncode == 32 or done.returncode == 1:  # mount's and unshare's own
        print("disk: no file system may be mounted here; a limit on the size of files instead")
        done = subprocess.run([*inside, "limit"])
    faults.check(done.returncode == 0, f"disk: status {done.returncode}")
    return ROOMS


def main(folder: Path, kind: str) -> int:
    """The process that has the disk in `folder`; returns what was lost, plus two."""
    faults, rng = Faults(), random.Random(0)
    root, whole, broken = (folder / name for name in ("data", "whole", "broken"))
    log = folder.parent / "disk.txt"  # which is on another disk
    write_tree(root / "SYSU-MM01", TINY, workers=1, progress=False)
    status = ended(start(command(root, whole, STOCK, *OPTIONS), log))
    faults.check(status == 0, f"disk: an unbroken run ended with {status}: {last_words(log)}")
    checkpoint = (whole / "model_final.pth").stat().st_size
    needed = sum(path.stat().st_size for path in whole.rglob("*") if path.is_file()) + checkpoint
    for number in range(ROOMS):
        shutil.rmtree(broken, ignore_errors=True)
        share = number / 64 if number < 2 else rng.uniform(0, 0.8)
        room = share * needed if kind == "tmpfs" else rng.uniform(0.1, 0.9) * checkpoint
        argv = command(root, broken, STOCK, "--resume", *OPTIONS)
        log.unlink()
        with _only(folder, int(room), kind):
            status = ended(start(argv, log))
        steps = saved_steps(broken, faults)
        said = last_words(log, 4000)
        faults.check(
            status == 2 and "\nerror: " in said and "Traceback" not in said,
            f"disk {number} with {room:.0f} bytes ended with {status}: {said}",
        )
        half = list(broken.glob(".*"))
        faults.check(not half, f"disk {number}: half written files stay: {half}")
        status = ended(start(argv, log))
        print(
            f"disk {number}: {room / 2**20:.1f} MiB, full with step {steps} saved, then resumed: "
            f"status {status}",
            flush=True,
        )
        if faults.check(status == 0, f"disk {number}, resumed: {status}: {last_words(log)}"):
            faults.check(same_end(whole, broken), f"disk {number}: another end than unbroken")
    return faults.lost + 2 if faults.lost else 0


class _only:
    """While entered, this process and its children may write that many bytes more."""

    def __init__(self, folder: Path, room: int, kind: str):
        self.folder, self.room, self.kind = folder, room, kind

    def __enter__(self) -> None:
        if self.kind == "limit":
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.room, resource.RLIM_INFINITY))
            return
        disk = os.statvfs(self.folder)
        self.ballast = self.folder / "ballast"
        with open(self.ballast, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(disk.f_bavail * disk.f_frsize - self.room, 1))

    def __exit__(self, *error) -> None:
        if self.kind == "limit":
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        else:
            self.ballast.unlink()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
