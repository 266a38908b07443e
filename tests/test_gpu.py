"""What only a GPU can show; run by `make gpu`, skipped with a reason without one."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist

from fastreid.config import CfgNode
from fastreid.utils.events import EventStorage

import icre
from conftest import CONFIGS, SHORT, train, train_status
from icre.commands import export, extract, search
from icre.commands import train as train_net
from icre.config import load_config
from icre.engine import session
from icre.engine.finite import FiniteLossCheck
from icre.engine.launch import launch
from icre.engine.optimizer import build_optimizer
from icre.engine.step import Step, compile_model
from icre.engine.trainer import Trainer
from icre.evaluation.extraction import extract_features
from icre.evaluation.features import FeatureSet
from icre.evaluation.neighbours import nearest
from icre.evaluation.rerank import rerank
from icre.evaluation.score import score
from icre.utils.device import exact, set_precision
from icre.utils.errors import STOPPED
from icre.utils.faiss_gpu import faiss_on
from small_features import small_features
from small_model import NARROW
from small_runs import SMALL, asked_to_stop, load

pytestmark = pytest.mark.gpu

ON_GPU = (*SMALL, "MODEL.DEVICE", "cuda:0", "SOLVER.AMP.ENABLED", "True")
REPEATABLE = (*ON_GPU, "SOLVER.DETERMINISTIC", "True")
NEAR = 1e-4  # of the entries of unit vectors, GPU to CPU, in float32


@pytest.fixture(scope="module")
def run(demo_root, tmp_path_factory) -> Path:
    """OUTPUT_DIR of a training that can be repeated."""
    output = tmp_path_factory.mktemp("gpu") / "run"
    train(demo_root, output, *REPEATABLE)
    return output


def assert_same_weights(one: Path, other: Path) -> None:
    first, second = load(one)["model"], load(other)["model"]
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def test_a_training_says_how_it_computed(run):
    said = json.loads((run / "environment.json").read_text())
    assert said["gpu"] == torch.cuda.get_device_name(0)
    assert said["deterministic"] is True and said["cudnn_benchmark"] is False
    assert said["precision"] in ("bfloat16", "float16") and said["tf32"]["evaluation"] is False


def test_the_same_training_again_gives_the_same_weights(run, demo_root, tmp_path):
    train(demo_root, tmp_path, *REPEATABLE)
    assert_same_weights(tmp_path, run)


def test_stopped_and_resumed_is_as_unbroken(run, demo_root, tmp_path):
    with asked_to_stop(3):
        assert train_status(demo_root, tmp_path, "--resume", *REPEATABLE) == STOPPED
    train(demo_root, tmp_path, "--resume", *REPEATABLE)
    assert_same_weights(tmp_path, run)


@pytest.mark.parametrize("search", ["True", "False"])
def test_evaluating_the_checkpoint_repeats_the_numbers(demo_root, tmp_path, search):
    """Also where training searches for algorithms and computes otherwise."""
    options = (*ON_GPU, "CUDNN_BENCHMARK", search)
    train(demo_root, tmp_path / "run", *options)
    final = ("MODEL.WEIGHTS", str(tmp_path / "run/model_final.pth"))
    train(demo_root, tmp_path / "again", "--eval-only", *options, *final)
    first, again = (FeatureSet.load(tmp_path / name).features for name in ("run", "again"))
    assert np.array_equal(first, again)
    texts = [(tmp_path / name / "metrics.json").read_text() for name in ("run", "again")]
    assert texts[0] == texts[1]


def test_features_are_near_to_a_cpus_and_the_same_again(run, demo_root):
    paths = sorted((demo_root / "SYSU-MM01").rglob("*.jpg"))[:40]
    on_gpu, on_cpu = icre.load(run, "cuda:0")(paths), icre.load(run, "cpu")(paths)
    assert np.abs(on_gpu - on_cpu).max() < NEAR
    set_precision(deterministic=False, search=True)
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        assert np.array_equal(icre.load(run, "cuda:0")(paths), on_gpu)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False
        set_precision(deterministic=False, search=False)


def test_exported_files_give_the_features_of_the_gpu(run, demo_root, tmp_path):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    assert export.main(["--weights", str(run), "--out", str(tmp_path / "onnx")]) == 0
    out = tmp_path / "features.npz"
    words = ["--config-file", run / "config.yaml", "--exported", tmp_path / "onnx", "--out", out]
    assert extract.main([*map(str, words), "MODEL.DEVICE", "cpu"]) == 0
    exported, trained = (FeatureSet.load(path).ordered() for path in (out, run / "features.npz"))
    unit = [f.features / np.linalg.norm(f.features, axis=1, keepdims=True)
            for f in (exported, trained)]  # fmt: skip
    assert np.abs(unit[0] - unit[1]).max() < NEAR


def test_a_gallery_answers_as_on_a_cpu(run, demo_root, tmp_path):
    images, queries = (demo_root / "SYSU-MM01" / name for name in ("cam1", "cam3"))
    found = {}
    for device in ("cuda:0", "cpu"):
        gallery, out = tmp_path / f"gallery_{device[:3]}", tmp_path / f"{device[:3]}.json"
        index = ["index", images, "--weights", run, "--out", gallery, "--device", device]
        assert search.main([*map(str, index)]) == 0
        query = ["query", gallery, next(queries.rglob("*.jpg")), "--json", out, "--device", device]
        assert search.main([*map(str, query)]) == 0
        found[device] = [one["similarity"] for one in json.loads(out.read_text())[0]["matches"]]
    assert found["cuda:0"] == pytest.approx(found["cpu"], abs=NEAR)


def test_scores_are_those_of_a_cpu_and_the_same_again():
    data = small_features("sysu")
    on_gpu = score(data, device="cuda:0", reranker="fastreid")
    assert on_gpu == score(data, device="cuda:0", reranker="fastreid")
    for mine, other in zip(on_gpu, score(data, reranker="fastreid"), strict=True):
        for metric in ("Rank-1", "mAP", "mINP"):
            assert mine[metric]["mean"] == pytest.approx(other[metric]["mean"], abs=0.01)


@pytest.mark.parametrize("algorithm", ["fastreid", "original"])
def test_reranking_is_that_of_a_cpu_and_the_same_again(algorithm):
    features = unit_rows(2000)
    moved = features.cuda()
    with exact("cuda"):
        first, again = (rerank(moved[:80], moved[80:], algorithm=algorithm) for _ in range(2))
    assert torch.equal(first, again)
    differ = (first.cpu() - rerank(features[:80], features[80:], algorithm=algorithm)).abs() > 1e-4
    assert differ.float().mean() < 1e-3


def test_faiss_finds_what_torch_finds():
    if faiss_on("cuda:0") is None:
        pytest.skip("faiss's package for GPUs is not installed")
    features = unit_rows(5000)
    found, _ = nearest(features.cuda(), 21)
    assert (found.cpu() == nearest(features, 21)[0]).float().mean() > 0.999


def unit_rows(count: int) -> torch.Tensor:
    features = torch.randn(count, 64, generator=torch.Generator().manual_seed(0))
    return features / features.norm(dim=1, keepdim=True)


def new_step(compiled: str = "", dtype: str = "", finite: FiniteLossCheck | None = None) -> Step:
    """Of a narrow ICRE and one batch of noise, again and again."""
    options = [*map(str, NARROW), "MODEL.MPFR.DIM", "32", "MODEL.HEADS.NUM_CLASSES", "4"]
    config = str(CONFIGS / "Demo/icre_r18.yml")
    cfg = load_config(config, [*SHORT, *options, "MODEL.DEVICE", "cuda:0"])
    torch.manual_seed(0)
    model = Trainer.build_model(cfg)
    compile_model(model, compiled)
    amp = CfgNode({"ENABLED": bool(dtype), "DTYPE": dtype})
    device = torch.device("cuda", 0)
    optimizer = build_optimizer(cfg, model)
    step = Step(model, optimizer, device, amp, torch.channels_last, finite)
    batch = {
        "images": torch.randint(256, (16, 32, 16, 3), dtype=torch.uint8).pin_memory(),
        "targets": torch.arange(4).repeat_interleave(4).pin_memory(),
        "modalities": torch.tensor([0, 0, 1, 1] * 4),
        "img_paths": ["noise"] * 16,
    }
    step.batches = iter([batch] * 100)
    return step


def losses_of(step: Step, count: int = 6) -> list[float]:
    found = []
    for _ in range(count):
        with EventStorage() as storage:
            step.run(log=True)
            found.append(storage.latest()["total_loss"][0])
    return found


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_mixed_precision_trains(dtype):
    plain, mixed = losses_of(new_step()), losses_of(new_step(dtype=dtype))
    assert mixed == pytest.approx(plain, rel=0.05) and mixed[-1] < mixed[0]


@pytest.mark.parametrize("compiled", ["inductor", "cudagraphs", "reduce-overhead"])
def test_compiled_steps_are_those_of_eager_mode(compiled, tmp_path):
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    step = new_step(compiled, "bfloat16", FiniteLossCheck(tmp_path))
    assert losses_of(step) == pytest.approx(losses_of(new_step(dtype="bfloat16")), rel=0.05)
    batch = next(step.batches) | {"images": torch.rand(16, 3, 32, 16)}
    ((_, features),) = extract_features(step.model, [batch], step.device)
    assert features.isfinite().all()
    losses_of(step, 2)
    step.finite.finish()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


def test_a_step_never_waits_for_the_gpu(tmp_path):
    step = new_step("", "bfloat16", FiniteLossCheck(tmp_path))
    losses_of(step, 3)
    torch.cuda.set_sync_debug_mode("error")
    try:
        with EventStorage():
            for _ in range(3):
                step.run(log=False)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def rank_of_two(args: argparse.Namespace) -> None:
    """A training by two ranks; module level, as the processes import it."""
    assert dist.get_backend() == args.backend
    session.work(train_net.parser().parse_args(args.words))


@pytest.mark.parametrize("backend, device", [("gloo", "cuda:0"), ("nccl", "cuda")])
def test_two_ranks_train_one_model(demo_root, tmp_path, backend, device):
    if backend == "nccl" and torch.cuda.device_count() < 2:
        pytest.skip("NCCL needs a GPU for each rank")
    options = [*SMALL, "SOLVER.MAX_EPOCH", "1", "SOLVER.WARMUP_ITERS", "0", "MODEL.DEVICE", device]
    files = ["DATASETS.ROOT", str(demo_root), "OUTPUT_DIR", str(tmp_path)]
    words = ["--config-file", str(CONFIGS / "Demo/icre_r18.yml"), *files, *SHORT, *options]
    args = argparse.Namespace(
        num_gpus=2, num_machines=1, machine_rank=0, dist_url="auto", backend=backend, words=words
    )
    launch(rank_of_two, args, 120, device)
    assert all(value.isfinite().all() for value in load(tmp_path)["model"].values())
