"""Two gloo processes on the CPU do what one does, and end together."""

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from conftest import CONFIGS, SHORT, train
from icre.engine.launch import _free_port, launch
from icre.engine.stop import StopSignal
from icre.engine.processes import Report, _cause
from icre.evaluation.extraction import run_inference
from icre.evaluation.features import FeatureSet
from icre.inference import extract
from icre.utils.errors import RunEnded, UserError
from small_model import small_batch, small_model
from small_runs import SMALL, load

CPU = torch.device("cpu")
LOSSES = {
    "pull_push": ("ICGLoss",),
    "rank": ("ICGLoss",),
    "soft_rank": ("ICGLoss",),
    "guided": ("ICGLoss",),
    "others": ("HeteroCenterTripletLoss", "CenterClusterLoss", "WeightedRegularizedTripletLoss"),
}


def two(main, folder: Path, timeout: float = 60) -> None:
    """Run a function of this module, main(args), in two processes."""
    launch(
        main,
        argparse.Namespace(
            num_gpus=2, num_machines=1, machine_rank=0, dist_url="auto", folder=folder
        ),
        timeout,
    )


def still_model(name: str, gather: bool) -> torch.nn.Module:
    """The small model with batch norms that use their running statistics."""
    variant = ("MODEL.LOSSES.ICG.VARIANT", name) if name != "others" else ()
    if name == "soft_rank":
        variant += ("MODEL.LOSSES.ICG.MAPS", ("enhanced", "clues"))
    model = small_model(
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
    """The visible images of every identity are on one rank, the infrared ones on the other."""
    rank, found = dist.get_rank(), {}
    agree(rank)
    batch = small_batch(16)
    mine = {key: value[batch["modalities"] == rank] for key, value in batch.items()}
    for name in LOSSES:
        for gather in (True, False):
            model = DistributedDataParallel(still_model(name, gather), find_unused_parameters=True)
            found[name, gather] = gradients(model, mine)
    found["features"] = features_of_a_rank(rank)
    torch.save(found, args.folder / f"{rank}.pth")


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> list[dict]:
    """What two ranks found."""
    folder = tmp_path_factory.mktemp("ranks")
    two(work_of_a_rank, folder)
    return [torch.load(folder / f"{rank}.pth") for rank in (0, 1)]


def test_the_ranks_score_one_model(found):
    first, second = (of_rank["features"] for of_rank in found)
    assert torch.equal(first, second) and torch.equal(first, features_of_a_rank(0))


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


class Seen:
    """An evaluator that keeps the features."""

    def reset(self):
        self.features = []

    def process(self, inputs, outputs):
        self.features.append(outputs)

    def evaluate(self):
        return {}


def agree(rank: int) -> None:
    """One rank's SIGTERM is all ranks'."""
    with StopSignal() as stop:
        assert not stop.on_any_rank()
        if rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        assert stop.on_any_rank()


def features_of_a_rank(rank: int) -> torch.Tensor:
    """Of a model whose batch norms have seen other images on every rank."""
    model = small_model()
    with torch.no_grad():
        for buffer in model.buffers():
            if buffer.is_floating_point():
                buffer += rank
    seen = Seen()
    run_inference(model, [small_batch(4)], seen, CPU)
    return seen.features[0]


def die(args) -> None:
    if dist.get_rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    dist.barrier()


def test_a_rank_that_is_killed_ends_the_run(tmp_path):
    start = time.monotonic()
    with pytest.raises(RunEnded, match=r"rank 1 \(process \d+\) was ended by SIGKILL, so all"):
        two(die, tmp_path)
    assert time.monotonic() - start < 120  # seconds, most of them to start


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
            "rank 1 failed, .*ends in ZeroDivisionError: by nought",
            1,
        ),
        ([LOST, ended(1, 2, 1.0, "UserError", "mend x", 2)], False, UserError, "^mend x$", None),
        ([LOST, ended(1, 75, 1.0, "RunEnded", "left", 75)], True, RunEnded, "^left$", 75),
        ([ended(0, -15), ended(1, -15)], True, RunEnded, "before its first step", 75),
    ],
)
def test_the_cause_is_told_and_not_its_consequence(failed, asked, kind, message, status):
    cause = _cause(failed, asked)
    assert type(cause) is kind and re.search(message, str(cause))
    assert getattr(cause, "status", None) == status


@pytest.fixture(scope="module")
def two_process_run(demo_root, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("two")
    train(
        demo_root,
        output,
        "--num-gpus=2",
        *SMALL,
        "MODEL.LOSSES.GATHER",
        "True",
        "TEST.IMS_PER_BATCH",
        "16",
    )
    return output


def test_two_processes_train_one_model(two_process_run):
    final = load(two_process_run)
    assert not any(key.startswith("module.") for key in final["model"])
    first, second = final["rng"]
    assert not torch.equal(first["torch"], second["torch"])


def test_two_processes_score_as_one(two_process_run, demo_root, tmp_path):
    """And what they scored at the end of training is what the checkpoint holds."""
    train(
        demo_root,
        tmp_path,
        "--eval-only",
        *SMALL,
        "MODEL.WEIGHTS",
        str(two_process_run / "model_final.pth"),
        "TEST.IMS_PER_BATCH",
        "16",
    )
    assert_same_features(two_process_run / "features.npz", tmp_path / "features.npz")
    assert (two_process_run / "metrics.json").read_text() == (tmp_path / "metrics.json").read_text()


def test_two_processes_extract_as_one(two_process_run, demo_root, tmp_path):
    for ranks in ("1", "2"):
        assert (
            extract.main(
                [
                    "--config-file",
                    str(CONFIGS / "Demo/icre_r18.yml"),
                    "--num-gpus",
                    ranks,
                    "--weights",
                    str(two_process_run / "model_final.pth"),
                    "--out",
                    str(tmp_path / f"{ranks}.npz"),
                    "DATASETS.ROOT",
                    str(demo_root),
                    *SHORT,
                    *SMALL,
                    "TEST.IMS_PER_BATCH",
                    "10",
                    "TEST.FLIP.ENABLED",
                    "True",
                ]
            )
            == 0
        )
    assert_same_features(tmp_path / "1.npz", tmp_path / "2.npz")


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


def test_several_machines_and_torchrun(tmp_path):
    """Two launchers with one process each; one torchrun with two."""
    script, environment = (
        tmp_path / "rank.py",
        os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    script.write_text(RANK)
    url = f"tcp://127.0.0.1:{_free_port()}"
    machines = [
        subprocess.Popen([sys.executable, script, str(n), url, tmp_path], env=environment)
        for n in (0, 1)
    ]
    assert [machine.wait(300) for machine in machines] == [0, 0]
    assert [(tmp_path / name).read_text() for name in "01"] == ["(2, 0, [0, 1])"] * 2
    command = ["torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(_free_port())]
    (tmp_path / "run").mkdir()
    subprocess.run(
        [sys.executable, "-m", *command, script, "0", "unused", tmp_path / "run"],
        env=environment,
        check=True,
        timeout=300,
    )
    seen = [(tmp_path / "run" / name).read_text() for name in "01"]
    assert seen == ["(2, 0, [0, 1])", "(2, 1, [0, 1])"]
