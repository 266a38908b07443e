"""The command behind tools/report.py."""

import argparse
from pathlib import Path

from icre.commands import arguments
from icre.utils import cli
from icre.utils.files import check_output


def parser() -> argparse.ArgumentParser:
    """Command line."""
    result = argparse.ArgumentParser(
        description="Write one HTML file that shows and compares runs; it needs no network and no "
        "other file. What a run lacks is left out, with a line that says so."
    )
    result.add_argument(
        "runs", nargs="+", metavar="RUN_DIR", help="run folders; each is compared with the first"
    )
    result.add_argument("--names", nargs="+", metavar="NAME", help="of the runs, for the page")
    result.add_argument(
        "--out",
        type=Path,
        metavar="FILE.html",
        help="default: report.html in the first run's folder",
    )
    result.add_argument(
        "--protocol",
        metavar="NAME",
        help="default: the data set's first; an unknown name prints the list",
    )
    result.add_argument(
        "--draw",
        choices=("official", "seeded"),
        help="gallery sampling; default: official where the data set has rand_perm_cam.mat",
    )
    result.add_argument("--root", metavar="DIR", help="DATASETS.ROOT, if it is not the runs'")
    result.add_argument(
        "--without",
        nargs="+",
        default=[],
        metavar="SECTION",
        help="leave out: results, settings, data, curves, rankings, breakdown, distances, "
        "embedding, attention, cost",
    )
    result.add_argument("--seed", type=int, default=0, help="of the choice of people (0)")
    arguments.add_trust(result)
    arguments.add_device(result)
    return result


def main(argv: list[str] | None = None) -> int:
    """Parse and write; returns the exit status."""
    args = parser().parse_args(argv)
    return cli.run(lambda: run(args))


def run(args: argparse.Namespace) -> None:
    """Write the report."""
    from icre.inference.run import open_runs
    from icre.report.inputs import Options
    from icre.report.write import check_report, write_report

    out = args.out or Path(args.runs[0]) / "report.html"
    check_report(out, args.without)
    check_output(out)
    runs = open_runs(args.runs, args.names, args.device, args.root)
    write_report(runs, out, Options(args.protocol, args.draw, args.seed), args.without)
    cli.show(f"written: {out} ({out.stat().st_size / 1e6:.1f} MB)")
