"""The example notebook runs from its first cell to its last, in an empty folder."""

from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[1] / "projects/ICRE/examples/tour.ipynb"


@pytest.mark.slow
def test_the_tour_runs(tmp_path, monkeypatch):
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / ".ipython"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells)  # committed without any
    place = {"metadata": {"path": str(tmp_path)}}
    client.NotebookClient(notebook, timeout=600, resources=place).execute()
    last = notebook.cells[-2]["outputs"][0]["data"]["text/plain"]
    assert "loss_my_norm" in last and "total_loss" in last
    assert (tmp_path / "answers.html").stat().st_size > 10_000
    assert (tmp_path / "output/mine/metrics.json").is_file()
