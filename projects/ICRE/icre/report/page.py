"""The blocks that a report's sections are made of, and the page that shows them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from matplotlib.figure import Figure

from icre.plots.style import figure_bytes
from icre.utils.html import render

PIXELS = 140  # of the page, per inch of a figure
CHART_DPI, PHOTO_DPI = 180, 140


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    words: str
    kind: ClassVar = "text"


@dataclass(frozen=True)
class Heading:
    """A heading inside a section."""

    words: str
    kind: ClassVar = "heading"


@dataclass(frozen=True)
class Note:
    """What is not shown, and why."""

    words: str
    kind: ClassVar = "note"


@dataclass(frozen=True)
class Table:
    """A table; a row whose first cell differs from that of the row above begins a group.

    Args:
        heads: column titles.
        rows: cells, shown as text.
        text: number of text columns, from the left; the others are numbers.
        caption: line above.
        long: text cells may break into lines.
    """

    heads: Sequence[str]
    rows: Sequence[Sequence[object]]
    text: int = 1
    caption: str = ""
    long: bool = False
    kind: ClassVar = "table"


@dataclass(frozen=True)
class Picture:
    """An image file.

    Args:
        content: of the file.
        format: png or jpeg.
        alt: text in its place.
        width: in CSS pixels.
    """

    content: bytes
    format: str
    alt: str
    width: int
    kind: ClassVar = "picture"


@dataclass(frozen=True)
class Details:
    """Blocks that are shown on a click."""

    summary: str
    blocks: Sequence["Block"]
    kind: ClassVar = "details"


Block = Text | Heading | Note | Table | Picture | Details


@dataclass(frozen=True)
class Section:
    """A part of the page, with an entry in its navigation bar.

    Args:
        key: the HTML id.
        title: the heading.
        blocks: from top to bottom.
    """

    key: str
    title: str
    blocks: Sequence[Block]


def chart(figure: Figure, alt: str) -> Picture:
    """A drawing as PNG, sharp on dense screens too."""
    return _picture(figure, alt, ".png", "png", CHART_DPI)


def photos(figure: Figure, alt: str) -> Picture:
    """A figure of photographs as JPEG."""
    return _picture(figure, alt, ".jpg", "jpeg", PHOTO_DPI)


def _picture(figure: Figure, alt: str, suffix: str, format_name: str, dpi: int) -> Picture:
    width = round(figure.get_size_inches()[0] * PIXELS)
    return Picture(figure_bytes(figure, suffix, dpi), format_name, alt, width)


def page(title: str, intro: str, sections: Sequence[Section]) -> str:
    """The whole page as HTML; every text is escaped."""
    return render("icre.report", "report.html", title=title, intro=intro, sections=sections)
