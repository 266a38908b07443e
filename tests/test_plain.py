"""The public names in somebody's own loop or notebook: no config, no run folder, no command."""

import importlib.util
import itertools
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import icre
from icre.commands import score as score_command
from icre.data.sampler import CrossModalitySampler
from icre.evaluation import records
from icre.evaluation.comparison import report
from icre.modeling.losses import build_losses
from icre.utils.errors import UserError
from small_features import small_features
from small_losses import R, V, ids, random_batch
from small_model import small_cfg

COLUMNS = ("pids", "camids", "modalities", "paths")
FEATURES = torch.zeros(4, 8)
PIDS, KINDS = ids(0, 0, 1, 1), ids(V, R, V, R)
# registered name -> the plain loss with what the config has by default, and its name of the margin
CONFIGURED = {
    "HeteroCenterTripletLoss": ("HC_TRIPLET.MARGIN", icre.losses.HeteroCenterTriplet),
    "CenterClusterLoss": ("CENTER_CLUSTER.MARGIN", icre.losses.CenterCluster),
    "WeightedRegularizedTripletLoss": (None, icre.losses.WeightedRegularizedTriplet),
    "ICGLoss": ("ICG.RHO1", icre.losses.PullPush),
}
PLAIN = (
    icre.losses.PullPush,
    icre.losses.Rank,
    icre.losses.SoftRank,
    icre.losses.Guided,
    icre.losses.HeteroCenterTriplet,
    icre.losses.CenterCluster,
)


def arrays(data: icre.FeatureSet) -> dict[str, np.ndarray]:
    return {name: getattr(data, name) for name in COLUMNS}


def said(error: pytest.ExceptionInfo) -> str:
    """A UserError's message, which must be one line."""
    assert error.type is UserError and "\n" not in str(error.value)
    return str(error.value)


def test_public_names_are_listed_and_exist():
    assert set(icre.__all__) <= set(dir(icre))
    assert all(getattr(icre, name) is not None for name in icre.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'scores'"):
        _ = icre.scores


@pytest.mark.slow
def test_importing_and_listing_imports_nothing():
    code = "import sys, icre; dir(icre); print({'torch', 'numpy', 'fastreid'} & {*sys.modules})"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "set()\n"


@pytest.mark.parametrize("package", ["icre", "synthvi"])
def test_types_are_announced(package):
    assert (Path(importlib.util.find_spec(package).origin).parent / "py.typed").is_file()


def test_a_plain_training_loop_learns():
    torch.manual_seed(0)
    labels, kinds = torch.arange(96) // 8, torch.arange(96) % 2
    images = torch.randn(12, 20)[labels] + 2 * torch.randn(2, 20)[kinds] + torch.randn(96, 20)
    model = torch.nn.Sequential(torch.nn.Linear(20, 32), torch.nn.ReLU(), torch.nn.Linear(32, 16))
    batches = icre.IdentityBatchSampler(labels, kinds, batch_size=32, num_instances=4)
    loader = DataLoader(TensorDataset(images, labels, kinds), batch_sampler=batches)
    loss, optimizer = icre.losses.PullPush(margin=1), torch.optim.Adam(model.parameters(), 1e-2)
    values = []
    for _, (x, y, m) in itertools.product(range(30), loader):
        value = loss(model(x), y, m)
        optimizer.zero_grad(), value.backward(), optimizer.step()
        values.append(value.item())
    assert len(values) == 30 * len(batches) == 90
    assert np.mean(values[-9:]) < 0.5 * np.mean(values[:9])


@pytest.mark.parametrize("name", CONFIGURED)
def test_the_config_builds_the_plain_loss(name):
    features, labels, modalities = random_batch(3)
    key, plain = CONFIGURED[name]
    outputs = icre.losses.Outputs(features)
    for options, margins in (((), {}), ((f"MODEL.LOSSES.{key}", 2.5), {"margin": 2.5})):
        if options and key is None:
            continue
        (loss,) = build_losses(small_cfg("MODEL.LOSSES.NAME", (name,), *options))
        terms = loss(outputs, labels, modalities)
        found = plain(**margins)
        torch.testing.assert_close(found(features, labels, modalities), sum(terms.values()))
        assert list(found.terms(features, labels, modalities).values()) == list(terms.values())


@pytest.mark.parametrize("loss", PLAIN)
def test_integers_are_margins_too(loss):
    batch = random_batch(5)
    others = {"unenhanced": random_batch(6)[0]} if loss is icre.losses.Guided else {}
    for one in (1, np.int64(1), np.float32(1)):
        assert loss(margin=one)(*batch, **others) == loss(margin=1.0)(*batch, **others)
    assert "margin=1.0, " in repr(loss(margin=1))


@pytest.mark.parametrize("margin", ["0.7", None, True, float("nan"), torch.tensor(1.0)])
def test_other_margins_are_named(margin):
    with pytest.raises(UserError) as error:
        icre.losses.PullPush(margin=margin)
    assert "PullPush: margin is " in said(error)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ((FEATURES[0], PIDS, KINDS), r"features must be (B, C) of floating point, not (8,)"),
        ((FEATURES.long(), PIDS, KINDS), "not (4, 8) of torch.int64"),
        ((FEATURES, PIDS[:3], KINDS), "labels must be (4,) to go with features (4, 8), not (3,)"),
        ((FEATURES, PIDS, KINDS[:, None]), "modalities must be (4,) to go with features (4, 8)"),
        ((FEATURES, [0, 0, 1, 1], KINDS), "labels must be a torch tensor, not list"),
        ((FEATURES, PIDS.to("meta"), KINDS), "labels are on meta, the features on cpu: move"),
    ],
)
def test_batches_that_do_not_fit_are_named(batch, message):
    with pytest.raises(UserError) as error:
        icre.losses.PullPush()(*batch)
    assert message in said(error)


