"""`benchmark rerank`: what it writes, and that it refuses to time wrong numbers."""

import json

import numpy as np
import pytest
from PIL import Image

from icre.benchmark import rerank
from icre.benchmark.measure import peak_memory
from icre.benchmark.rerank import clustered
from icre.commands.benchmark import main

SMALL = ["rerank", "--sizes", "200", "100", "--dimensions", "16", "--repeat", "1"]


@pytest.mark.slow
def test_result_holds_both_sides_until_theirs_end(tmp_path, capsys):
    out, plot = tmp_path / "b.json", tmp_path / "growth.png"
    words = [*SMALL, "--theirs-up-to", "150", "--json", str(out), "--plot", str(plot)]
    assert main(words) == 0
    result = json.loads(out.read_text())
    small, large = result["sizes"]
    assert (small["images"], small["queries"], large["images"]) == (100, 4, 200)
    assert [job["job"] for job in small["jobs"]] == [
        "fastreid",
        "fastreid, half are queries",
        "fastreid after the search",
        "original",
    ]
    for job in small["jobs"]:
        assert job["ratio"] == pytest.approx(job["theirs"] / job["ours"])
        assert job["differ"] <= 1e-3
    assert [job["theirs"] for job in large["jobs"]] == [None] * 3
    assert {"cpu", "cores", "date", "threads", "seed"} <= set(result)
    text = capsys.readouterr().out
    assert f"{small['jobs'][0]['ratio']:.1f}" in text and "fastreid after the search" in text
    with Image.open(plot) as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(10**6)}
        assert {(31, 111, 235), (207, 34, 46)} <= colours


@pytest.mark.slow
def test_sides_that_disagree_are_not_timed(monkeypatch):
    theirs = rerank.fastreid_jaccard
    monkeypatch.setattr(rerank, "fastreid_jaccard", lambda *given: theirs(*given) + 0.001)
    with pytest.raises(RuntimeError, match=r"fastreid: 1\.00e"):
        main(SMALL)


@pytest.mark.parametrize(
    "words, message",
    [(["rerank", "--sizes", "20"], "--sizes 20"), ([*SMALL, "--repeat", "0"], "--repeat 0")],
)
def test_odd_arguments_are_one_line(capsys, words, message):
    assert main(words) == 2
    assert message in capsys.readouterr().err


def test_peak_memory_sees_what_is_freed_again():
    def work():
        return float(np.ones(25_000_000).sum())  # 200 MB

    result, peak = peak_memory(work)
    assert result == 25_000_000
    if peak is None:
        pytest.skip("the kernel does not report it")
    assert 190e6 < peak["rise"] < 300e6 and peak["process"] > peak["rise"]


def test_clusters_have_the_ratio_that_they_state():
    features = clustered(40_000, 32, images=4000, ratio=0.5, seed=1)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)
    # ten identities: cosines fall into two heaps; inside one their mean is 1 / (1 + ratio^2)
    cosines = features[:200] @ features[200:2000].T
    inside = cosines[cosines > 0.62]
    assert inside.mean() == pytest.approx(1 / (1 + 0.5**2), abs=0.02)
    assert 0.08 < len(inside) / cosines.size < 0.13
    np.testing.assert_array_equal(features, clustered(40_000, 32, 4000, 0.5, seed=1))
