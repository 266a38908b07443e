"""One page that compares runs: the command behind tools/report.py."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from tqdm import tqdm

import icre
from icre.datasets.protocol import OFFICIAL, PROTOCOLS, SEEDED
from icre.report import cost, failures, page, pictures, tables
from icre.report.runs import Options, Run, open_runs
from icre.utils import cli
from icre.utils.errors import UserError
from icre.utils.files import replaced

# key -> heading, (runs, options) -> HTML; in the order of the page
SECTIONS: dict[str, tuple[str, Callable[[Sequence[Run], Options], str]]] = {
    "results": ("Results", tables.results),
    "settings": ("Settings", tables.settings),
    "data": ("Data set", tables.data),
    "curves": ("Curves", pictures.curves),
    "rankings": ("Ranked lists", pictures.rankings),
    "breakdown": ("Cameras and identities", failures.failures),
    "distances": ("Distances", pictures.distances),
    "embedding": ("Embedding", pictures.embedding),
    "attention": ("Attention", pictures.attention),
    "cost": ("Size and speed", cost.cost),
}


def parser() -> argparse.ArgumentParser:
    """Command line."""
    result = argparse.ArgumentParser(
        description="Write one HTML file that shows and compares runs; it needs no network and no "
        "other file. What a run lacks is left out, and said."
    )
    result.add_argument(
        "runs",
        nargs="+",
        metavar="RUN_DIR",
        help="folders of runs; each is compared with the first",
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
        help=f"default: the data set's first; one of {', '.join(PROTOCOLS)}",
    )
    result.add_argument(
        "--draw",
        choices=(OFFICIAL, SEEDED),
        help="default: official where the data set has rand_perm_cam.mat",
    )
    result.add_argument("--root", metavar="DIR", help="DATASETS.ROOT, where it is not the runs'")
    result.add_argument(
        "--without",
        nargs="+",
        default=[],
        metavar="SECTION",
        help=f"leave out: {', '.join(SECTIONS)}",
    )
    result.add_argument("--seed", type=int, default=0, help="of the choice of people (0)")
    result.add_argument("--device", default="auto", help="auto, cpu or cuda:N")
    return result


def main(argv: list[str] | None = None) -> int:
    """Parse and write; returns the exit status, and bad input ends in one line."""
    args = parser().parse_args(argv)
    return cli.run(lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    unknown = set(args.without) - set(SECTIONS)
    if unknown:
        raise UserError(f"--without {min(unknown)}: the sections are {', '.join(SECTIONS)}")
    out = args.out or Path(args.runs[0]) / "report.html"
    if out.suffix not in (".html", ".htm"):
        raise UserError(f"--out {out}: a report is HTML, name the file .html")
    runs = open_runs(args.runs, args.names, args.device, args.root)
    keys = [key for key in SECTIONS if key not in args.without]
    text = write_report(runs, Options(args.protocol, args.draw, args.seed), keys)
    with replaced(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"written: {out} ({out.stat().st_size / 1e6:.1f} MB)")


def write_report(runs: Sequence[Run], options: Options, keys: Sequence[str]) -> str:
    """The page.

    Args:
        runs: the others are compared with the first.
        options: see `Options`.
        keys: of SECTIONS; a section that cannot be made holds a line that says why.
    """
    sections = []
    for key in tqdm(keys, "report", disable=None):
        title, make = SECTIONS[key]
        try:
            content = make(runs, options)
        except UserError as error:
            content = page.note(str(error))
        sections.append((key, title, content))
    names = ", ".join(run.name for run in runs)
    intro = page.text(
        f"Written by icre {icre.__version__}. Where a part cannot be shown, it says why."
    )
    return page.page(f"Report: {names}", intro, sections)
