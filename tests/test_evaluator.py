"""The evaluation hook in front of `score`, and the ranking picture behind it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from icre.datasets.sysu import SYSUMM01
from icre.evaluation.evaluator import ProtocolEvaluator
from icre.evaluation.ranking_lists import ranking_lists
from icre.evaluation.records import table
from icre.evaluation.score import score
from icre.modality import INFRARED


def batches(data, features, size):
    """What the loop hands to an evaluator: dicts as the loader makes them, and features."""
    items = data.query + data.gallery
    for start in range(0, len(items), size):
        part = items[start : start + size]
        inputs = {
            "targets": torch.tensor([pid for _, pid, _ in part]),
            "camids": torch.tensor([camid for _, _, camid in part]),
            "modalities": torch.tensor([data.modality_of(path) for path, _, _ in part]),
            "img_paths": [path for path, _, _ in part],
        }
        yield inputs, features[start : start + size]


def evaluated(data, features, size=7, **options) -> ProtocolEvaluator:
    evaluator = ProtocolEvaluator(data.folder, permutation_file=data.permutation_file, **options)
    for inputs, outputs in batches(data, features, size):
        evaluator.process(inputs, outputs)
    evaluator.results = evaluator.evaluate()
    return evaluator


@pytest.fixture(scope="module")
def data(demo_root):
    return SYSUMM01(str(demo_root))


@pytest.fixture(scope="module")
def features(data):
    generator = torch.Generator().manual_seed(0)
    pids = torch.tensor([pid for _, pid, _ in data.query + data.gallery])
    centres = torch.randn(int(pids.max()) + 1, 16, generator=generator)
    return centres[pids] + 1.2 * torch.randn(len(pids), 16, generator=generator)


def test_records_are_those_of_score_whatever_the_batches(data, features):
    small, large = evaluated(data, features, 3), evaluated(data, features, 50)
    assert small.records == large.records == score(small.features, perm=data.permutation_file)


def test_results_suit_fastreids_event_storage(data, features):
    evaluator = evaluated(data, features, epoch=4, seed=1)
    assert all(isinstance(value, float) for value in evaluator.results.values())
    first = evaluator.records[0]
    assert first["epoch"] == 4 and first["seed"] == 1
    expected = (first["Rank-1"]["mean"] + first["mAP"]["mean"]) / 2
    assert evaluator.results["metric"] == pytest.approx(expected)
    assert evaluator.results["sysu-all-single/official/mAP"] == first["mAP"]["mean"]


def test_without_the_permutation_file_only_seeded_draws_are_scored(data, features):
    evaluator = ProtocolEvaluator(data.folder, permutation_file=Path("nowhere.mat"))
    for inputs, outputs in batches(data, features, 20):
        evaluator.process(inputs, outputs)
    evaluator.evaluate()
    assert [(r["protocol"], r["draw"]) for r in evaluator.records] == [
        ("sysu-all-single", "seeded"),
        ("sysu-indoor-single", "seeded"),
    ]


def test_a_chosen_protocol_is_the_only_one(data, features):
    evaluator = evaluated(data, features, protocols=("sysu-indoor-multi",))
    assert [r["protocol"] for r in evaluator.records] == ["sysu-indoor-multi"]


def several(features):
    return {"after": features, "before": features.flip(1) ** 3, "both": features + 1}


@pytest.mark.parametrize("chosen", ["after", "both"])
def test_every_feature_is_scored_as_if_it_were_alone(data, features, chosen):
    named = several(features)
    evaluator = ProtocolEvaluator(
        data.folder, permutation_file=data.permutation_file, feature=chosen, score_others=True
    )
    for rows in torch.arange(len(features)).split(20):
        (batch,) = batches(data, features, len(features))
        part = {
            k: [v[i] for i in rows] if isinstance(v, list) else v[rows] for k, v in batch[0].items()
        }
        evaluator.process(part, {name: x[rows] for name, x in named.items()})
    results = evaluator.evaluate()
    alone = {name: evaluated(data, x).records for name, x in named.items()}
    order = [chosen, *(name for name in named if name != chosen)]
    expected = [{**one, "feature": name} for name in order for one in alone[name]]
    assert evaluator.records == expected
    assert np.array_equal(
        evaluator.features.features, evaluated(data, named[chosen]).features.features
    )
    assert results["sysu-all-single/official/mAP"] == alone[chosen][0]["mAP"]["mean"]
    assert results["sysu-all-single/official/before/mAP"] == alone["before"][0]["mAP"]["mean"]
    printed = table(evaluator.records)
    assert all(f"| {name} " in printed for name in named)


def test_other_features_are_not_scored_unless_asked_for(data, features):
    evaluator = ProtocolEvaluator(data.folder, feature="after")
    for inputs, _ in batches(data, features, len(features)):
        evaluator.process(inputs, several(features))
    evaluator.evaluate()
    assert {one["feature"] for one in evaluator.records} == {"after"}


def test_the_table_says_which_feature_and_flip_only_where_it_is_known(data, features):
    assert "test feature" not in table(evaluated(data, features).records)
    flipped = evaluated(data, features, flip=True).records
    assert "test feature" in table(flipped) and "| flip " in table(flipped)


def test_reset_forgets(data, features):
    evaluator = evaluated(data, features)
    evaluator.reset()
    assert evaluator.features is None and evaluator.records == []


def test_ranking_lists_are_sorted_and_obey_the_camera_rule(data, features):
    ordered = evaluated(data, features).features.ordered()
    lists = ranking_lists(
        ordered, "sysu-all-single", "official", data.permutation_file, queries=100, top=5
    )
    unit = ordered.features / np.linalg.norm(ordered.features, axis=1, keepdims=True)
    assert len(lists) == 24
    for one in lists:
        similarity = unit[one.found] @ unit[one.query]
        assert (np.diff(similarity) <= 1e-6).all()
        assert ordered.modalities[one.query] == INFRARED
        assert (one.right == (ordered.pids[one.found] == ordered.pids[one.query])).all()
        if ordered.camids[one.query] == 3:
            assert 2 not in ordered.camids[one.found]


def test_first_places_agree_with_the_scored_rank_1(data, features):
    evaluator = evaluated(data, features)
    lists = ranking_lists(
        evaluator.features.ordered(),
        "sysu-all-multi",
        "official",
        data.permutation_file,
        queries=1000,
        top=1,
    )
    # three images per camera: every multi-shot draw is all of them
    rank_1 = evaluator.records[1]["Rank-1"]["mean"]
    assert 100 * np.mean([one.right[0] for one in lists]) == pytest.approx(rank_1)