def test_guided_names_its_other_feature():
    with pytest.raises(UserError) as error:
        icre.losses.Guided()(FEATURES, PIDS, KINDS, unenhanced=FEATURES[:2])
    assert "unenhanced must be (4, 8) to go with features (4, 8), not (2, 8)" in said(error)


@pytest.mark.parametrize("loss", [one for one in PLAIN if one is not icre.losses.Guided])
def test_an_empty_batch_is_0_and_one_modality_has_finite_gradients(loss):
    empty = torch.empty(0, 8, requires_grad=True)
    value = loss()(empty, ids(), ids())
    value.backward()
    assert value == 0 and empty.grad.shape == (0, 8)
    features = torch.randn(4, 8, requires_grad=True)
    loss()(features, PIDS, ids(V, V, V, V)).backward()
    assert features.grad.isfinite().all()


def test_batches_are_the_samplers_and_epochs_go_on():
    pids, modalities = np.repeat(np.arange(6), 6), np.tile([V, V, V, V, R, R], 6)
    options = {"batch_size": 8, "num_instances": 2, "seed": 3}
    batches = icre.IdentityBatchSampler(pids, modalities, **options)
    assert len(batches) == 24 // 4
    stream = iter(CrossModalitySampler(pids.tolist(), modalities.tolist(), 2, 2, seed=3))
    first, second = list(batches), list(batches)
    assert first + second == [list(itertools.islice(stream, 8)) for _ in range(12)]
    resumed = icre.IdentityBatchSampler(torch.tensor(pids), modalities, **options, start_batch=6)
    assert list(resumed) == second
    ranks = [
        icre.IdentityBatchSampler(
            pids, modalities, batch_size=4, num_instances=2, seed=3, rank=rank, world_size=2
        )
        for rank in (0, 1)
    ]
    assert [one + other for one, other in zip(*ranks)] == first


@pytest.mark.parametrize(
    ("pids", "modalities", "options", "message"),
    [
        ("aabb", [0, 1, 0], {}, "there are 4 pids and 3 modalities"),
        ("aabb", [0, 1, 0, 2], {}, "modality of image 3 is 2, not one of 0 visible, 1 infrared"),
        ("aabb", [0, 1, 0, 1], {"batch_size": 6}, "batch_size is 6: it must be a multiple of 2 x"),
        ("aabb", [0, 1, 0, 1], {"batch_size": 12}, "batch_size asks for 3 identities per batch"),
        ("aabb", [0, 1, 0, 1], {"num_instances": 0}, "num_instances is 0: give an integer"),
        ("aabb", [0, 1, 0, 1], {"seed": -1}, "seed is -1: give an integer from 0 on"),
        ("aabb", [0, 1, 0, 1], {"rank": 1}, "rank is 1: with world_size 1 it must be below"),
        (np.zeros((4, 1)), [0, 1, 0, 1], {}, "pids and modalities must be (N,)"),
    ],
)
def test_batches_that_cannot_be_made_are_named(pids, modalities, options, message):
    pids = list(pids) if isinstance(pids, str) else pids
    with pytest.raises(UserError) as error:
        icre.IdentityBatchSampler(
            pids, modalities, **{"batch_size": 8, "num_instances": 2, **options}
        )
    assert message in said(error)


@pytest.mark.parametrize("layout", ["sysu", "regdb", "llcm"])
def test_arrays_files_and_the_command_score_the_same(layout, tmp_path, capsys):
    data = small_features(layout)
    data.save(tmp_path / "features.npz")
    written = tmp_path / "out.json"
    assert score_command.main([str(tmp_path / "features.npz"), "--json", str(written)]) == 0
    expected = json.loads(written.read_text())
    columns = arrays(data)
    scores = icre.score(data.features, **columns)
    assert scores == expected and len(scores) >= 2
    assert icre.score(tmp_path) == icre.score(str(tmp_path / "features.npz")) == expected
    as_tensors = {name: torch.tensor(columns[name]) for name in COLUMNS[:3]}
    tensor = torch.tensor(data.features, requires_grad=True)
    assert icre.score(tensor, **as_tensors, paths=data.paths.tolist()) == expected
    assert capsys.readouterr().out.strip() == str(scores) == records.table(expected)


