"""Running what is not yet finished, one after another or one per GPU, each in its own process."""

import os
import queue
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tqdm import tqdm

import icre.compat  # noqa: F401

from fastreid.config import CfgNode

from icre.engine.setup import load_config
from icre.experiments.ablation.spec import Run
from icre.utils.errors import UserError

CONSOLE = "console.txt"
_COMMAND = "import sys; from icre.commands.train import main; sys.exit(main())"
_POLL_SECONDS = 1.0


def is_finished(run: Run) -> bool:
    """Whether the run's folder holds its result.

    Raises:
        UserError: the folder holds a run of another config.
    """
    saved = run.folder / "config.yaml"
    if not saved.is_file():
        return False
    # fast-reid writes the number of classes that it found into the saved config
    classes = str(run.cfg.MODEL.HEADS.NUM_CLASSES)
    found = load_config(
        str(saved), ["OUTPUT_DIR", str(run.folder), "MODEL.HEADS.NUM_CLASSES", classes]
    )
    for key, was, now in differences(found, run.cfg):
        raise UserError(
            f"{run.folder} holds a run of another config ({key} was {was!r}, is {now!r}): remove it, "
            "or name another --out"
        )
    return all((run.folder / name).is_file() for name in ("metrics.json", "features.npz"))


def differences(old: CfgNode, new: CfgNode, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Dotted key, old and new value, of each value that differs."""
    for key, value in new.items():
        if isinstance(value, CfgNode):
            yield from differences(old[key], value, f"{prefix}{key}.")
        elif old[key] != value:
            yield f"{prefix}{key}", old[key], value


def run_all(
    runs: Sequence[Run],
    finished: Callable[[Run], bool],
    collect: Callable[[Run], None],
    gpus: Sequence[str] | None = None,
    jobs: int = 1,
) -> list[Run]:
    """Train what is not finished, resuming what was begun; a progress bar counts epochs.

    Args:
        runs: in the order of their start.
        finished: whether a run's result is there already.
        collect: takes the result of a run that has ended well, as soon as it has.
        gpus: one process for each at a time; None: what CUDA_VISIBLE_DEVICES says, for all.
        jobs: processes at a time where no GPUs are named.

    Returns:
        The runs that failed; the others go on.
    """
    waiting = [run for run in runs if not finished(run)]
    total = sum(run.cfg.SOLVER.MAX_EPOCH for run in runs)
    done = total - sum(run.cfg.SOLVER.MAX_EPOCH for run in waiting)
    free: queue.SimpleQueue[dict[str, str]] = queue.SimpleQueue()
    for place in places(gpus, jobs):
        free.put(place)
    failed: list[Run] = []
    with (
        tqdm(total=total, initial=done, unit="epoch", desc="ablation") as bar,
        ThreadPoolExecutor(len(gpus) if gpus else jobs) as executor,
    ):
        stop = threading.Event()
        tasks = [executor.submit(_train, run, free, bar, stop, collect) for run in waiting]
        try:
            failed = [run for run, task in zip(waiting, tasks) if task.result() != 0]
        except BaseException:  # control-C, SIGTERM: nobody is left behind
            stop.set()
            executor.shutdown(wait=False, cancel_futures=True)
            raise
    return failed


def places(gpus: Sequence[str] | None, jobs: int) -> list[dict[str, str]]:
    """What each process at a time finds in its environment: its GPU, or its share of the CPU.

    Trainings side by side with a thread per core each would stand in one another's way. Who sets
    OMP_NUM_THREADS decides.
    """
    if gpus:
        return [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus]
    if jobs == 1 or "OMP_NUM_THREADS" in os.environ:
        return [{}] * jobs
    return [{"OMP_NUM_THREADS": str(max(1, os.cpu_count() // jobs))}] * jobs


def _train(
    run: Run,
    free: queue.SimpleQueue,
    bar: tqdm,
    stop: threading.Event,
    collect: Callable[[Run], None],
) -> int:
    """Run one training to its end; returns its exit status."""
    place = free.get()
    run.folder.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable,
        "-c",
        _COMMAND,
        "--config-file",
        run.config,
        "--resume",
        *run.options,
    ]
    bar.set_postfix_str(f"{run.row}, seed {run.seed}")
    with open(run.folder / CONSOLE, "a") as console:
        process = subprocess.Popen(command, stdout=console, stderr=console, env=os.environ | place)
        counted = 0.0
        while process.poll() is None and not stop.is_set():
            time.sleep(_POLL_SECONDS)
            counted = _count(run, counted, bar)
        if stop.is_set():
            process.terminate()
        status = process.wait()
    bar.update(run.cfg.SOLVER.MAX_EPOCH - counted if status == 0 else -counted)
    free.put(place)
    if status == 0:
        collect(run)
    return status


def _count(run: Run, counted: float, bar: tqdm) -> float:
    """Move the bar to what the run's log says; returns the epochs counted for it."""
    log = run.folder / "log.txt"
    lines = re.findall(r"epoch ([\d.]+) of \d+", _end_of(log)) if log.is_file() else []
    done = float(lines[-1]) if lines else 0.0
    bar.update(max(done - counted, 0.0))
    return max(done, counted)


def _end_of(path: Path, size: int = 4096) -> str:
    with open(path, "rb") as file:
        file.seek(max(path.stat().st_size - size, 0))
        return file.read().decode(errors="replace")
