"""Train the runs of a spec that have no record yet."""

from collections.abc import Sequence

from icre.data.loader import verify_datasets
from icre.experiments.ablation.results import Results
from icre.experiments.ablation.spec import PlannedRun, Spec
from icre.experiments.jobs import Job, Runner, run_jobs


def job_of(run: PlannedRun) -> Job:
    """The training of a run; it goes on where an earlier one ended."""
    return Job(
        f"{run.row}, seed {run.seed}",
        ("--config-file", run.config, "--resume", *run.options),
        run.files,
        run.cfg.SOLVER.MAX_EPOCH,
    )


def missing_runs(spec: Spec, results: Results) -> list[PlannedRun]:
    """The runs without a record."""
    return [run for run in spec.runs if results.find(run) is None]


def train_missing(spec: Spec, results: Results, runner: Runner) -> list[PlannedRun]:
    """Train what has no record yet, resuming unfinished runs; a progress bar counts epochs.

    Args:
        spec: its runs are started in order.
        results: takes each run's result as soon as it has finished.
        runner: where they are trained.

    Returns:
        The runs that failed; the others continue.

    Raises:
        UserError: images of the data sets are missing or broken (before anything is trained).
    """
    waiting = {job_of(run): run for run in missing_runs(spec, results)}
    verify_images(list(waiting.values()))
    total = sum(run.cfg.SOLVER.MAX_EPOCH for run in spec.runs)
    failed = set()
    done = total - sum(job.epochs for job in waiting)
    for job, status in run_jobs(runner, list(waiting), "ablation", done):
        if status == 0:
            results.collect(waiting[job])
        if status or not results.find(waiting[job]):
            failed.add(job)
    return [run for job, run in waiting.items() if job in failed]


def verify_images(runs: Sequence[PlannedRun]) -> None:
    """Decode the images of each data set once."""
    verified = []
    for run in runs:
        names = (run.cfg.DATASETS.ROOT, run.cfg.DATASETS.NAMES, run.cfg.DATASETS.TESTS)
        if names not in verified:
            verify_datasets(run.cfg, train=True)
            verified.append(names)
