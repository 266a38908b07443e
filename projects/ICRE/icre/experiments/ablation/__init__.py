"""Many runs, one table: the command behind tools/ablate.py."""

import argparse
from pathlib import Path

from icre.data.loader import verify_datasets
from icre.engine.stop import StopSignal
from icre.experiments.ablation.results import RECORDS, Results
from icre.experiments.ablation.runs import CONSOLE, run_all
from icre.experiments.ablation.spec import Run, Spec, read_spec
from icre.experiments.ablation.table import markdown, summarise, write
from icre.utils import cli
from icre.utils.errors import RunEnded, UserError


def parser() -> argparse.ArgumentParser:
    """Command line."""
    result = argparse.ArgumentParser(
        description="Run a list of variants times seeds, and write one table of means, deviations "
        "and paired differences. Run it again to go on where it was stopped."
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
        help="runs at a time without --gpus, each with its share of the cores (1)",
    )
    result.add_argument("--table", action="store_true", help="only tabulate what is finished")
    result.add_argument(
        "--options", nargs="+", default=[], metavar="KEY VALUE", help="overrides for every run"
    )
    return result


def main(argv: list[str] | None = None) -> int:
    """Parse and run; returns the exit status, 1 where a run failed."""
    args = parser().parse_args(argv)
    return cli.run(lambda: _until_stopped(args))


def _until_stopped(args: argparse.Namespace) -> int:
    """SIGTERM ends the trainings too, and each leaves a checkpoint."""
    try:
        with StopSignal() as stop, stop.immediate():
            return _run(args)
    except RunEnded as error:
        raise RunEnded("left on SIGTERM; the same command goes on", error.status) from None


def _run(args: argparse.Namespace) -> int:
    if args.jobs < 1:
        raise UserError(f"--jobs {args.jobs}: at least 1 is needed")
    out = args.out or Path("output/ablations") / args.spec.stem
    spec = read_spec(args.spec, out, args.options, args.seeds, args.config, args.reference)
    results = Results(spec, args.records)
    for run in spec.runs:
        if not results.find(run):
            results.collect(run)
    failed = [] if args.table else _train(spec, results, args)
    entries = summarise(spec, results)
    written = write(spec, entries, out)
    print(markdown(spec, entries))
    print("written:", ", ".join(map(str, written)))
    for run in failed:
        print(f"failed: {run.row}, seed {run.seed}: see {run.folder / CONSOLE}")
    return 1 if failed else 0


def _train(spec: Spec, results: Results, args: argparse.Namespace) -> list:
    def finished(run: Run) -> bool:
        return results.find(run) is not None

    checked = []
    for run in spec.runs:
        if finished(run):
            continue
        data = (run.cfg.DATASETS.ROOT, run.cfg.DATASETS.NAMES, run.cfg.DATASETS.TESTS)
        if data not in checked:
            verify_datasets(run.cfg, train=True)
            checked.append(data)
    return run_all(spec.runs, finished, results.collect, args.gpus, args.jobs)
