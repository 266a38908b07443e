"""Train the runs of a spec that have no record yet, each in a process of its own."""

import os
import queue
import re
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from icre.data.loader import verify_datasets
from icre.experiments.ablation.results import Results
from icre.experiments.ablation.spec import PlannedRun, Spec
from icre.utils.progress import progress_bar

_COMMAND = (sys.executable, "-m", "icre.commands.train")
_POLL_SECONDS = 1.0


def console(run: PlannedRun) -> Path:
    """File that takes what the run's process prints."""
    return run.files.path / "console.txt"


def train_missing(
    spec: Spec, results: Results, gpus: Sequence[str] | None = None, jobs: int = 1
) -> list[PlannedRun]:
    """Train what has no record yet, resuming unfinished runs; a progress bar counts epochs.

    Args:
        spec: its runs are started in order.
        results: takes each run's result as soon as it has finished.
        gpus: one process for each at a time; None: all share what CUDA_VISIBLE_DEVICES says.
        jobs: processes at a time if no GPUs are named.

    Returns:
        The runs that failed; the others continue.

    Raises:
        UserError: images of the data sets are missing or broken (before anything is trained).
    """
    waiting = [run for run in spec.runs if results.find(run) is None]
    verify_images(waiting)
    total = sum(run.cfg.SOLVER.MAX_EPOCH for run in spec.runs)
    done = total - sum(run.cfg.SOLVER.MAX_EPOCH for run in waiting)
    free: queue.SimpleQueue[dict[str, str]] = queue.SimpleQueue()
    for variables in environments(gpus, jobs):
        free.put(variables)
    with (
        progress_bar(None, "ablation", total=total, initial=done, unit="epoch") as bar,
        ThreadPoolExecutor(len(gpus) if gpus else jobs) as executor,
    ):
        stop = threading.Event()
        tasks = [executor.submit(_train, run, free, bar, stop, results) for run in waiting]
        try:
            return [run for run, task in zip(waiting, tasks) if task.result() != 0]
        except BaseException:  # control-C and SIGTERM end the processes too
            stop.set()
            executor.shutdown(wait=False, cancel_futures=True)
            raise


def environments(gpus: Sequence[str] | None, jobs: int) -> list[dict[str, str]]:
    """Environment variables of each process at a time: its GPU, or its share of the CPU's threads.

    A value of OMP_NUM_THREADS that is set already is kept.
    """
    if gpus:
        return [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus]
    if jobs == 1 or "OMP_NUM_THREADS" in os.environ:
        return [{}] * jobs
    return [{"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // jobs))}] * jobs


def verify_images(runs: Sequence[PlannedRun]) -> None:
    """Decode the images of each data set once."""
    verified = []
    for run in runs:
        names = (run.cfg.DATASETS.ROOT, run.cfg.DATASETS.NAMES, run.cfg.DATASETS.TESTS)
        if names not in verified:
            verify_datasets(run.cfg, train=True)
            verified.append(names)


def _train(
    run: PlannedRun, free: queue.SimpleQueue, bar: tqdm, stop: threading.Event, results: Results
) -> int:
    """Run one training to its end; returns its exit status."""
    variables = free.get()
    run.files.path.mkdir(parents=True, exist_ok=True)
    command = [*_COMMAND, "--config-file", run.config, "--resume", *run.options]
    bar.set_postfix_str(f"{run.row}, seed {run.seed}")
    with open(console(run), "a") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env=os.environ | variables
        )
        counted = 0.0
        while process.poll() is None and not stop.is_set():
            time.sleep(_POLL_SECONDS)
            counted = _count(run, counted, bar)
        if stop.is_set():
            process.terminate()
        status = process.wait()
    bar.update(run.cfg.SOLVER.MAX_EPOCH - counted if status == 0 else -counted)
    free.put(variables)
    if status == 0:
        results.collect(run)
    return status


def _count(run: PlannedRun, counted: float, bar: tqdm) -> float:
    """Advance the bar to the epochs in the run's log; returns the epochs counted for it."""
    log = run.files.log
    lines = re.findall(r"epoch ([\d.]+) of \d+", _end_of(log)) if log.is_file() else []
    done = float(lines[-1]) if lines else 0.0
    bar.update(max(done - counted, 0.0))
    return max(done, counted)


def _end_of(path: Path, size: int = 4096) -> str:
    with open(path, "rb") as file:
        file.seek(max(path.stat().st_size - size, 0))
        return file.read().decode(errors="replace")
