"""Shared style of all figures: colours, widths, and files without a date.

Colours: Okabe and Ito, Color Universal Design (jfly.uni-koeln.de/color), which people with any
common colour deficiency can distinguish; where a colour carries the message, a mark repeats it.
"""

import functools
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from matplotlib.text import Text

from icre.utils.errors import UserError, printable
from icre.utils.files import replaced

COLUMN, PAGE = 3.3, 6.9  # inches: a column of the usual two-column paper, and both columns
BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, BLACK, GRAY = "#E69F00", "#56B4E9", "#000000", "#999999"
# In the order of use; gray in place of their yellow, which is hard to see on white paper.
COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK, GRAY)
LINES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

# Arguments of `savefig` by format. Without date and version, equal data give equal bytes.
_FORMATS = {
    ".png": {"metadata": {"Software": None}},
    ".jpg": {"pil_kwargs": {"quality": 85}},
    ".pdf": {"metadata": {"CreationDate": None, "Producer": None, "Creator": None}},
    ".svg": {"metadata": {"Date": None, "Creator": None}},
}
_RC = {
    "font.size": 7,
    "axes.titlesize": 7,
    "axes.labelsize": 7,
    "legend.fontsize": 6.5,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.1,
    "lines.markersize": 3,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2,
    "ytick.major.size": 2,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.5,
    "text.parse_math": False,  # a $ in a name is a $
    "svg.hashsalt": "icre",
    "pdf.fonttype": 42,
    "svg.fonttype": "path",
}


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Decorator: draw with this style, without changing matplotlib's global settings."""

    @functools.wraps(draw)
    def inner(*args: object, **kwargs: object) -> Figure:
        with matplotlib.rc_context({**matplotlib.rcParamsDefault, **_RC}):
            return draw(*args, **kwargs)

    return inner


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches, with constrained layout and without pyplot."""
    return Figure(figsize=(width, height), layout="constrained", dpi=150)


def check_format(path: str | Path) -> Path:
    """`path`; a UserError if its suffix is no known format. For a check before long work."""
    path = Path(path)
    if path.suffix.lower() not in _FORMATS:
        formats = ", ".join(_FORMATS)
        raise UserError(f"--out {path}: the suffix decides the format, one of {formats}")
    return path


def figure_bytes(figure: Figure, suffix: str, dpi: int = 300) -> bytes:
    """A figure as the content of a file; equal figures give equal bytes.

    Args:
        figure: of any function in this package.
        suffix: one that `check_format` accepts, in lower case.
        dpi: of a PNG or JPEG, and of the images inside a PDF or SVG.
    """
    buffer = io.BytesIO()
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **_RC}):
        for text in figure.findobj(Text):
            lines = text.get_text().split("\n")
            text.set_text("\n".join(map(printable, lines)))
        figure.savefig(buffer, dpi=dpi, format=suffix[1:], **_FORMATS[suffix])
    return buffer.getvalue()


def save_figure(figure: Figure, path: str | Path, dpi: int = 300) -> None:
    """Write PNG, JPEG, PDF or SVG by the suffix, atomically; arguments as of `figure_bytes`.

    Raises:
        UserError: another suffix.
    """
    content = figure_bytes(figure, check_format(path).suffix.lower(), dpi)
    with replaced(path) as temporary:
        temporary.write_bytes(content)


def legend_label(name: str) -> str:
    """A name for `label=`; matplotlib leaves out of legends what begins with an underscore."""
    return f" {name}" if name.startswith("_") else name


def check_count(names: Sequence[str]) -> None:
    """Raise UserError if there are more models than distinct colours."""
    if len(names) > len(COLOURS):
        raise UserError(
            f"{len(names)} models: a figure has {len(COLOURS)} distinct colours, name fewer"
        )
