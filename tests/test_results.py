"""Published records are of shipped specs; published tables are what the records give."""

import re
from pathlib import Path

import pytest

from icre.commands import ablate
from icre.experiments.ablation.results import Results
from icre.experiments.ablation.spec import read_spec

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs/results"
RECORDS = RESULTS / "records"
TABLES = sorted(path.parent.name for path in RESULTS.glob("*/table.md"))


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    """Specs name configs from there."""
    monkeypatch.chdir(ROOT)


@pytest.mark.slow
def test_every_record_is_of_a_shipped_spec():
    published = {path.name for path in RECORDS.iterdir()}
    assert published
    found = set()
    for file in sorted((ROOT / "configs/ablations").glob("*.yml")):
        spec = read_spec(file, Path("output"))
        results = Results(spec, RECORDS)
        for run in spec.runs:
            result = results.find(run)
            if result:
                assert result.record["seed"] == run.seed
                assert result.record["identities"] == len(result.identities)
                found.add(results.path(run).name)
    assert found == published


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
def test_a_published_table_is_made_of_its_records(name, tmp_path):
    spec, where = f"configs/ablations/{name}.yml", ["--records", str(RECORDS)]
    assert ablate.main([spec, *where, "--out", str(tmp_path), "--table"]) == 0
    for file in ("table.md", "table.csv"):
        made, published = tmp_path / file, RESULTS / name / file
        assert without_speed(made) == without_speed(published), file


def without_speed(table: Path) -> str | list[list[str]]:
    """The text; of a table with images/s, measured when it is made, the cells of other columns."""
    text = table.read_text()
    if "| images/s" not in text:
        return text
    # columns are as wide as their longest cell
    rows = [
        [re.sub("^-+$", "-", cell.strip()) for cell in line.split("|")]
        for line in text.splitlines()
    ]
    header = next(row for row in rows if len(row) > 1)
    place = header.index("images/s")
    return [row[:place] + row[place + 1 :] if len(row) == len(header) else row for row in rows]


@pytest.mark.parametrize("name", TABLES)
def test_the_docs_show_the_table(name):
    pages = (RESULTS / "README.md", ROOT / "docs/speed.md", ROOT / "docs/methods.md")
    shown = "".join(page.read_text() for page in pages)
    rows = [
        line
        for line in (RESULTS / name / "table.md").read_text().splitlines()
        if line.startswith("|")
    ]
    assert rows and all(row in shown for row in rows)
