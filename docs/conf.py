"""The documentation's site: `make docs` builds it into docs/_build."""

import os
import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT / "projects" / name) for name in ("ICRE", "SynthVI")]

import icre  # noqa: E402

project, author, version = "ICRE", "The ICRE project contributors", icre.__version__
project_copyright = author
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["_build", "results/*/*.md"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = f"ICRE {version}"
autodoc_typehints = "description"
autodoc_member_order = "bysource"
suppress_warnings = ["myst.header"]  # pages that are included begin with a title of their own

# Page of the repository -> page of the site that includes it.
PAGES = {
    "README.md": "index.md",
    "projects/ICRE/README.md": "method.md",
    "projects/SynthVI/README.md": "synthvi.md",
    "configs/ablations/README.md": "ablations.md",
    "CONTRIBUTING.md": "developing.md",
    "CHANGELOG.md": "changes.md",
}
LINK = re.compile(r"(!?)\[([^][]*)\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)")


def links_on_the_site(text: str, source: Path, page: Path) -> str:
    """Relative links of a Markdown file, as they are on the page of the site that shows it.

    Links to what the site does not hold, such as code, become their text.
    """

    def link(match: re.Match[str]) -> str:
        mark, shown, name, anchor = match.groups(default="")
        target = (source.parent / name).resolve()
        if not target.exists():
            return match[0]  # for Sphinx to complain of
        inside = PAGES.get(str(target.relative_to(ROOT)))
        target = HERE / inside if inside else target
        if mark or (target.suffix == ".md" and target.is_relative_to(HERE)):
            return f"{mark}[{shown}]({os.path.relpath(target, page.parent)}{anchor})"
        return shown

    return LINK.sub(link, text)


def setup(app):
    """Rewrite links where Sphinx reads a page, and where a page includes a file."""

    def read(app, name, source):
        page = HERE / f"{name}.md"
        source[0] = links_on_the_site(source[0], page, page)

    def include(app, path, name, source):
        source[0] = links_on_the_site(source[0], (HERE / path).resolve(), HERE / f"{name}.md")

    app.connect("source-read", read)
    app.connect("include-read", include)
