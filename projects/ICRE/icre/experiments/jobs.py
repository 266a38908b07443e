"""Trainings as jobs: each is `icre.commands.train` in a process of its own.

A runner takes jobs and yields those that have ended. `LocalRunner` is the one of this machine,
`icre.experiments.ray_jobs.RayRunner` that of a cluster.
"""

import os
import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from icre.utils.progress import progress_bar
from icre.utils.run_folder import RunFolder

_COMMAND = (sys.executable, "-m", "icre.commands.train")
POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Job:
    """One training.

    Attributes:
        name: for the progress bar.
        arguments: of `icre.commands.train`; they write into the folder of `files`.
        files: of its OUTPUT_DIR.
        epochs: SOLVER.MAX_EPOCH.
    """

    name: str
    arguments: tuple[str, ...]
    files: RunFolder
    epochs: int

    @property
    def console(self) -> Path:
        """File that takes what the job's process prints."""
        return self.files.path / "console.txt"


class Runner(Protocol):
    """Runs jobs, several at a time; closing the iterator stops those that run."""

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, int] | None]:
        """Yield (job, its exit status) as soon as it has ended, and None every second or so."""


class LocalRunner:
    """Jobs on this machine.

    Args:
        gpus: one process for each at a time; None: all share what CUDA_VISIBLE_DEVICES says.
        jobs: processes at a time if no GPUs are named.
    """

    def __init__(self, gpus: Sequence[str] | None = None, jobs: int = 1):
        self.gpus, self.jobs = gpus, jobs

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, int] | None]:
        """See `Runner`."""
        waiting, running = deque(jobs), {}
        free = deque(environments(self.gpus, self.jobs))
        try:
            while waiting or running:
                while waiting and free:
                    job, variables = waiting.popleft(), free.popleft()
                    running[start(job, variables)] = job, variables
                ended = [process for process in running if process.poll() is not None]
                for process in ended:
                    job, variables = running.pop(process)
                    free.append(variables)
                    yield job, process.wait()
                if not ended:
                    time.sleep(POLL_SECONDS)
                yield None
        finally:
            for process in running:
                process.terminate()  # each leaves a checkpoint
            for process in running:
                process.wait()


def start(job: Job, variables: Mapping[str, str], **options: Any) -> subprocess.Popen:
    """Start a job's process.

    Args:
        variables: of its environment, beside this process's.
        options: of Popen.
    """
    job.console.parent.mkdir(parents=True, exist_ok=True)
    with open(job.console, "a") as output:
        return subprocess.Popen(
            [*_COMMAND, *job.arguments],
            stdout=output,
            stderr=output,
            env=os.environ | variables,
            **options,
        )


def environments(gpus: Sequence[str] | None, jobs: int) -> list[dict[str, str]]:
    """Environment variables of each process at a time: its GPU, or its share of the CPU's threads.

    A value of OMP_NUM_THREADS that is set already is kept.
    """
    if gpus:
        return [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus]
    if jobs == 1 or "OMP_NUM_THREADS" in os.environ:
        return [{}] * jobs
    return [{"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // jobs))}] * jobs


def run_jobs(
    runner: Runner, jobs: Sequence[Job], what: str, done: int = 0
) -> Iterator[tuple[Job, int]]:
    """Run jobs with a progress bar that counts epochs; yields (job, exit status) as they end.

    Args:
        what: the bar's description.
        done: epochs that were trained before.
    """
    total = done + sum(job.epochs for job in jobs)
    counted = dict.fromkeys(jobs, 0.0)
    with (
        progress_bar(None, what, total=total, initial=done, unit="epoch") as bar,
        closing(runner.run(jobs)) as events,
    ):
        for event in events:
            if event is None:
                for job in counted:
                    now = max(_trained_epochs(job), counted[job])
                    if now > counted[job]:
                        bar.set_postfix_str(job.name, refresh=False)
                    bar.update(now - counted[job])
                    counted[job] = now
                continue
            job, status = event
            known = counted.pop(job)
            bar.update(job.epochs - known if status == 0 else -known)
            yield job, status


def _trained_epochs(job: Job) -> float:
    """Epochs that the job's log counts."""
    log = job.files.log
    lines = re.findall(r"epoch ([\d.]+) of \d+", _end_of(log)) if log.is_file() else []
    return float(lines[-1]) if lines else 0.0


def _end_of(path: Path, size: int = 4096) -> str:
    with open(path, "rb") as file:
        file.seek(max(path.stat().st_size - size, 0))
        return file.read().decode(errors="replace")
