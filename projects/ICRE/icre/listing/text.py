"""Lists as text: columns for a terminal, Markdown for docs/config-keys.md."""

from collections.abc import Sequence
from itertools import groupby

from icre.listing.entry import Entry
from icre.listing.keys import KeyEntry, section

TITLE = """# All config keys

*Generated from where the keys are defined, by `python docs/config_keys.py`; a test fails when this
page is out of date. `icre list keys [PREFIX]` prints the same, with `--import MODULE` for keys of
your own.*

A config file nests keys by their dots; a command line takes `KEY VALUE` pairs. The source is who
defines a key, and the paper that its default or method is from; a default without a paper is our
reading ([method card](../projects/ICRE/README.md)). Symbols of the card stand in brackets.
"""


def columns(rows: Sequence[Entry]) -> str:
    """A line each: name, origin, meaning."""
    names, origins = (max(len(getattr(row, field)) for row in rows) for field in ("name", "origin"))
    lines = (f"{row.name:<{names}}  {row.origin:<{origins}}  {row.meaning}" for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def key_blocks(rows: Sequence[KeyEntry]) -> str:
    """Two or three lines each: name and default; allowed values, unit and source; meaning."""
    blocks = []
    for row in rows:
        unit = f" [{row.unit}]" if row.unit else ""
        lines = [f"{row.name}  {row.default!r}{unit}", row.meaning, f"{row.allowed}; {row.source}"]
        blocks.append("\n    ".join(line for line in lines if line))
    return "\n".join(blocks)


def key_page(rows: Sequence[KeyEntry]) -> str:
    """The reference: a table for each section."""
    parts = [TITLE]
    for name, group in groupby(rows, key=lambda row: section(row.name)):
        parts.append(f"## {name or 'Top level'}\n")
        parts.append(
            "| key | default | allowed | meaning | unit | source |\n|---|---|---|---|---|---|"
        )
        for row in group:
            cells = (row.allowed, row.meaning, row.unit, row.source)
            texts = " | ".join(map(_escaped, cells))
            parts.append(f"| `{row.name}` | `{row.default!r}` | {texts} |")
        parts.append("")
    return "\n".join(parts)


def _escaped(text: str) -> str:
    for sign in "\\|*_<":
        text = text.replace(sign, f"\\{sign}")
    return text
