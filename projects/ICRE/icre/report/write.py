"""The report: one HTML page that shows and compares runs."""

from collections.abc import Callable, Sequence
from pathlib import Path

import icre
from icre.inference.run import Run
from icre.report import cost, failures, pictures, tables
from icre.report.inputs import Options
from icre.report.page import Block, Note, Section, page
from icre.utils.errors import UserError
from icre.utils.files import replaced
from icre.utils.progress import progress_bar

# key -> (heading, runs and options -> blocks), in the order of the page
SECTIONS: dict[str, tuple[str, Callable[[Sequence[Run], Options], list[Block]]]] = {
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


def check_report(out: Path, without: Sequence[str]) -> None:
    """Raise UserError if `out` is no HTML file or a key of `without` is no section."""
    unknown = sorted(set(without) - set(SECTIONS))
    if unknown:
        raise UserError(f"--without {unknown[0]}: the sections are {', '.join(SECTIONS)}")
    if out.suffix not in (".html", ".htm"):
        raise UserError(f"--out {out}: a report is HTML, name the file .html")


def write_report(
    runs: Sequence[Run], out: Path, options: Options, without: Sequence[str] = ()
) -> None:
    """Write the page.

    A section that cannot be made holds a line that says why.

    Args:
        runs: each is compared with the first.
        out: of the page.
        options: see `Options`.
        without: keys of SECTIONS to leave out.

    Raises:
        UserError: as `check_report`.
    """
    check_report(out, without)
    sections = []
    for key in progress_bar([key for key in SECTIONS if key not in without], "report"):
        title, make = SECTIONS[key]
        try:
            blocks = make(runs, options)
        except UserError as error:
            blocks = [Note(str(error))]
        sections.append(Section(key, title, blocks))
    names = ", ".join(run.name for run in runs)
    intro = f"Written by icre {icre.__version__}. Where a part cannot be shown, it says why."
    with replaced(out) as temporary:
        text = page(f"Report: {names}", intro, sections)
        # names of folders need not be UTF-8
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape")
