"""Devices: who gets which, how exactly a GPU computes, and faiss on it; all told without one."""

import argparse
import json
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from fastreid.modeling.losses import cross_entropy_loss as fastreids

from conftest import train
from icre.engine import launch
from icre.evaluation.features import FeatureSet
from icre.gallery import index as indexes
from icre.modeling.losses.stock import cross_entropy_loss
from icre.modeling.mpfr import average_pool
from icre.utils import faiss_gpu
from icre.utils.device import exact, set_precision
from icre.utils.environment import precision
from icre.utils.errors import UserError
from small_model import small_batch
from small_runs import SMALL

BACKENDS = ("cudnn.benchmark", "cudnn.deterministic", "cudnn.allow_tf32", "cuda.matmul.allow_tf32")


def settings() -> dict:
    values = {}
    for name in BACKENDS:
        value = torch.backends
        for part in name.split("."):
            value = getattr(value, part)
        values[name] = value
    return values | {"mode": torch.get_deterministic_debug_mode()}


@pytest.fixture
def as_before():
    set_precision(deterministic=False, search=False)  # whatever other tests left
    before = settings()
    yield
    set_precision(deterministic=False, search=False)
    assert settings() == before


@pytest.mark.parametrize("deterministic", [True, False])
def test_evaluation_does_not_depend_on_what_training_set(as_before, deterministic):
    set_precision(deterministic=deterministic, search=True)
    training = settings()
    expected = {"deterministic": deterministic, "cudnn_benchmark": not deterministic}
    assert precision(torch.bfloat16).items() >= {**expected, "precision": "bfloat16"}.items()
    with pytest.raises(ZeroDivisionError), exact("cuda"):
        assert settings() == dict(zip([*BACKENDS, "mode"], [False, True, False, False, 1]))
        raise ZeroDivisionError
    assert settings() == training
    with exact("cpu"):
        assert settings() == training


@pytest.mark.slow
def test_the_layout_of_a_training_is_that_of_its_evaluation(demo_root, tmp_path):
    """Another one's kernels round differently."""
    options = (*SMALL, "SOLVER.LAYOUT", "channels_last", "SOLVER.MAX_EPOCH", "1")
    train(demo_root, tmp_path / "run", *options, "SOLVER.WARMUP_ITERS", "0")
    final = str(tmp_path / "run/model_final.pth")
    train(demo_root, tmp_path / "again", *options, "--eval-only", "MODEL.WEIGHTS", final)
    trained, again = (FeatureSet.load(tmp_path / name) for name in ("run", "again"))
    assert (trained.features == again.features).all()
    first, second = (
        json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("run", "again")
    )
    assert first == second


@pytest.mark.parametrize(
    "device, gpus, ranks, backend",
    [("auto", 1, 1, None), ("cpu", 1, 3, "gloo"), ("cuda:0", 1, 2, "gloo"), ("auto", 2, 2, "nccl"),
     ("cuda", 2, 2, "nccl"), ("auto", 0, 2, "gloo")],
)  # fmt: skip
def test_which_ranks_share_what(monkeypatch, device, gpus, ranks, backend):
    started = start(monkeypatch, device, gpus, ranks)
    assert started == ([] if backend is None else [backend] * ranks)


def test_more_ranks_than_gpus_is_one_line(monkeypatch):
    with pytest.raises(UserError, match=r"--num-gpus 2: this machine has 1;.*MODEL.DEVICE cpu"):
        start(monkeypatch, "auto", 1, 2)


def start(monkeypatch, device: str, gpus: int, ranks: int) -> list[str]:
    """The backends that a launch's ranks would talk by."""
    started: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "set_device", lambda rank: None)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    monkeypatch.setattr(launch, "_leave", lambda: None)
    monkeypatch.setattr(launch.dist, "new_group", lambda *args, **more: None)
    monkeypatch.setattr(
        launch.dist, "init_process_group", lambda backend, **more: started.append(backend)
    )
    monkeypatch.setattr(launch, "_stay_on_loopback", lambda: None)
    monkeypatch.setattr(
        launch,
        "run_processes",
        lambda work, count, args: [work(rank, *args) for rank in range(count)],
    )
    args = argparse.Namespace(num_gpus=ranks, num_machines=1, machine_rank=0, dist_url="auto")
    launch.launch(lambda args: None, args, 60, device)
    return started


@pytest.mark.parametrize(
    "found, message",
    [(["faiss-cpu"], None), (["faiss-cpu", "faiss-gpu"], "faiss-cpu and faiss-gpu")],
)
def test_two_packages_of_faiss_are_one_line(monkeypatch, found, message):
    monkeypatch.setattr(faiss_gpu, "_installed", found.__contains__)
    if message is None:
        faiss_gpu.require_one_package()
        assert faiss_gpu.faiss_on("cuda") is None
        return
    with pytest.raises(UserError, match=f"{message} are installed over each other.*uninstall"):
        faiss_gpu.require_one_package()


def test_only_some_indexes_go_to_a_gpu(monkeypatch):
    module = SimpleNamespace(
        StandardGpuResources=object, index_cpu_to_gpu=lambda gpu, number, index: (number, index)
    )
    device, index = torch.device("cuda", 3), object()
    monkeypatch.setattr(indexes, "faiss_on", lambda device: module)
    monkeypatch.setattr(indexes, "resources", lambda faiss, number: None)
    moved = [kind for kind in indexes.KINDS if indexes.on_device(kind, index, device) == (3, index)]
    assert moved == ["flat", "ivf"]
    monkeypatch.setattr(indexes, "faiss_on", lambda device: None)
    assert indexes.on_device("flat", index, device) is index


@pytest.mark.parametrize("eps", [0.0, 0.1, -1])
def test_the_id_loss_is_fast_reids(eps):
    logits = 40 * torch.randn(16, 8, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(16) % 8
    logits[0, 0] = 1e4  # its loss is 0, and it is not counted
    mine, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    ours, other = cross_entropy_loss(mine, targets, eps), fastreids(theirs, targets, eps)
    assert torch.equal(ours, other) and ours > 0
    ours.backward()
    other.backward()
    assert torch.equal(mine.grad, theirs.grad)


@pytest.mark.parametrize("size, grid", [((96, 36), (24, 9)), ((16, 8), (16, 8)), ((9, 5), (4, 2))])
def test_pooling_is_the_adaptive_one(size, grid):
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    assert torch.equal(average_pool(x, grid), F.adaptive_avg_pool2d(x, grid))


def test_a_batch_in_any_order_has_the_same_losses():
    from small_model import narrow_model, rows

    model, batch = narrow_model(), small_batch(16)
    first = model(batch)
    mixed = rows(batch, torch.randperm(16, generator=torch.Generator().manual_seed(0)))
    for name, value in narrow_model()(mixed).items():
        torch.testing.assert_close(value, first[name], rtol=1e-4, atol=1e-5)