def test_features_without_paths_are_of_no_data_set():
    data = small_features("regdb")
    columns = {name: getattr(data, name) for name in COLUMNS[:3]}
    scores = icre.score(data.features, **columns)
    assert [one["protocol"] for one in scores] == ["any-i2v", "any-v2i"]
    regdb = icre.score(data, ["regdb-t2v", "regdb-v2t"])  # the same images on either side
    for one, other in zip(scores, regdb):
        assert one["Rank-1"]["mean"] == pytest.approx(other["Rank-1"]["mean"])
    elsewhere = replace(data, paths=[path.replace("/", "-") for path in data.paths])
    assert icre.score(elsewhere, "any-v2i")[0]["mAP"] == pytest.approx(scores[1]["mAP"])


def test_half_precision_features_are_taken():
    data = small_features("any")
    half = torch.tensor(data.features).bfloat16()
    columns = {name: getattr(data, name) for name in COLUMNS[:3]}
    expected = icre.score(half.float().numpy(), **columns)
    assert icre.score(half, **columns) == expected


@pytest.mark.slow
def test_score_re_ranks_by_name():
    data = small_features("any")
    named, chosen = (
        icre.score(data, reranker=one) for one in ("original", icre.Reranking("original"))
    )
    assert named == chosen and named[2]["rerank"]["algorithm"] == "original"
    with pytest.raises(UserError) as error:
        icre.score(data, reranker="k-reciprocal")
    assert "unknown re-ranking 'k-reciprocal'; the names are fastreid, original" in said(error)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"protocols": "sysu-al"}, "unknown protocol 'sysu-al'; the names are sysu-all-single"),
        ({"protocols": "any-i2v"}, "any-i2v is a protocol of any, the paths are those of sysu"),
        (
            {"modalities": None},
            "features are given as ndarray, without modalities: give icre.FeatureSet(",
        ),
        ({"pids": [1, 2]}, "pids has shape (2,), but there are"),
        ({"paths": ["a"]}, "paths has shape (1,), but there are"),
        ({"features": np.zeros(5)}, "features must be (N, D), not (5,)"),
        ({"features": small_features("sysu")}, "pids are given twice: the features' FeatureSet"),
        ({"features": "features.npz"}, "pids are given twice: the features' file has them"),
        ({"features": [["a", "b"]]}, "features must be real numbers"),
    ],
)
def test_what_cannot_be_scored_is_named(change, message):
    data = small_features("sysu")
    with pytest.raises(UserError) as error:
        icre.score(**{"features": data.features, **arrays(data), **change})
    assert message in said(error)


def test_a_comparison_prints_as_the_command_does(tmp_path):
    first = small_features("regdb")
    second = replace(first, features=np.roll(first.features, 1, axis=0))
    first.save(tmp_path / "a.npz"), second.save(tmp_path / "b.npz")
    few = icre.Bootstrap(samples=100)
    of_files = icre.compare(tmp_path / "a.npz", str(tmp_path / "b.npz"), bootstrap=few)
    of_sets = icre.compare(first, second, bootstrap=few)
    assert of_files == of_sets == json.loads(json.dumps(of_sets))
    names = str(tmp_path / "a.npz"), str(tmp_path / "b.npz")
    assert str(of_files) == report(of_sets, names)
    assert "A = first\nB = second" in str(of_sets)
    with pytest.raises(UserError) as error:
        icre.compare(first, second.features)
    assert "give icre.FeatureSet(features, pids, camids, modalities)" in said(error)


@pytest.mark.slow
def test_results_are_frames():
    pytest.importorskip("pandas")
    data = small_features("sysu")
    scores = icre.score(data, reranker="fastreid")
    frame = scores.frame()
    assert frame["mAP"].tolist() == [one["mAP"]["mean"] for one in scores]
    assert frame["mAP std"].tolist() == [one["mAP"]["std"] for one in scores]
    assert frame["rerank"].tolist()[::2] == ["no", "fastreid k1=20 k2=6 lambda=0.3"]
    result = icre.compare(data, data, bootstrap=icre.Bootstrap(samples=10))
    frame = result.frame()
    assert len(frame) == 3 * (1 + len(result["cameras"]))
    assert frame["first"][1] == result["all"]["mAP"]["first"] and not frame["difference"].any()


def test_a_frame_without_pandas_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    data = small_features("any")
    for result in (icre.score(data), icre.compare(data, data, bootstrap=icre.Bootstrap(2))):
        with pytest.raises(UserError) as error:
            result.frame()
        assert said(error) == "a frame needs pandas: pip install pandas"
