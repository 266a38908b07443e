"""Drop-in, both ways: fast-reid's models on our data sets, its data sets through our command."""

import json
import os

import numpy as np
import pytest
import torch
from PIL import Image

from fastreid.evaluation import ReidEvaluator, reid_evaluation
from fastreid.modeling.backbones import build_backbone

from conftest import CONFIGS, train, train_status
from icre.config import load_config
from icre.modeling import build_model
from icre.utils.errors import UserError

RESNET18 = (
    "MODEL.BACKBONE.DEPTH",
    "18x",
    "MODEL.BACKBONE.FEAT_DIM",
    "512",
    "MODEL.BACKBONE.PRETRAIN",
    "False",
    "SOLVER.AMP.ENABLED",
    "False",
)
# one epoch of two steps on SYSU-MM01, without the configs' own schedules
BRIEF = (
    "SOLVER.MAX_EPOCH",
    "1",
    "SOLVER.IMS_PER_BATCH",
    "40",
    "SOLVER.WARMUP_EPOCHS",
    "0.0",
    "SOLVER.DELAY_EPOCHS",
    "0",
    "SOLVER.SCHED",
    "MultiStepLR",
    "TEST.PROTOCOLS",
    "('sysu-all-single', 'sysu-indoor-multi')",
)
# MGN cuts layer4's map into three stripes: 48 rows are the fewest that have as many
TALL = ("INPUT.SIZE_TRAIN", "[48, 16]", "INPUT.SIZE_TEST", "[48, 16]")
MARKET = "Market1501/bagtricks_r50.yml"


def names_of_weights(output) -> set[str]:
    state = torch.load(output / "model_final.pth", weights_only=True, mmap=True)["model"]
    return set(state)


def protocols(output) -> set[tuple[str, str]]:
    records = json.loads((output / "metrics.json").read_text())
    assert all(r["Rank-1"]["mean"] <= r["Rank-20"]["mean"] for r in records)
    return {(r["protocol"], r["draw"]) for r in records}


def scalars(output) -> dict[str, float]:
    lines = [json.loads(line) for line in (output / "scalars.json").read_text().splitlines()]
    return {key: value for line in lines for key, value in line.items()}


SCORED = {("sysu-all-single", "official"), ("sysu-indoor-multi", "official")}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bagtricks", "agw", "sbs"])
def test_stock_models_train_and_are_scored_on_sysu(demo_root, tmp_path, name):
    config = f"SYSU/{name}_r50.yml"
    options = (*RESNET18, *BRIEF, "SOLVER.FREEZE_ITERS", "2")
    train(demo_root, tmp_path, *options, config=config)
    assert protocols(tmp_path) == SCORED
    cfg = load_config(str(CONFIGS / config), [*RESNET18, "MODEL.HEADS.NUM_CLASSES", "10"])
    assert names_of_weights(tmp_path) == set(build_model(cfg, "cpu").state_dict())


@pytest.mark.slow
def test_mgn_trains_and_is_scored_on_sysu(demo_root, tmp_path):
    """Its three branches need bottleneck blocks: ResNet-50."""
    depth = ("MODEL.BACKBONE.DEPTH", "50x", "MODEL.BACKBONE.FEAT_DIM", "2048")
    small_checkpoints = ("SOLVER.OPT", "SGD", "SOLVER.MOMENTUM", "0.0", "SOLVER.NESTEROV", "False")
    options = (*RESNET18, *depth, *TALL, *BRIEF, *small_checkpoints)
    train(demo_root, tmp_path, *options, config="SYSU/mgn_r50.yml")
    assert protocols(tmp_path) == SCORED
    assert {name.split(".")[0] for name in names_of_weights(tmp_path)} >= {"b1", "b2", "b3"}


@pytest.mark.slow
@pytest.mark.parametrize("augment", ["True", "False"])
def test_two_stream_agw_trains_with_and_without_cajs_augmentation(demo_root, tmp_path, augment):
    options = (*RESNET18, *BRIEF, "INPUT.CHANNEL_AUG.ENABLED", augment)
    train(demo_root, tmp_path, *options, config="SYSU/two_stream_agw_r50.yml")
    assert scalars(tmp_path)["loss_wrt"] > 0
    assert protocols(tmp_path) == SCORED


def test_two_stream_agw_has_non_local_blocks():
    path = CONFIGS / "SYSU/two_stream_agw_r50.yml"
    cfg = load_config(str(path), ["MODEL.BACKBONE.PRETRAIN", "False"])
    blocks = [type(m).__name__ for m in build_backbone(cfg).modules()]
    assert blocks.count("Non_local") == 5  # AGW's two in layer2, three in layer3


@pytest.fixture(scope="module")
def market_root(tmp_path_factory):
    """Market1501's layout: 10 training and 3 test identities, two cameras, striped by identity."""
    root = tmp_path_factory.mktemp("market")
    rng = np.random.default_rng(0)
    folders = {
        "bounding_box_train": (range(1, 11), 4),
        "query": (range(11, 14), 1),
        "bounding_box_test": (range(10, 14), 2),
    }
    for folder, (pids, frames) in folders.items():
        (root / "Market-1501-v15.09.15" / folder).mkdir(parents=True)
        for pid in pids:
            for camera in (1, 2):
                for frame in range(frames):
                    pixels = rng.integers(0, 60, (32, 16, 3))
                    pixels[:: pid + 1] += 40 * np.array([pid % 3, pid % 2, pid % 5])
                    name = f"{pid:04d}_c{camera}s1_{frame:06d}_00.jpg"
                    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(
                        root / "Market-1501-v15.09.15" / folder / name
                    )
    return root


