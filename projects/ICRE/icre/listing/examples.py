"""The example files that come with the package: a loss, a backbone and more of one's own."""

import ast
import json
from pathlib import Path

import icre
from icre.listing.entry import Entry

# In a checkout a link to projects/ICRE/examples, in an installed package a folder.
EXAMPLES = Path(icre.__file__).parent / "examples"


def example_entries() -> list[Entry]:
    """Python files and notebooks by name; the origin is where each is, to be copied."""
    files = sorted(EXAMPLES.glob("*.py")) + sorted(EXAMPLES.glob("*.ipynb"))
    return [Entry(file.name, str(file), _meaning(file)) for file in files]


def _meaning(file: Path) -> str:
    """The first line of a docstring, or a notebook's title."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".ipynb":
        return "".join(json.loads(text)["cells"][0]["source"]).partition("\n")[0].strip("# ")
    return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0].rstrip(".:")
