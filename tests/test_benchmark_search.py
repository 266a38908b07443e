"""`benchmark search`: vectors with the stated variances, recall by hand, files written."""

import json

import numpy as np
import pytest

from icre.benchmark import search
from icre.commands.benchmark import main


def variances(vectors: np.ndarray, groups: np.ndarray) -> tuple[float, float]:
    """Mean squared distance within the groups, and of the groups' means from theirs."""
    means = np.stack([vectors[groups == one].mean(0) for one in np.unique(groups)])
    within = ((vectors - means[groups]) ** 2).sum(1).mean()
    return within, ((means - means.mean(0)) ** 2).sum(1).mean()


def test_vectors_have_the_stated_ratio():
    gallery, queries = search.clustered(6000, 300, 512, seed=0)
    np.testing.assert_allclose(np.linalg.norm(gallery, axis=1), 1, atol=1e-5)
    within, between = variances(gallery, np.arange(6000) // search.PER_IDENTITY)
    # unit length and twenty images per mean shift it a little
    assert within / between == pytest.approx(0.30 / 0.70, rel=0.15)
    values = np.linalg.eigvalsh(np.cov(gallery.T))
    assert 40 < values.sum() ** 2 / (values**2).sum() < 80
    owners = (queries @ gallery.T).argmax(1) // search.PER_IDENTITY
    assert len(np.unique(owners)) > 100
    again, _ = search.clustered(6000, 300, 512, seed=0)
    assert (again == gallery).all()


def test_recall_by_hand():
    truth = np.array([[1, 2, 3], [4, 5, 6]])
    found = np.array([[1, 3, 9], [5, 4, -1]])
    assert search.recall(found, truth, 1) == 0.5
    assert search.recall(found, truth, 2) == 0.75
    assert search.recall(found, truth, 3) == pytest.approx(4 / 6)


def test_the_command_writes_result_and_plot(tmp_path, capsys):
    arguments = ["search", "--size", "3000", "--queries", "50", "--dimensions", "32"]
    files = ["--json", str(tmp_path / "b.json"), "--plot", str(tmp_path / "b.png")]
    assert main([*arguments, "--kinds", "ivf", "hnsw", *files]) == 0
    assert "x exact" in capsys.readouterr().out
    result = json.loads((tmp_path / "b.json").read_text())
    assert {"cpu", "faiss", "shares", "seed"} <= set(result) and result["sizes"] == [3000]
    of_kind = {
        kind: [one for one in result["rows"] if one["index"] == kind]
        for kind in ("flat", "ivf", "hnsw")
    }
    assert of_kind["flat"][0]["recall@1"] == 1
    assert of_kind["hnsw"][-1]["recall@1"] > 0.95
    assert all(sum(one["default"] for one in rows) == 1 for rows in of_kind.values())
    assert (tmp_path / "b.png").read_bytes().startswith(b"\x89PNG")
    for wrong, message in (
        (["--size", "5"], "--size"),
        (["--size", "100", "--kinds", "ivfpq"], "ivfpq needs 256"),
    ):
        assert main(["search", *wrong]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.slow
def test_a_living_gallery_is_measured_row_by_row(tmp_path, capsys):
    words = "living --size 600 --dimensions 32 --added 100 --removed 40 --queries 5 --kinds"
    out = tmp_path / "b.json"
    folder = tmp_path / "below"
    folder.mkdir()
    files = ["--json", str(out), "--folder", str(folder)]
    assert main([*words.split(), "flat", "ivf", *files]) == 0
    told = capsys.readouterr().out
    rows = json.loads(out.read_text())["rows"]
    assert list(folder.iterdir()) == []
    assert [line[0] for line in told.splitlines()].count("[") == len(rows)  # each as it came
    assert told.count("remove 40") == 8  # and again in the table
    for kind in ("flat", "ivf"):
        of_kind = [row for row in rows if row["index"] == kind]
        searched = [row["passing"] for row in of_kind if "recall@10" in row]
        assert searched[:1] + searched[3:5] == [600, 700, 660]
        removed = [row["images"] for row in of_kind if row["step"].startswith("remove")]
        assert removed[0] == 40 and 30 <= removed[1] <= 40
        assert all(row["recall@10"] == 1 for row in rows if "recall@10" in row and kind == "flat")
    assert main([*words.split(), "flat", "--removed", "5"]) == 2
    assert "--removed must be at least" in capsys.readouterr().err


@pytest.mark.slow
def test_places_of_galleries_are_measured_side_by_side(tmp_path, capsys):
    pytest.importorskip("milvus_lite")
    out = tmp_path / "b.json"
    words = "stores --size 300 --dimensions 32 --added 40 --queries 5 --json"
    assert main([*words.split(), str(out)]) == 0
    told, rows = capsys.readouterr().out, json.loads(out.read_text())["rows"]
    places = ("folder, flat", "folder, hnsw", "milvus-lite, hnsw")
    steps = [[row["step"] for row in rows if row["place"] == place] for place in places]
    assert steps[0] == steps[1] == steps[2] and len(steps[0]) == 10
    assert all(told.count(f"{place}  add") == 1 for place in places)
    narrow = [row["recall@1"] for row in rows if row["step"] == "narrow filter, in a batch"]
    assert narrow == [1, 1, 1]
    assert all(row["seconds"] > 0 for row in rows)
    assert main(["stores", "--size", "10", "--json", str(out)]) == 2
    assert "--size and --added must be at least" in capsys.readouterr().err
