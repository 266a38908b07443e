"""Re-ranking in the protocols, the config, the tools and fast-reid's own evaluator."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fastreid.evaluation import ReidEvaluator
from fastreid.evaluation.rank import evaluate_rank

from conftest import words
from icre.commands import score as score_command
from icre.config import load_config
from icre.evaluation import records
from icre.evaluation.evaluator import ProtocolEvaluator
from icre.evaluation.rerank import rerank, reranker
from icre.evaluation.rerank_options import Reranking, reranking
from icre.evaluation.score import score
from icre.experiments.regdb_splits import over_splits
from icre.utils.errors import UserError
from reference.loop_protocol import trial_rows
from reference.rank_oracle import loop_evaluate
from small_features import small_features

CHOICE = Reranking("original", 7, 3, 0.4)
LABEL = {"algorithm": "original", "k1": 7, "k2": 3, "lambda": 0.4}


@pytest.mark.parametrize(
    "layout, name, draw",
    [
        ("sysu", "sysu-all-single", "seeded"),
        ("regdb", "regdb-v2t", None),
        ("llcm", "llcm-n2v", "seeded"),
        ("llcm", "llcm-v2n-swapped", "seeded"),
    ],
)
def test_each_trial_is_reranked_among_its_own_images(layout, name, draw):
    data = small_features(layout, identities=9).ordered()
    plain, labelled = score(data, [name], draw, reranker=reranker(CHOICE))
    assert [plain] == score(data, [name], draw)
    assert labelled["rerank"] == LABEL
    unit = data.features / np.linalg.norm(data.features, axis=1, keepdims=True)
    trials = []
    for trial in range(10 if draw else 1):
        query, gallery = trial_rows(data, name, draw, trial, None)
        distance = rerank(
            unit[query], unit[gallery], algorithm="original", k1=7, k2=3, lambda_value=0.4
        )
        trials.append(
            loop_evaluate(
                -distance,
                data.pids[query],
                data.pids[gallery],
                data.camids[query],
                data.camids[gallery],
                layout,
            )
        )
    for figure in ("Rank-1", "mAP", "mINP"):
        values = [one[figure] for one in trials]
        assert labelled[figure]["mean"] == pytest.approx(np.mean(values)), figure
        assert labelled[figure]["std"] == (pytest.approx(np.std(values)) if draw else None)
    counts = ("queries", "valid_queries", "gallery", "identities", "trials")
    assert [plain[one] for one in counts] == [labelled[one] for one in counts]
    assert plain["mAP"] != labelled["mAP"]


def test_the_tool_keeps_two_tables_and_labelled_records(tmp_path, capsys):
    data = small_features("regdb")
    data.save(tmp_path / "f.npz")
    main = score_command.main
    arguments = [str(tmp_path / "f.npz"), "--rerank", "original", "--k1", "7", "--k2", "3"]
    assert main([*arguments, "--lambda", "0.4", "--json", str(tmp_path / "m.json")]) == 0
    first, second = capsys.readouterr().out.split("\n\n")
    assert first.startswith("Not re-ranked") and "original" not in first
    assert second.startswith("Re-ranked") and second.count("original k1=7 k2=3 lambda=0.4") == 2
    written = json.loads((tmp_path / "m.json").read_text())
    assert written == score(data, reranker=reranker(CHOICE))
    assert [one["rerank"] for one in written] == [None, None, LABEL, LABEL]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--k1", "20"], "--k1"),
        (["--lambda", "0"], "--lambda"),
        (["--rerank", "fastreid", "--lambda", "2"], "lambda is 2.0"),
    ],
)
def test_the_tool_refuses_odd_numbers_before_it_reads(arguments, message, capsys):
    assert score_command.main(["nowhere.npz", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_the_evaluator_names_reranked_figures_and_counts_on_plain_ones():
    data = small_features("regdb").ordered()
    evaluator = ProtocolEvaluator(Path("/root"), reranker=reranker(CHOICE))
    evaluator.process(
        {
            "targets": torch.from_numpy(data.pids),
            "camids": torch.from_numpy(data.camids),
            "modalities": torch.from_numpy(data.modalities),
            "img_paths": [f"/root/{path}" for path in data.paths],
        },
        torch.from_numpy(data.features),
    )
    results = evaluator.evaluate()
    plain, _, labelled, _ = evaluator.records
    assert results["regdb-v2t/mAP"] == plain["mAP"]["mean"]
    assert results["regdb-v2t/rerank/mAP"] == labelled["mAP"]["mean"]
    assert results["metric"] == (plain["Rank-1"]["mean"] + plain["mAP"]["mean"]) / 2


def test_the_config_keys_are_fastreids_and_one_more():
    assert reranking(load_config()) is None
    given = words(
        "TEST.RERANK.ENABLED True TEST.RERANK.K1 9 TEST.RERANK.K2 2 TEST.RERANK.LAMBDA 0.25"
    )
    assert reranking(load_config("", given)) == Reranking("fastreid", 9, 2, 0.25)
    own = [*given, "DATASETS.TESTS", "('SYSUMM01',)", "TEST.RERANK.ALGORITHM"]
    assert reranking(load_config("", [*own, "original"])).algorithm == "original"
    with pytest.raises(UserError, match=r"TEST\.RERANK.*zhong"):
        load_config("", [*own, "zhong"])
    stock = [*given, "DATASETS.TESTS", "('Market1501',)"]
    assert reranking(load_config("", stock)).k1 == 9
    with pytest.raises(UserError, match=r"TEST\.RERANK\.ALGORITHM original"):
        load_config("", [*stock, "TEST.RERANK.ALGORITHM", "original"])


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_fastreids_own_evaluator_reranks(metric):
    cfg = load_config(
        "",
        [
            *words("TEST.RERANK.ENABLED True TEST.RERANK.K1 8 DATASETS.TESTS ('Market1501',)"),
            *("TEST.METRIC", metric),
        ],
    )
    generator = np.random.default_rng(0)
    pids = np.arange(90) % 15
    features = (generator.normal(size=(15, 8))[pids] + generator.normal(size=(90, 8))).astype("f4")
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    camids = np.repeat([0, 1], [30, 60])
    evaluator = ReidEvaluator(cfg, num_query=30)
    given = features if metric == "cosine" else unit
    evaluator.process(
        {"targets": torch.from_numpy(pids), "camids": torch.from_numpy(camids)},
        torch.from_numpy(given),
    )
    found = evaluator.evaluate()
    distance = rerank(unit[:30], unit[30:], k1=8)
    if metric == "euclidean":  # its squared distance of unit vectors is twice the cosine's
        distance += 0.3 * (1 - unit[:30] @ unit[30:].T)
    _, aps, _ = evaluate_rank(distance, pids[:30], pids[30:], camids[:30], camids[30:])
    assert found["mAP"] == pytest.approx(100 * np.mean(aps))
    assert 20 < found["mAP"] < 99


def test_splits_of_different_rerankings_are_not_averaged():
    plain = score(small_features("regdb"))[:1]
    with pytest.raises(UserError, match="re-ranking"):
        over_splits([plain, [{**plain[0], "rerank": LABEL}]])
    both = over_splits(
        [score(small_features("regdb", seed), reranker=reranker(CHOICE)) for seed in (0, 1)]
    )
    assert [one["rerank"] for one in both] == [None, None, LABEL, LABEL]
    assert records.table(both).count("original k1=7") == 2
