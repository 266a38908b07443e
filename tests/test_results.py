"""Published records are of shipped specs; published tables are what the records give."""

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
        assert (tmp_path / file).read_text() == (RESULTS / name / file).read_text(), file


@pytest.mark.parametrize("name", TABLES)
def test_the_docs_show_the_table(name):
    shown = "".join(page.read_text() for page in (RESULTS / "README.md", ROOT / "docs/speed.md"))
    rows = [
        line
        for line in (RESULTS / name / "table.md").read_text().splitlines()
        if line.startswith("|")
    ]
    assert rows and all(row in shown for row in rows)
