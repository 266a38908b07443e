"""Open set: thresholds keep the false alarm rate that they state; scores against a loop oracle."""

import json
from dataclasses import replace

import numpy as np
import pytest

from icre.commands import score as score_command
from icre.evaluation import openset
from icre.evaluation.openset import Scores, open_set, threshold_at, trial_scores
from icre.evaluation.score import score
from icre.evaluation.trials import build_trials
from icre.gallery.calibration import Calibration
from icre.utils.errors import UserError
from small_features import small_features


def test_threshold_by_hand():
    scores = np.array([0.9, 0.1, 0.5, 0.7, 0.3, 0.2, 0.4, 0.6, 0.8])
    assert threshold_at(scores, 0.1) == 0.9  # k = 1: nobody of the nine passes
    assert threshold_at(scores, 0.2) == 0.8  # k = 2: one of the nine
    assert threshold_at(scores, 0.29) == 0.8
    assert threshold_at(scores, 0.09) is None  # nine trials cannot state so little
    assert threshold_at(np.array([]), 0.5) is None
    assert threshold_at(np.full(99, 0.5), 0.01) == 0.5  # 0.01 * 100 is 1, whatever floats say


@pytest.mark.parametrize("far", [0, 1, -0.1, 1.5, float("nan")])
def test_a_far_is_a_share(far):
    with pytest.raises(UserError, match="--far"):
        threshold_at(np.ones(5), far)


@pytest.mark.parametrize(("trials", "far"), [(20, 0.1), (99, 0.01), (150, 0.05), (400, 0.01)])
def test_the_stated_rate_is_met_by_searches_to_come(trials, far):
    """Over 3,000 calibrations by searches of a gallery of 50, as many to come each."""
    generator = np.random.default_rng(0)

    def searches(shape: tuple[int, int]) -> np.ndarray:
        # the best of 50 comparisons: the 50th root of a uniform number, mapped to similarities
        return 2 * generator.random(shape) ** (1 / 50) - 1

    thresholds = np.array([threshold_at(row, far) for row in searches((3000, trials))])
    passed = searches((3000, 200)) > thresholds[:, None]
    expected = np.floor(round(far * (trials + 1), 9)) / (trials + 1)
    assert expected <= far
    assert passed.mean() == pytest.approx(expected, rel=0.1)


def test_searches_of_a_larger_gallery_need_a_higher_threshold():
    """Why --far counts searches: one rate per comparison, many images, many false alarms."""
    generator = np.random.default_rng(0)
    pairs = generator.normal(0, 0.1, size=(2000, 300))
    per_pair, per_search = threshold_at(pairs.ravel(), 0.01), threshold_at(pairs.max(1), 0.01)
    fresh = generator.normal(0, 0.1, size=(2000, 300)).max(1)
    assert (fresh > per_pair).mean() > 0.9
    assert (fresh > per_search).mean() < 0.02


def loop_scores(similarity, same, allowed):
    """What `trial_scores` returns, with loops: two (genuine, impostor), and beaten."""
    genuine, impostor, own_best, other_best, beaten = [], [], [], [], []
    for query in range(len(similarity)):
        own, others = [], []
        for column, value in enumerate(similarity[query]):
            if allowed[query, column]:
                (own if same[query, column] else others).append(value)
        genuine += own
        impostor += others
        other_best += [max(others)] if others else []
        if own:
            own_best.append(max(own))
            beaten.append(bool(others) and max(others) >= max(own))
    return (genuine, impostor), (own_best, other_best), beaten


@pytest.mark.parametrize("seed", range(5))
def test_scores_against_loops(seed):
    generator = np.random.default_rng(seed)
    similarity = generator.normal(size=(12, 9)).round(1)
    same, allowed = generator.random((12, 9)) < 0.2, generator.random((12, 9)) < 0.6
    pairs, searches = trial_scores(similarity, same, allowed)
    comparison, search, beaten = loop_scores(similarity, same, allowed)
    for scores, (genuine, impostor) in ((pairs, comparison), (searches, search)):
        assert sorted(scores.genuine) == sorted(genuine)
        assert sorted(scores.impostor) == sorted(impostor)
    assert searches.beaten.tolist() == beaten and True in beaten and False in beaten


def test_tar_counts_right_and_accepted_searches_by_hand():
    scores = Scores(
        np.array([0.91, 0.8, 0.3, 0.7]),
        np.array([0.5]),
        beaten=np.array([False, True, False, False]),
    )
    assert scores.tar(0.5) == 0.5  # the second is beaten, the third too low
    assert replace(scores, beaten=None).tar(0.5) == 0.75
    assert scores.tar(0.91) == 0 and scores.tar(None) is None
    assert scores.histogram()["genuine"][-5] == 1  # [0.9, 0.92)


@pytest.mark.parametrize("layout", ["sysu", "regdb", "llcm"])
def test_settings_and_counts_are_those_of_the_scores(layout):
    data = small_features(layout)
    results, found = score(data), open_set(data, fars=(0.05, 0.5))
    _, chosen = build_trials(data)
    assert len(found) == len(results) == len(chosen)
    for one, record, setting in zip(found, results, chosen):
        search = one["search"]
        assert search["trials"]["genuine"] == record["valid_queries"]
        assert sum(search["genuine"]) == record["trials"] * record["valid_queries"]
        assert (search["at"][0]["TAR"]["std"] is None) == (record["draw"] is None)
        # accepted and first is less than first
        rank_1 = record["Rank-1"]["mean"]
        assert search["at"][0]["TAR"]["mean"] <= search["at"][1]["TAR"]["mean"] <= rank_1 + 1e-9


def test_perfect_features_are_always_told_apart():
    data = small_features("sysu", dimensions=32)
    corners = np.eye(32, dtype=np.float32)[data.pids]
    found = open_set(replace(data, features=corners), ["sysu-all-single"], fars=(0.1,))[0]
    assert found["search"]["at"] == [
        {"far": 0.1, "threshold": 0.0, "TAR": {"mean": 100.0, "std": 0.0}}
    ]


def test_the_tool_adds_it_to_plain_records_only(tmp_path, capsys):
    small_features("regdb").save(tmp_path / "f.npz")
    out = tmp_path / "m.json"
    arguments = [str(tmp_path / "f.npz"), "--json", str(out), "--open-set"]
    assert score_command.main([*arguments, "--rerank", "fastreid", "--k1", "4"]) == 0
    assert "Open set, in percent (threshold):" in capsys.readouterr().out
    results = json.loads(out.read_text())
    assert len(results) == 4
    assert all(("open_set" in one) == (one["rerank"] is None) for one in results)
    part = results[0]["open_set"]["search"]
    assert [at["far"] for at in part["at"]] == list(openset.FARS)
    assert len(part["bins"]) == len(part["genuine"]) + 1


def test_a_calibration_refuses_a_rate_it_cannot_state():
    few = Calibration([0.1, 0.4, 0.2], [0.9], [False], 2, "somebody", True)
    assert few.threshold(0.25) == 0.4 and few.tar(0.4) == 1.0
    with pytest.raises(UserError, match=r"3 searches.* 0\.25"):
        few.threshold(0.01)
    assert Calibration.from_dict(json.loads(json.dumps(few.as_dict()))) == few
