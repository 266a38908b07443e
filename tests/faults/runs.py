"""Starting small runs of the real command from a process that has imported everything already."""

import os
import sys
import time
import traceback
from pathlib import Path

import pytest
import torch

from conftest import train_arguments
from icre import commands
from icre.engine import session  # noqa: F401 (imported once, before the forks)
from small_runs import skip_pictures

ENDLESS = 600.0  # seconds after which a run that should have ended is called a hang


class Faults:
    """Counts what was lost, and says it at once."""

    def __init__(self):
        self.lost = 0

    def check(self, fine: bool, what: str) -> bool:
        """Count and print `what` unless it is fine."""
        if not fine:
            self.lost += 1
            print(f"LOST: {what}", flush=True)
        return fine


def training(root: Path, output: Path, *options: str, config: str) -> list[str]:
    """Words of `icre` for a short training; see `conftest.train_arguments`."""
    return ["train", *train_arguments(root, output, *options, config=config)]


def start(argv: list[str], log: Path) -> int:
    """Run `icre` with these words in a fork that leads a process group; returns its id.

    Its output is appended to `log`.
    """
    sys.stdout.flush()
    if pid := os.fork():
        return pid
    status = 99
    try:
        os.setpgid(0, 0)
        target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(target, 1)
        os.dup2(target, 2)
        # pytest puts others into these places
        sys.stdout, sys.stderr = (open(fd, "w", buffering=1, closefd=False) for fd in (1, 2))  # noqa: SIM115
        skip_pictures(pytest.MonkeyPatch())
        status = commands.main(argv)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def ended(pid: int, seconds: float = ENDLESS) -> int | None:
    """The exit status (negative: a signal's number) once it has ended within that time, or None."""
    limit = time.monotonic() + seconds
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= limit:
            return None
        time.sleep(0.005)


def tail(log: Path, count: int = 400) -> str:
    """The last `count` characters of a log."""
    return log.read_text(errors="replace")[-count:] if log.is_file() else "(no log)"


def errors(log: Path) -> list[str]:
    """The lines in which commands ended."""
    lines = tail(log, 10**6).splitlines()
    return [line for line in lines if line.startswith("error: ")]


def saved_steps(output: Path, faults: Faults) -> int:
    """Steps of the newest checkpoint; each that bears its full name must be readable."""
    newest = 0
    for path in output.glob("[!.]*.pth"):
        try:
            newest = max(newest, torch.load(path, weights_only=True)["iteration"])
        except Exception as error:
            faults.check(False, f"{path.name} cannot be read: {error}")
    return newest


def same_end(one: Path, other: Path) -> bool:
    """Whether two runs ended with the same weights, bit by bit, and the same metrics."""
    first, second = (
        torch.load(run / "model_final.pth", weights_only=True)["model"] for run in (one, other)
    )
    metrics = {(run / "metrics.json").read_text() for run in (one, other)}
    equal = first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)
    return equal and len(metrics) == 1


def written_at(path: Path) -> int | None:
    """When a file was written; None while there is none."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def wait_for_checkpoints(pid: int, checkpoint: Path, several: int = 1) -> None:
    """Until the file was written so many times, or the process has ended."""
    seen, limit = set(), time.monotonic() + 300
    while len(seen) < several and Path(f"/proc/{pid}/exe").exists() and time.monotonic() < limit:
        seen |= {written_at(checkpoint)} - {None}
        time.sleep(0.01)
