"""Train many variants and tabulate them: tools/ablate.py and configs/ablations/."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from icre.commands import arguments
from icre.utils import cli
from icre.utils.errors import RunEnded, UserError

if TYPE_CHECKING:  # imported where they are used, for a quick --help
    from icre.experiments.ablation.results import Results
    from icre.experiments.ablation.spec import PlannedRun, Spec

RECORDS = Path("output/ablations/records")


def parser() -> argparse.ArgumentParser:
    """A spec, and what is run or tabulated of it."""
    result = argparse.ArgumentParser(
        description="Run a list of variants times seeds, and write one table of means, deviations "
        "and paired differences. Run it again to continue after a stop."
    )
    result.add_argument("spec", metavar="SPEC.yml", type=Path)
    result.add_argument("--out", type=Path, metavar="DIR", help="default: output/ablations/SPEC")
    result.add_argument(
        "--records",
        type=Path,
        metavar="DIR",
        default=RECORDS,
        help=f"results of finished runs, for all specs (default: {RECORDS})",
    )
    result.add_argument("--config", metavar="FILE", help="instead of the spec's config")
    result.add_argument("--seeds", type=int, nargs="+", help="instead of the spec's")
    result.add_argument("--reference", metavar="ROW", help="instead of the spec's")
    where = result.add_mutually_exclusive_group()
    where.add_argument("--gpus", nargs="+", metavar="N", help="one run at a time on each of these")
    where.add_argument(
        "--jobs",
        type=int,
        default=1,
        help="runs at a time without --gpus, each with its share of the cores; with --cluster: on "
        "each machine, where there are no GPUs (1)",
    )
    arguments.add_cluster(result, "train")
    result.add_argument("--table", action="store_true", help="only tabulate what is finished")
    result.add_argument(
        "--estimate",
        type=int,
        metavar="STEPS",
        help="only time so many steps of every row that is not finished, and print the hours and "
        "the memory that the whole will need",
    )
    result.add_argument(
        "--options", nargs="+", default=[], metavar="KEY VALUE", help="overrides for every run"
    )
    return result


def main(argv: list[str] | None = None) -> int:
    """Parse and run; returns the exit status, 1 if a run failed."""
    args = parser().parse_args(argv)
    return cli.run(lambda: run(args))


def run(args: argparse.Namespace) -> int:
    """Train and tabulate; SIGTERM ends the trainings too, and each leaves a checkpoint."""
    from icre.engine.stop import StopSignal

    try:
        with StopSignal() as stop, stop.immediate():
            return _train_and_tabulate(args)
    except RunEnded as error:
        raise RunEnded("left on SIGTERM; the same command goes on", error.status) from None


def _train_and_tabulate(args: argparse.Namespace) -> int:
    from icre.experiments.ablation.results import Results
    from icre.experiments.ablation.runs import job_of
    from icre.experiments.ablation.spec import read_spec
    from icre.experiments.ablation.table import markdown, summarise, write

    for name in ("jobs", "estimate"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise UserError(f"--{name} {getattr(args, name)}: at least 1 is needed")
    for name in ("gpus", "estimate"):
        if args.cluster and getattr(args, name):
            raise UserError(f"--{name} is for this machine: leave it out, or --cluster")
    out = args.out or Path("output/ablations") / args.spec.stem
    spec = read_spec(args.spec, out, args.options, args.seeds, args.config, args.reference)
    results = Results(spec, args.records)
    for planned in spec.runs:
        if not results.find(planned):
            results.collect(planned)
    if args.estimate:
        from icre.experiments.ablation.estimate import estimate, text

        found = estimate(spec, results, args.estimate, args.gpus, args.jobs)
        cli.show(text(found, len(args.gpus) if args.gpus else args.jobs))
        return 0
    failed = [] if args.table else _train(args, spec, results, out)
    entries = summarise(spec, results)
    written = write(spec, entries, out)
    cli.show(markdown(spec, entries))
    print("written:", ", ".join(map(str, written)))
    for planned in failed:
        cli.show(f"failed: {planned.row}, seed {planned.seed}: see {job_of(planned).console}")
    return 1 if failed else 0


def _train(
    args: argparse.Namespace, spec: "Spec", results: "Results", out: Path
) -> list["PlannedRun"]:
    """Train what is missing, here or on the cluster; returns the runs that failed."""
    from icre.experiments.ablation.runs import missing_runs, train_missing
    from icre.experiments.jobs import LocalRunner

    missing = missing_runs(spec, results)
    if not (args.cluster and missing):
        return train_missing(spec, results, LocalRunner(args.gpus, args.jobs))
    from icre.cluster.connect import connected, one_device
    from icre.experiments.ray_jobs import RayRunner

    device = one_device(run.cfg.MODEL.DEVICE for run in missing)
    with connected(args.cluster, out, device) as cluster:
        return train_missing(spec, results, RayRunner(cluster, args.jobs))
