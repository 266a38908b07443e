"""The paired bootstrap: hand-worked values, coverage, refusal of other data, the tool."""

import json
from dataclasses import replace

import numpy as np
import pytest

from icre.benchmark.protocol import stand_in_permutation
from icre.commands import compare as command
from icre.evaluation.compare import METRICS, Bootstrap, compare, interval
from icre.evaluation.comparison import report, verdict
from icre.evaluation.features import FeatureSet
from icre.evaluation.score import score
from icre.utils.errors import UserError
from small_features import from_paths, small_features

FEW = Bootstrap(samples=200)


def noisy(data: FeatureSet, scale: float, seed: int = 5) -> FeatureSet:
    noise = np.random.default_rng(seed).normal(size=data.features.shape)
    return replace(data, features=data.features + scale * noise)


def test_means_are_those_of_score_in_any_row_order():
    first = small_features("sysu")
    second = noisy(first, 1.0).take(np.random.default_rng(0).permutation(len(first)))
    permutation = stand_in_permutation(first.ordered())
    for name, draw in (("sysu-all-single", "seeded"), ("sysu-all-multi", "official")):
        result = compare(first, second, name, draw, permutation, FEW)
        for side, data in (("first", first), ("second", second)):
            (record,) = score(data, [name], draw, permutation)
            for figure in METRICS:
                assert result["all"][figure][side] == pytest.approx(record[figure]["mean"])
        cell = result["all"]["mAP"]
        assert cell["difference"] == pytest.approx(cell["second"] - cell["first"])
        assert cell["low"] < cell["difference"] < cell["high"]


def test_sampled_queries_give_the_means_of_score_too():
    first = small_features("llcm")
    second = noisy(first, 1.0)
    result = compare(first, second, "llcm-v2n-swapped", bootstrap=FEW)
    (record,) = score(second, ["llcm-v2n-swapped"])
    assert result["all"]["mINP"]["second"] == pytest.approx(record["mINP"]["mean"])


def test_draws_without_a_query_leave_the_interval_as_it_is():
    """Of two identities one has queries in each trial alone: a draw of one of them has no mean."""
    difference = np.array([[1.0, 0.0, 3.0], [2.0, 5.0, 0.0]])
    valid = np.array([[True, False, True], [True, True, False]])
    low, high = interval(difference, valid, np.array([[0, 1, 2]] * 2), Bootstrap(samples=500))
    assert 1 <= low <= high <= 5
    alone = np.array([[True, False], [False, True]])
    low, high = interval(difference[:, :2], alone, np.array([[0, 1]] * 2), Bootstrap(20, seed=1))
    assert np.isfinite([low, high]).all()
    cell = {"low": float("nan"), "high": float("nan")}
    assert verdict(cell).startswith("not known")


def test_equal_features_differ_by_nothing():
    data = small_features("regdb")
    result = compare(data, data, bootstrap=FEW)
    for row in [result["all"], *result["cameras"]]:
        assert all(
            row[name]["difference"] == row[name]["low"] == row[name]["high"] == 0
            for name in METRICS
        )
    assert report(result).count("not shown: the interval holds 0") == len(METRICS)


def test_a_ruined_model_is_really_worse():
    data = small_features("sysu", identities=20)
    result = compare(data, noisy(data, 30.0), bootstrap=FEW)
    assert all(result["all"][name]["high"] < 0 for name in METRICS)


def test_camera_pairs_are_those_that_can_match():
    data = small_features("sysu").ordered()
    perm = stand_in_permutation(data)
    result = compare(data, noisy(data, 1.0), "sysu-indoor-single", "official", perm, FEW)
    pairs = [(row["query"], row["gallery"]) for row in result["cameras"]]
    # Cameras 3 and 2 share a place.
    assert pairs == [(3, 1), (6, 1), (6, 2)]
    alone = data.take(np.isin(data.camids, (1, 6)))
    two = {key: places for key, places in perm.items() if key[1] in (1, 6)}
    (record,) = score(alone, ["sysu-indoor-single"], "official", two)
    assert result["cameras"][1]["mAP"]["first"] == pytest.approx(record["mAP"]["mean"])
    assert result["cameras"][1]["queries"] == record["valid_queries"]


def test_interval_weighs_identities_by_their_queries():
    # Two identities in one trial: differences 0, 0, 0 and 8. Samples: both 2, the first 0, the
    # second 8, with chances 1/2, 1/4, 1/4.
    difference = np.array([[0.0, 0.0, 0.0, 8.0, np.nan]])
    valid = np.array([[True, True, True, True, False]])
    identities = np.array([[0, 0, 0, 1, 2]])
    assert interval(difference, valid, identities, Bootstrap(level=95)) == (0, 8)
    assert interval(difference, valid, identities, Bootstrap(level=20)) == (2, 2)


def test_interval_covers_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(3)
    identities = np.repeat(np.arange(40), 5)[None]
    valid = np.ones_like(identities, dtype=bool)
    covered = 0
    for seed in range(200):
        # The identities' own effect makes queries of one identity alike.
        effect = generator.normal(size=40)[identities] + generator.normal(size=identities.shape)
        low, high = interval(1.0 + effect, valid, identities, Bootstrap(300, seed))
        covered += low <= 1.0 <= high
    assert 0.88 <= covered / 200 <= 0.99


def test_draws_widen_the_interval():
    identities = np.tile(np.arange(30), (10, 1))
    valid = np.ones_like(identities, dtype=bool)
    same = np.tile(np.linspace(-1, 1, 30), (10, 1))
    apart = same + np.linspace(-3, 3, 10)[:, None]
    narrow = interval(same, valid, identities, Bootstrap())
    wide = interval(apart, valid, identities, Bootstrap())
    assert wide[1] - wide[0] > 2 * (narrow[1] - narrow[0])


def test_other_data_is_refused():
    data = small_features("sysu")
    with pytest.raises(UserError, match=r"cam1/.* \(1 differ\)"):
        compare(data, data.take(slice(1, None)))
    data = small_features("regdb")  # whose pids are not the numbers of folders
    other = replace(data, pids=data.pids + 1)
    with pytest.raises(UserError, match=f"pids of {data.ordered().paths[0]}"):
        compare(data, other)
    data = small_features("sysu")
    with pytest.raises(UserError, match="1"):
        compare(data, data, bootstrap=Bootstrap(samples=0))
    unmatched = from_paths(["cam3/0001/1.jpg", "cam2/0001/1.jpg"])
    with pytest.raises(UserError, match="sysu-all-single"):
        compare(unmatched, unmatched)


def test_tool_prints_both_tables_and_writes_the_result(tmp_path, capsys):
    data = small_features("llcm")
    data.save(tmp_path / "a.npz")
    noisy(data, 1.0).save(tmp_path / "b.npz")
    files = [str(tmp_path / "a.npz"), str(tmp_path / "b.npz")]
    assert command.main([*files, "--samples", "50", "--json", str(tmp_path / "c.json")]) == 0
    out = capsys.readouterr().out
    assert "llcm-v2n, draw seeded, 10 trials" in out and "By camera pair:" in out
    assert json.loads((tmp_path / "c.json").read_text())["samples"] == 50
    assert command.main([*files, "--draw", "official"]) == 2
    assert "llcm-v2n" in capsys.readouterr().err
