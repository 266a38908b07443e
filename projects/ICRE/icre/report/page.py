"""Pieces of the report's page."""

from collections.abc import Sequence
from html import escape

from matplotlib.figure import Figure

from icre.plots.style import figure_bytes
from icre.utils.webpage import document, picture

PIXELS = 140  # of the page, per inch of a figure
CHART_DPI, PHOTO_DPI = 180, 140

_STYLE = """
:root { color-scheme: light; --text: #1d2329; --soft: #5b6570; --line: #dde1e6; --link: #0072b2; }
html { scroll-behavior: smooth; }
body { margin: 0; background: #f6f7f9; color: var(--text); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 20px; }
h1 { font-size: 25px; margin: 0; } h2 { font-size: 19px; margin: 0 0 10px; }
h3 { font-size: 15px; margin: 22px 0 6px; }
p { margin: 0 0 10px; color: var(--soft); max-width: 80ch; } a { color: var(--link); }
nav { margin: 14px 0 18px; display: flex; flex-wrap: wrap; gap: 6px; }
nav a { background: #fff; border: 1px solid var(--line); border-radius: 14px; padding: 3px 12px;
  text-decoration: none; font-size: 14px; }
section { background: #fff; border: 1px solid var(--line); border-radius: 10px; padding: 18px 20px;
  margin-bottom: 18px; overflow-x: auto; }
table { border-collapse: collapse; font-size: 13.5px; font-variant-numeric: tabular-nums;
  margin: 0 0 12px; }
caption { text-align: left; color: var(--soft); padding-bottom: 4px; }
th, td { padding: 4px 12px 4px 0; border-bottom: 1px solid var(--line); text-align: right;
  vertical-align: top; white-space: nowrap; }
th { color: var(--soft); font-weight: 600; border-bottom-color: #9aa4ae; }
th.text, td.text { text-align: left; } td.long { white-space: normal; overflow-wrap: anywhere;
  max-width: 330px; }
tr.group td { border-top: 1px solid #9aa4ae; }
img { max-width: 100%; height: auto; display: block; margin: 0 0 8px; }
.note { border-left: 3px solid #d55e00; padding-left: 10px; color: var(--text); }
details { margin-bottom: 10px; } summary { cursor: pointer; color: var(--link); }
@media print { nav { display: none; } section { break-inside: avoid-page; border: 0; } }
"""


def page(title: str, intro: str, sections: Sequence[tuple[str, str, str]]) -> str:
    """The whole page.

    Args:
        title: plain text.
        intro: HTML below it.
        sections: (key, plain heading, HTML) each.
    """
    links = "".join(f'<a href="#{key}">{escape(head)}</a>' for key, head, _ in sections)
    body = "\n".join(
        f'<section id="{key}"><h2>{escape(head)}</h2>\n{content}</section>'
        for key, head, content in sections
    )
    main = f"<main><h1>{escape(title)}</h1>\n{intro}\n<nav>{links}</nav>\n{body}\n</main>"
    return document(title, _STYLE, main)


def table(
    heads: Sequence[str],
    rows: Sequence[Sequence[object]],
    text: int = 1,
    caption: str = "",
    long: bool = False,
) -> str:
    """A table; a row whose first cell is not that of the row above begins a group.

    Args:
        heads: plain text.
        rows: cells, shown as plain text.
        text: so many columns from the left are words, the others numbers; -1: all.
        caption: plain text above.
        long: words may break into lines.
    """
    words = len(heads) if text < 0 else text
    styles = ["text long" if long else "text"] * words + [""] * (len(heads) - words)
    head = "".join(f'<th class="{style}">{escape(one)}</th>' for style, one in zip(styles, heads))
    lines = []
    for number, row in enumerate(rows):
        repeated = number and words > 1 and row[0] == rows[number - 1][0]
        group = ' class="group"' if number and words > 1 and not repeated else ""
        cells = ["" if repeated else row[0], *row[1:]]
        line = "".join(
            f'<td class="{style}">{escape(str(one))}</td>' for style, one in zip(styles, cells)
        )
        lines.append(f"<tr{group}>{line}</tr>")
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def chart(figure: Figure, alt: str) -> str:
    """A drawing, sharp on dense screens too."""
    return _image(figure, alt, ".png", "png", CHART_DPI)


def photos(figure: Figure, alt: str) -> str:
    """A figure that is made of photographs."""
    return _image(figure, alt, ".jpg", "jpeg", PHOTO_DPI)


def _image(figure: Figure, alt: str, suffix: str, kind: str, dpi: int) -> str:
    width = round(figure.get_size_inches()[0] * PIXELS)
    return picture(figure_bytes(figure, suffix, dpi), kind, alt, width)


def text(words: str) -> str:
    """A paragraph of plain text."""
    return f"<p>{escape(words)}</p>"


def heading(words: str) -> str:
    """A heading inside a section, plain text."""
    return f"<h3>{escape(words)}</h3>"


def note(words: str) -> str:
    """A line that says what is not shown, and why."""
    return f'<p class="note">Not shown: {escape(words)}</p>'


def details(summary: str, content: str) -> str:
    """HTML that is shown on a click."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"
