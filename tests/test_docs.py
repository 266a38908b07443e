"""README and docs: their commands parse, their Python compiles, the site builds."""

import argparse
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from icre.commands import COMMANDS
from icre.commands.completion import whole_parser

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "docs/results/README.md",
    *sorted((ROOT / "projects").glob("*/README.md")),
    ROOT / "configs/ablations/README.md",
]
TOOLS = {
    re.search(r"icre\.commands\.(\w+)", path.read_text())[1]: path.name
    for path in (ROOT / "tools").glob("*.py")
}
NAMES = {TOOLS[module]: name for name, (module, _) in COMMANDS.items() if module in TOOLS}


def blocks(page: Path) -> list[tuple[str, str]]:
    """(language, content) of the code blocks of a page."""
    return re.findall(r"^```([\w-]*)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[list[str]]:
    """The words behind `icre` of each command in the blocks, and in lines of tables."""
    found = []
    for language, text in blocks(page):
        if language not in ("", "bash", "sh"):
            continue
        for line in text.replace("\\\n", " ").splitlines():
            try:
                words = shlex.split(line, comments=True)
            except ValueError:
                continue  # a line of a file or of an answer, which holds a quote
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words = words[1:]
            if words[:1] == ["icre"]:
                found.append(words[1:])
            elif words[:1] == ["python"] and words[1:] and words[1].startswith("tools/"):
                found.append([NAMES[Path(words[1]).name], *words[2:]])
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_parse(page, capsys):
    parser = whole_parser()
    for words in commands(page):
        try:
            parser.parse_args(words)
        except SystemExit as end:
            assert end.code == 0, f"icre {' '.join(words)}: {capsys.readouterr().err}"


def test_commands_are_found_and_wrong_ones_are_refused():
    count = sum(len(commands(page)) for page in PAGES)
    assert count > 60, count
    assert isinstance(whole_parser(), argparse.ArgumentParser)
    for wrong in (["searching"], ["search", "query", "g", "a.jpg", "--modallity", "x"]):
        with pytest.raises(SystemExit):
            whole_parser().parse_args(wrong)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_compiles(page):
    for language, text in blocks(page):
        if language == "python":
            compile(text, str(page), "exec")


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_numbers_of_the_readme_are_those_of_the_table():
    table = (ROOT / "docs/results/baselines/table.md").read_text()
    shown = {}
    for text in ((ROOT / "README.md").read_text(), table):
        for line in text.splitlines():
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            numbers = [cell for cell in cells if re.fullmatch(r"\d+\.\d+ ± \d+\.\d+", cell)]
            if numbers:
                shown.setdefault(cells[0], []).append(numbers[:2])
    rows = [numbers for numbers in shown.values() if len(numbers) == 2]
    assert len(rows) == 4 and all(readme == record for readme, record in rows)


@pytest.mark.slow
def test_the_site_builds_without_warnings(tmp_path):
    pytest.importorskip("sphinx")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-E", "-b", "html"]
    done = subprocess.run(
        [*command, str(ROOT / "docs"), str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    pages = {path.name for path in tmp_path.glob("*.html")}
    assert {"index.html", "search.html", "method.html", "api.html"} <= pages
    assert "IdentityBatchSampler" in (tmp_path / "api.html").read_text()
