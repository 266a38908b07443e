"""Hours and memory that the rows of a spec will need, from timed steps of each."""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from tabulate import tabulate

import icre.compat.evaluation  # noqa: F401

from fastreid.utils.events import EventStorage

from icre.config import load_config
from icre.engine.trainer import Trainer
from icre.experiments.ablation.results import Results
from icre.experiments.ablation.runs import verify_images
from icre.experiments.ablation.spec import PlannedRun, Spec
from icre.experiments.jobs import environments
from icre.utils import cli
from icre.utils.errors import UserError
from icre.utils.progress import progress_bar

_STEP = "step"  # a line of the process that is timed, for the progress bar
_WARM_UP = 10  # steps that are not timed: compilation, memory, workers


@dataclass(frozen=True)
class Estimate:
    """What the trainings of a row will need.

    Attributes:
        row: its name.
        runs: trainings without a record, one per seed.
        steps: of each.
        seconds: per step, evaluation not counted.
        peak_bytes: of the GPU, or of the process on a CPU, its loaders not counted.
    """

    row: str
    runs: int
    steps: int
    seconds: float
    peak_bytes: int

    @property
    def hours(self) -> float:
        """Of all runs, one after another."""
        return self.runs * self.steps * self.seconds / 3600


def estimate(
    spec: Spec, results: Results, steps: int, gpus: Sequence[str] | None = None, jobs: int = 1
) -> list[Estimate]:
    """Time some steps of each row that has trainings left, in a process of its own.

    Args:
        spec, results: as of `train_missing`.
        gpus, jobs: as of `LocalRunner`; all rows are timed on the first GPU.
        steps: that are timed; ten more before them are not.

    Raises:
        UserError: images are missing or broken, or a model cannot be built.
    """
    missing = {
        name: [run for run in runs if results.find(run) is None] for name, runs in spec.rows.items()
    }
    missing = {name: runs for name, runs in missing.items() if runs}
    verify_images([runs[0] for runs in missing.values()])
    variables = environments(gpus, jobs)[0]
    total = len(missing) * (_WARM_UP + steps)
    with progress_bar(what="timing the rows", total=total, unit="step") as bar:
        return [
            Estimate(name, len(runs), *_timed_apart(runs[0], steps, variables, bar.update))
            for name, runs in missing.items()
        ]


def _timed_apart(
    run: PlannedRun, steps: int, variables: Mapping[str, str], stepped: Callable[[], object]
) -> tuple[int, float, int]:
    """`time_steps` in a process of its own, whose memory is the run's alone."""
    command = [sys.executable, "-m", __name__, run.config, str(steps), *run.options]
    last = ""
    with tempfile.TemporaryFile("w+") as errors:
        with subprocess.Popen(
            command, env=os.environ | variables, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process:
            try:
                for line in process.stdout:
                    last = line.strip() or last
                    if last == _STEP:
                        stepped()
            except BaseException:
                process.kill()
                raise
        errors.seek(0)
        if process.returncode:
            lines = errors.read().splitlines() or ["no message"]
            raise UserError(f"{run.row}: its steps cannot be timed: {lines[-1]}")
    return tuple(json.loads(last))


def time_steps(
    config: str, options: list[str], steps: int, stepped: Callable[[], object]
) -> tuple[int, float, int]:
    """Train for some steps, in this process, and leave nothing behind.

    Args:
        stepped: called after each step.

    Returns:
        Steps of a whole training, seconds per step, peak memory in bytes.
    """
    with tempfile.TemporaryDirectory() as folder:
        cfg = load_config(config, [*options, "OUTPUT_DIR", folder])
        trainer = Trainer(cfg)
        trainer.resume_or_load(resume=False)
        step = trainer._trainer
        step.batches = iter(trainer.loader)
        try:
            with EventStorage(0):
                for _ in range(_WARM_UP):
                    step.run(log=False)
                    stepped()
                _synchronise()
                start = time.perf_counter()
                for _ in range(steps):
                    step.run(log=False)
                    stepped()
                _synchronise()
        finally:
            step.batches = iter(())  # ends the processes that load images
        seconds = (time.perf_counter() - start) / steps
        return trainer.max_iter, seconds, _peak_bytes()


def text(found: Sequence[Estimate], at_a_time: int) -> str:
    """The estimates as a table, with their sum."""
    if not found:
        return "Nothing to time: every row is finished."
    rows = [
        {
            "": one.row,
            "runs": one.runs,
            "steps": one.steps,
            "s/step": f"{one.seconds:.3f}",
            "hours": f"{one.hours:.1f}",
            "peak GiB": f"{one.peak_bytes / 2**30:.1f}",
        }
        for one in found
    ]
    hours = sum(one.hours for one in found)
    together = f", {hours / at_a_time:.1f} with {at_a_time} at a time" if at_a_time > 1 else ""
    return (
        f"{tabulate(rows, headers='keys', tablefmt='github', disable_numparse=True)}\n\n"
        f"Training alone: {hours:.1f} hours one after another{together}."
    )


def _synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _peak_bytes() -> int:
    if torch.cuda.is_available() and torch.cuda.max_memory_reserved():
        return torch.cuda.max_memory_reserved()
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _main(config: str, steps: str, *options: str) -> int:
    """What `_timed_apart` starts: a line per step, and last `time_steps`' result."""

    def stepped() -> None:
        print(_STEP, flush=True)

    return cli.run(
        lambda: print(json.dumps(time_steps(config, list(options), int(steps), stepped)))
    )


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