@pytest.fixture(scope="module")
def market_run(market_root, tmp_path_factory):
    output = tmp_path_factory.mktemp("market_run")
    train(
        market_root,
        output,
        *RESNET18,
        "SOLVER.MAX_EPOCH",
        "3",
        "SOLVER.WARMUP_EPOCHS",
        "0.0",
        config=MARKET,
    )
    return output


@pytest.mark.slow
def test_market1501_trains_and_is_scored_by_fast_reids_evaluator(market_run):
    found = scalars(market_run)
    assert found["metric"] == (found["Rank-1"] + found["mAP"]) / 2
    assert found["Rank-1"] <= found["Rank-5"] and found["mINP"] <= found["mAP"]
    assert "by ReidEvaluator" in (market_run / "log.txt").read_text()
    losses = [
        json.loads(line)["loss_cls"]
        for line in (market_run / "scalars.json").read_text().splitlines()
        if "loss_cls" in line
    ]
    assert losses[-1] < losses[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "options, more",
    [
        (("TEST.AQE.ENABLED", "True", "TEST.AQE.QE_K", "2"), set()),
        (("TEST.ROC.ENABLED", "True"), {"TPR@FPR=1e-04", "TPR@FPR=1e-03", "TPR@FPR=1e-02"}),
        (("TEST.METRIC", "euclidean"), set()),
    ],
)
def test_fast_reids_test_keys_work_on_its_data_sets(
    market_run, market_root, tmp_path, monkeypatch, options, more
):
    results, metrics = [], []
    evaluate, build_dist = ReidEvaluator.evaluate, reid_evaluation.build_dist
    monkeypatch.setattr(
        reid_evaluation,
        "build_dist",
        lambda q, g, metric, **kwargs: metrics.append(metric) or build_dist(q, g, metric, **kwargs),
    )
    monkeypatch.setattr(
        ReidEvaluator, "evaluate", lambda self: results.append(evaluate(self)) or results[-1]
    )
    common = ("--eval-only", "MODEL.WEIGHTS", str(market_run / "model_final.pth"), *RESNET18)
    train(market_root, tmp_path, *common, config=MARKET)
    train(market_root, tmp_path, *common, *options, config=MARKET)
    plain, found = results
    assert set(found) == set(plain) | more
    assert metrics == ["cosine", "euclidean" if "TEST.METRIC" in options else "cosine"]
    assert "TEST.AQE.ENABLED" not in options or found["mAP"] != plain["mAP"]
    assert all(0 <= value <= 100 for value in found.values())


@pytest.mark.parametrize(
    "options, key",
    [
        (["TEST.AQE.ENABLED", "True"], "TEST.AQE.ENABLED True is for fast-reid's evaluator"),
        (["TEST.ROC.ENABLED", "True"], "TEST.ROC.ENABLED True is for fast-reid's evaluator"),
        (["TEST.METRIC", "euclidean"], "TEST.METRIC euclidean is for fast-reid's evaluator"),
        (
            ["TEST.METRIC", "jaccard"],
            "TEST.METRIC: unknown value 'jaccard'; known: cosine, euclidean",
        ),
    ],
)
def test_they_are_refused_by_name_where_the_protocols_score(options, key):
    with pytest.raises(UserError, match=key):
        load_config(str(CONFIGS / "SYSU/bagtricks_r50.yml"), options)


def test_a_cross_modality_batch_cannot_be_drawn_from_one_modality(market_root, tmp_path, capsys):
    status = train_status(
        market_root,
        tmp_path,
        *RESNET18,
        "DATALOADER.SAMPLER_TRAIN",
        "CrossModalitySampler",
        config=MARKET,
    )
    said = capsys.readouterr().err
    assert status == 2 and "DATALOADER.SAMPLER_TRAIN CrossModalitySampler" in said


SIZES = {"RegDB": [288, 144]}
MODELS = {"icre", "baseline", "two_stream_agw", "bagtricks", "agw", "sbs", "mgn"}


@pytest.mark.parametrize(
    "folder, name", [("SYSU", "SYSUMM01"), ("RegDB", "RegDB"), ("LLCM", "LLCM")]
)
def test_every_data_set_has_every_model_on_the_same_images_and_batches(folder, name):
    found = {
        path.stem.removesuffix("_r50"): load_config(str(path))
        for path in (CONFIGS / folder).glob("*_r50.yml")
    }
    assert set(found) >= MODELS
    for model in MODELS:
        cfg = found[model]
        assert cfg.INPUT.SIZE_TRAIN == cfg.INPUT.SIZE_TEST == SIZES.get(folder, [384, 144])
        assert tuple(cfg.DATASETS.NAMES) == tuple(cfg.DATASETS.TESTS) == (name,)
        assert cfg.DATALOADER.SAMPLER_TRAIN == "CrossModalitySampler"
        assert cfg.SOLVER.IMS_PER_BATCH == 64
        assert os.path.join("output", folder.lower(), f"{model}_r50") == cfg.OUTPUT_DIR
    two_stream = [found[m] for m in ("icre", "baseline", "two_stream_agw")]
    assert len({cfg.SOLVER.dump() + cfg.INPUT.dump() for cfg in two_stream}) == 1
