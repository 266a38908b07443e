"""Two gloo processes on the CPU do what one does, and end together."""

import argparse
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from conftest import CONFIGS, SHORT, train, train_arguments, train_status
from icre.commands import extract
from icre.commands import train as train_net
from icre.engine import session
from icre.engine.launch import launch
from icre.engine.processes import Report, _cause
from icre.engine.stop import StopSignal
from icre.evaluation.extraction import extract_features
from icre.evaluation.features import FeatureSet
from icre.utils.errors import RunEnded, UserError
from small_model import narrow_model, small_batch
from small_runs import SMALL, STOCK, TINY_MODEL, assert_same_end, load, skip_pictures

CPU = torch.device("cpu")
LOSSES = {
    "pull_push": ("ICGLoss",),
    "rank": ("ICGLoss",),
    "soft_rank": ("ICGLoss",),
    "guided": ("ICGLoss",),
    "others": ("HeteroCenterTripletLoss", "CenterClusterLoss", "WeightedRegularizedTripletLoss"),
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def still_model(name: str, gather: bool) -> torch.nn.Module:
    """The small model with batch norms that use their running statistics."""
    variant = ("MODEL.LOSSES.ICG.VARIANT", name) if name != "others" else ()
    if name == "soft_rank":
        variant += ("MODEL.LOSSES.ICG.MAPS", ("enhanced", "clues"))
    model = narrow_model(
        "MODEL.LOSSES.NAME",
        ("CrossEntropyLoss", *LOSSES[name]),
        "MODEL.SDCE.INIT_SCALE",
        1.0,
        "MODEL.LOSSES.GATHER",
        gather,
        *variant,
    )
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()
    return model


def gradients(model: torch.nn.Module, batch: dict) -> dict[str, torch.Tensor]:
    sum(model(batch).values()).backward()
    return {
        name.removeprefix("module."): p.grad
        for name, p in model.named_parameters()
        if p.grad is not None
    }


def work_of_a_rank(args) -> None:
    """All that two ranks are needed for, in one start of theirs; then the second one is killed."""
    rank = dist.get_rank()
    agree(rank)
    found = {"features": features_of_a_rank(rank)}
    batch = small_batch(16)
    # the visible images of every identity are on one rank, the infrared ones on the other
    mine = {key: value[batch["modalities"] == rank] for key, value in batch.items()}
    for name in LOSSES:
        for gather in (True, False):
            model = DistributedDataParallel(still_model(name, gather), find_unused_parameters=True)
            found[name, gather] = gradients(model, mine)
    torch.save(found, args.folder / f"{rank}.pth")
    with pytest.MonkeyPatch.context() as patch:
        skip_pictures(patch)
        run = train_arguments(args.root, args.folder / "run", *TRAINED, config=CONFIG)
        session.work(train_net.parser().parse_args(run))
    extract.work(extract.parser().parse_args(extraction(args.folder, args.root, 2)))
    dist.barrier()
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    dist.barrier()


CONFIG = "Demo/icre_r18.yml"
TRAINED = (*SMALL, "MODEL.LOSSES.GATHER", "True", "TEST.IMS_PER_BATCH", "16")


def extraction(folder: Path, root: Path, ranks: int) -> list[str]:
    """Arguments of tools/extract_features.py for the run of two ranks, with batches that divide
    among the ranks in another way than in training."""
    options = (*SHORT, *SMALL, "TEST.IMS_PER_BATCH", "10", "TEST.FLIP.ENABLED", "True")
    files = ["--weights", folder / "run/model_final.pth", "--out", folder / f"{ranks}.npz"]
    given = ["--config-file", CONFIGS / CONFIG, "--num-gpus", ranks, *files]
    return [*map(str, given), "DATASETS.ROOT", str(root), *options]


@pytest.fixture(scope="module")
def folder(demo_root, tmp_path_factory) -> Path:
    """What two ranks left, and `ended`, the error that the launch ended with."""
    folder = tmp_path_factory.mktemp("ranks")
    args = argparse.Namespace(
        num_gpus=2, num_machines=1, machine_rank=0, dist_url="auto", folder=folder, root=demo_root
    )
    with pytest.raises(RunEnded) as ended:
        launch(work_of_a_rank, args, timeout=120)
    (folder / "ended").write_text(str(ended.value))
    return folder


@pytest.fixture(scope="module")
def found(folder) -> list[dict]:
    """The tensors of both ranks."""
    return [torch.load(folder / f"{rank}.pth") for rank in (0, 1)]


@pytest.mark.slow
def test_a_rank_that_is_killed_ends_the_run(folder):
    assert re.search(r"rank 1 \(process \d+\) .* SIGKILL", (folder / "ended").read_text())


@pytest.mark.slow
def test_the_ranks_score_one_model(found):
    first, second = (of_rank["features"] for of_rank in found)
    assert torch.equal(first, second) and torch.equal(first, features_of_a_rank(0))


@pytest.mark.slow
def test_gathered_gradients_are_those_of_one_process(found):
    found = found[0]
    batch = small_batch(16)
    for name in LOSSES:
        whole = gradients(still_model(name, True), batch)
        assert whole.keys() == found[name, True].keys()
        for key, value in whole.items():
            torch.testing.assert_close(
                found[name, True][key],
                value,
                rtol=1e-3,
                atol=1e-4 * value.abs().max().item() + 1e-7,
                msg=lambda text: f"{name} {key}: {text}",
            )
        # which a rank's own centres do not give
        apart = [
            key
            for key, value in whole.items()
            if not torch.allclose(found[name, False][key], value, rtol=1e-2, atol=1e-4)
        ]
        assert apart, name


def agree(rank: int) -> None:
    """One rank's SIGTERM is all ranks'."""
    with StopSignal() as stop:
        assert not stop.on_any_rank()
        if rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        assert stop.on_any_rank()


def features_of_a_rank(rank: int) -> torch.Tensor:
    """Of a model whose batch norms have seen other images on every rank."""
    model = narrow_model()
    with torch.no_grad():
        for buffer in model.buffers():
            if buffer.is_floating_point():
                buffer += rank
    ((_, features),) = extract_features(model, [small_batch(4)], CPU)
    return features


def ended(number: int, exitcode: int, *report) -> argparse.Namespace:
    """A rank that is no process any more."""
    return argparse.Namespace(
        number=number,
        process=argparse.Namespace(exitcode=exitcode, pid=7),
        report=Report(*report) if report else None,
    )


LOST = ended(0, 1, 2.0, "RuntimeError", "Connection closed by peer", 1)


@pytest.mark.parametrize(
    "failed, asked, kind, message, status",
    [
        ([LOST, ended(1, -9)], False, RunEnded, r"rank 1 \(process 7\) was ended by SIGKILL", 1),
        (
            [LOST, ended(1, 1, 1.0, "ZeroDivisionError", "by nought", 1)],
            False,
            RunEnded,
            "rank 1 failed, .*ZeroDivisionError: by nought",
            1,
        ),
        ([LOST, ended(1, 2, 1.0, "UserError", "mend x", 2)], False, UserError, "^mend x$", None),
        ([LOST, ended(1, 75, 1.0, "RunEnded", "left", 75)], True, RunEnded, "^left$", 75),
        ([ended(0, -15), ended(1, -15)], True, RunEnded, "SIGTERM", 75),
    ],
)
def test_the_cause_is_told_and_not_its_consequence(failed, asked, kind, message, status):
    cause = _cause(failed, asked)
    assert type(cause) is kind and re.search(message, str(cause))
    assert getattr(cause, "status", None) == status


@pytest.mark.slow
def test_two_processes_train_one_model(folder):
    final = load(folder / "run")
    assert not any(key.startswith("module.") for key in final["model"])
    first, second = final["rng"]
    assert not torch.equal(first["torch"], second["torch"])


@pytest.mark.slow
def test_two_processes_score_as_one(folder, demo_root, tmp_path):
    """And what they scored at the end of training is what the checkpoint holds."""
    weights = ("MODEL.WEIGHTS", str(folder / "run/model_final.pth"))
    train(demo_root, tmp_path, "--eval-only", *TRAINED, *weights, config=CONFIG)
    assert_same_features(folder / "run/features.npz", tmp_path / "features.npz")
    assert (folder / "run/metrics.json").read_text() == (tmp_path / "metrics.json").read_text()


@pytest.mark.slow
def test_two_processes_extract_as_one(folder, demo_root):
    assert extract.main(extraction(folder, demo_root, 1)) == 0
    assert_same_features(folder / "1.npz", folder / "2.npz")


def assert_same_features(*files: Path) -> None:
    one, other = map(FeatureSet.load, files)
    for column in ("features", "pids", "camids", "modalities", "paths"):
        assert (getattr(one, column) == getattr(other, column)).all(), column


RANK = """
import argparse, sys
from pathlib import Path
from icre.engine.launch import launch
from fastreid.utils import comm
from torch.distributed import group

def hello(args):
    cycle = [group.WORLD]
    cycle.append(cycle)  # as a trained model has them
    seen = comm.get_world_size(), comm.get_local_rank(), comm.all_gather(comm.get_rank())
    Path(f"{args.folder}/{comm.get_rank()}").write_text(str(seen))

if __name__ == "__main__":
    machine, url, folder = sys.argv[1:]
    launch(hello, argparse.Namespace(
        num_gpus=1, num_machines=2, machine_rank=int(machine), dist_url=url, folder=folder), 60)
    # one of gloo's threads aborts the process now and then if it is left when Python ends
    threads = [(task / "comm").read_text() for task in Path("/proc/self/task").iterdir()]
    assert not any("gloo" in name for name in threads), threads
"""


@pytest.mark.slow
def test_several_machines_and_torchrun(tmp_path):
    """Two launchers with one process each; one torchrun with two."""
    script, environment = (
        tmp_path / "rank.py",
        os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    script.write_text(RANK)
    url = f"tcp://127.0.0.1:{free_port()}"
    machines = [
        subprocess.Popen([sys.executable, script, str(n), url, tmp_path], env=environment)
        for n in (0, 1)
    ]
    assert [machine.wait(300) for machine in machines] == [0, 0]
    assert [(tmp_path / name).read_text() for name in "01"] == ["(2, 0, [0, 1])"] * 2
    command = ["torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port())]
    (tmp_path / "run").mkdir()
    subprocess.run(
        [sys.executable, "-m", *command, script, "0", "unused", tmp_path / "run"],
        env=environment,
        check=True,
        timeout=300,
    )
    seen = [(tmp_path / "run" / name).read_text() for name in "01"]
    assert seen == ["(2, 0, [0, 1])", "(2, 1, [0, 1])"]


def torchrun(folder: Path, root: Path, *options: str) -> subprocess.Popen:
    """Start a training of two ranks that torchrun starts again."""
    words = train_arguments(root, folder, *TINY_MODEL, *options, config=STOCK)
    command = ["torch.distributed.run", "--nproc-per-node", "2", "--max-restarts", "2"]
    command += ["--master-port", str(free_port()), "-m", "icre.commands.train"]
    return subprocess.Popen(
        [sys.executable, "-m", *command, *words],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def rank_of(process: subprocess.Popen, rank: int) -> int:
    """The process of a rank that torchrun has started."""
    (found,) = [
        int(folder.name)
        for folder in Path("/proc").glob("[0-9]*")
        if f"\nPPid:\t{process.pid}\n" in (folder / "status").read_text()
        and f"RANK={rank}" in (folder / "environ").read_text().split("\0")
    ]
    return found


@pytest.mark.slow
@pytest.mark.long
def test_torchrun_goes_on_from_the_last_checkpoint_after_a_rank_was_killed(demo_root, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    options = ("SOLVER.MAX_EPOCH", "4", "SOLVER.CHECKPOINT_ITERS", "2", "TEST.EVAL_PERIOD", "0")
    process = torchrun(broken, demo_root, "--resume", *options)
    deadline = time.monotonic() + 300
    while not (broken / "model_last.pth").is_file():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(rank_of(process, 1), signal.SIGKILL)
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == 0, printed[-3000:]
    log = (broken / "log.txt").read_text()
    assert "exitcode: -9" in printed
    assert log.lower().count("resum") >= 1
    process = torchrun(whole, demo_root, "--resume", *options)
    assert process.wait(300) == 0
    assert_same_end(whole, broken)


def test_a_restart_needs_resume(demo_root, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "2")
    assert train_status(demo_root, tmp_path / "o") == 2
    said = capsys.readouterr().err
    assert "--max-restarts: add --resume" in said and said.count("\n") == 1
    assert not (tmp_path / "o").exists()
