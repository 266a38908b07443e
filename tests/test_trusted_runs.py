"""Resuming, evaluating and training into folders that hold a run: whose results are whose."""

import copy
import json
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from conftest import train, train_status, words
from icre.config import load_config
from icre.runs.checkpoint import SafeCheckpointer, read_checkpoint
from icre.runs.resume import changed_key
from icre.runs.state import state_fault
from icre.utils.checksum import KEY, add_checksum
from icre.utils.errors import UserError
from icre.utils.lock import locked
from small_runs import SMALL


@pytest.fixture(scope="module")
def own_data(demo_root, tmp_path_factory) -> Path:
    """A copy of the demo tree, which a test may change and puts back."""
    return Path(shutil.copytree(demo_root, tmp_path_factory.mktemp("data") / "datasets"))


@pytest.fixture(scope="module")
def small_run(own_data, tmp_path_factory) -> Path:
    """A finished run of two epochs of five steps; not to be changed."""
    output = tmp_path_factory.mktemp("runs") / "run"
    train(own_data, output, *SMALL)
    return output


@pytest.fixture
def copied(small_run, tmp_path) -> Path:
    return Path(shutil.copytree(small_run, tmp_path / "run"))


def refused(capsys, *arguments) -> str:
    """The one line in which a command of bad input ends."""
    capsys.readouterr()
    assert train_status(*arguments) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def scalars(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "scalars.json").read_text().splitlines()]


# results of a finished run


@pytest.mark.slow
def test_records_name_the_weights_that_they_are_of(small_run, own_data, tmp_path):
    records = json.loads((small_run / "metrics.json").read_text())
    assert {len(record["weights"]) for record in records} == {64}
    weights = ("--eval-only", "MODEL.WEIGHTS", str(small_run / "model_final.pth"))
    train(own_data, tmp_path, *weights, *SMALL)
    assert json.loads((tmp_path / "metrics.json").read_text()) == records


def test_scoring_a_finished_run_again_is_allowed(copied, own_data):
    before = json.loads((copied / "metrics.json").read_text())
    weights = ("--eval-only", "MODEL.WEIGHTS", str(copied / "model_final.pth"))
    train(own_data, copied, *weights, *SMALL, "TEST.PROTOCOLS", "('sysu-indoor-single',)")
    after = json.loads((copied / "metrics.json").read_text())
    assert {record["weights"] for record in before} == {record["weights"] for record in after}


@pytest.mark.parametrize(
    "options, named",
    [
        ("", "MODEL.WEIGHTS"),
        ("--untrained", "OUTPUT_DIR"),
        ("MODEL.WEIGHTS {other}", "OUTPUT_DIR"),
        ("MODEL.WEIGHTS {own} MODEL.SDCE.HEADS 4", "MODEL.SDCE.HEADS"),
        ("MODEL.WEIGHTS {own} INPUT.SIZE_TEST [64,32]", "INPUT.SIZE_TEST"),
        ("MODEL.WEIGHTS {own} SEED 3", "SEED"),
        ("MODEL.WEIGHTS {own} DATASETS.ROOT {own}/..", "DATASETS.ROOT"),
        ("MODEL.WEIGHTS {own} --untrained", "--untrained"),
        ("MODEL.WEIGHTS nowhere.pth", "nowhere.pth"),
    ],
)
def test_a_finished_runs_results_are_not_replaced(copied, own_data, capsys, options, named):
    other = copied.parent / "other.pth"
    checkpoint = torch.load(copied / "model_final.pth")
    checkpoint["model"]["heads.weight"] += 1
    checkpoint.pop(KEY)
    torch.save(checkpoint, other)
    before = content(copied)
    given = words(options.format(own=copied / "model_final.pth", other=other))
    line = refused(capsys, own_data, copied, "--eval-only", *SMALL, *given)
    assert named in line and content(copied) == before


def test_untrained_weights_are_asked_for_and_marked(small_run, own_data, tmp_path, capsys):
    line = refused(capsys, own_data, tmp_path, "--eval-only", *SMALL)
    assert "MODEL.WEIGHTS" in line and "--untrained" in line
    train(own_data, tmp_path, "--eval-only", "--untrained", *SMALL)
    records = json.loads((tmp_path / "metrics.json").read_text())
    assert {record["weights"] for record in records} == {"untrained"}
    weights = ("MODEL.WEIGHTS", str(small_run / "model_final.pth"))
    line = refused(capsys, own_data, tmp_path, "--eval-only", *SMALL, *weights)
    assert str(tmp_path) in line
    line = refused(capsys, own_data, tmp_path, "--eval-only", "--untrained", *SMALL, "SEED", "3")
    assert "SEED 0, not 3" in line
    assert "--eval-only" in refused(capsys, own_data, tmp_path / "new", "--untrained", *SMALL)


def test_a_training_that_has_not_ended_is_not_scored_in_its_folder(copied, own_data, capsys):
    (copied / "model_final.pth").rename(copied / "model_last.pth")
    weights = ("MODEL.WEIGHTS", str(copied / "model_last.pth"))
    line = refused(capsys, own_data, copied, "--eval-only", *SMALL, *weights)
    assert str(copied) in line and "--resume" in line


@pytest.mark.parametrize("left", ["model_last.pth", "scalars.json", "metrics.json"])
def test_a_second_training_needs_resume(own_data, tmp_path, capsys, left):
    (tmp_path / left).write_text("[]")
    line = refused(capsys, own_data, tmp_path, *SMALL)
    assert str(tmp_path) in line and "--resume" in line
    assert content(tmp_path) == {left: b"[]"}


def test_resume_in_a_folder_without_checkpoint_begins_anew(own_data, tmp_path):
    (tmp_path / "scalars.json").write_text('{"iteration": 3, "total_loss": 99.0}\n')
    train(own_data, tmp_path, "--resume", *SMALL, "SOLVER.MAX_EPOCH", "1")
    assert all(line.get("total_loss") != 99.0 for line in scalars(tmp_path))


# resuming


@pytest.mark.parametrize(
    "options, named",
    [
        ("SOLVER.BASE_LR 0.01", ["SOLVER.BASE_LR", "0.01"]),
        ("SEED 3", ["SEED", "3", "0"]),
        ("SOLVER.WEIGHT_DECAY 0.1", ["SOLVER.WEIGHT_DECAY", "0.1"]),
        ("MODEL.LOSSES.ICG.SCALE 3.0", ["MODEL.LOSSES.ICG.SCALE", "3.0", "0.3"]),
        ("DATASETS.VALIDATION True", ["DATASETS.VALIDATION", "True", "False"]),
        ("INPUT.REA.ENABLED False", ["INPUT.REA.ENABLED", "False", "True"]),
    ],
)
def test_resuming_under_another_config_is_refused(copied, own_data, capsys, options, named):
    before = content(copied)
    line = refused(capsys, own_data, copied, "--resume", *SMALL, *words(options))
    assert [word for word in named if word not in line] == []
    assert content(copied) == before


@pytest.mark.slow
def test_resuming_may_change_where_and_how_fast(copied, own_data, tmp_path):
    moved = shutil.copytree(own_data, tmp_path / "moved")
    options = "TEST.PROTOCOLS ('sysu-indoor-single',) DATALOADER.CACHE_GB 0.0 TEST.EVAL_PERIOD 1"
    train(moved, copied, "--resume", *SMALL, *words(options))


def test_resuming_with_other_people_is_refused(copied, own_data, tmp_path, capsys):
    root = shutil.copytree(own_data, tmp_path / "datasets")
    data = root / "SYSU-MM01"
    listed = (data / "exp/train_id.txt").read_text().strip().split(",")
    for folder in data.glob(f"cam*/{int(listed[0]):04d}"):
        folder.rename(folder.with_name("0777"))
    (data / "exp/train_id.txt").write_text(",".join([*listed[1:], "777"]))
    line = refused(capsys, root, copied, "--resume", *SMALL)
    assert "10 identities" in line and "--resume" in line


@pytest.mark.slow
def test_an_old_checkpoint_is_resumed_with_a_warning(copied, own_data, capsys):
    for file in copied.glob("*.pth"):
        checkpoint = read_checkpoint(file)
        del checkpoint["identities"], checkpoint["config"]
        torch.save(checkpoint, file)
    train(own_data, copied, "--resume", *SMALL)
    assert (copied / "log.txt").read_text().count("does not say which config") == 1


def test_a_key_that_is_newer_than_a_checkpoint_had_its_default():
    new = yaml.safe_load(load_config("Demo/icre_r18.yml").dump())
    old = copy.deepcopy(new)
    del old["SOLVER"]["SCHED_BY_STEP"]
    assert changed_key(old, new) == ("SOLVER.SCHED_BY_STEP", False, True)
    new["SOLVER"]["SCHED_BY_STEP"] = False
    assert changed_key(old, new) is None
    assert changed_key({}, new) is None  # a checkpoint that does not say


COSINE = words(
    "SOLVER.SCHED CosineAnnealingLR SOLVER.BASE_LR 0.004 SOLVER.WARMUP_EPOCHS 0.0 "
    "SOLVER.WARMUP_ITERS 0 SOLVER.DELAY_EPOCHS 0"
)


@pytest.mark.slow
def test_a_longer_schedule_is_planned_anew(own_data, tmp_path):
    train(own_data, tmp_path / "short", *SMALL, *COSINE)
    longer = ("SOLVER.MAX_EPOCH", "4")
    train(own_data, tmp_path / "short", "--resume", *SMALL, *COSINE, *longer)
    train(own_data, tmp_path / "long", *SMALL, *COSINE, *longer)
    rates = [
        {line["iteration"]: line["lr"] for line in scalars(tmp_path / name) if "lr" in line}
        for name in ("short", "long")
    ]
    resumed, whole = ([rate for step, rate in one.items() if step >= 10] for one in rates)
    np.testing.assert_allclose(resumed, whole, rtol=1e-6)
    assert sorted(resumed, reverse=True) == resumed
    log = (tmp_path / "short/log.txt").read_text()
    assert "SOLVER.MAX_EPOCH is 4, it was 2" in log


@pytest.mark.slow
def test_a_shorter_schedule_ends_or_is_refused(own_data, tmp_path, capsys):
    options = (*SMALL, *COSINE, "SOLVER.CHECKPOINT_PERIOD", "1")
    train(own_data, tmp_path, *options, "SOLVER.MAX_EPOCH", "3")
    (tmp_path / "model_final.pth").unlink()
    line = refused(capsys, own_data, tmp_path, "--resume", *options, "SOLVER.MAX_EPOCH", "1")
    assert "SOLVER.MAX_EPOCH 1" in line and "2 epochs" in line
    train(own_data, tmp_path, "--resume", *options)
    assert read_checkpoint(tmp_path / "model_final.pth")["epoch"] == 1


# checkpoints whose entries have other types

BOMB = "\n".join(["a0: &a0 [1, 1]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40))])
BROKEN = {
    "epoch": ["three", None, 1.5, True, -7],
    "iteration": ["ten", -1],
    "model": [[1, 2], {"heads.weight": "gone"}, {3: torch.ones(1)}],
    "config": [7, "just words", "a: [", "- a\n- b", "A: 1\nA: 2", BOMB],
    "datasets": ["SYSUMM01", [3]],
    "regdb_split": ["one", 0],
    "rng": ["none", [3]],
    "identities": [[3], {"count": "ten", "sha256": "x"}, {"count": 3}],
}


@pytest.mark.parametrize("name, value", [(name, v) for name in BROKEN for v in BROKEN[name]])
def test_an_entry_of_another_type_is_one_line(tmp_path, name, value):
    path = tmp_path / "broken.pth"
    torch.save(add_checksum({"model": {"w": torch.ones(2)}, name: value}), path)
    with pytest.raises(UserError, match=f"broken.pth.*'{name}'") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)


def adam():
    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return layer, optimizer


def damaged_optimisers():
    def state():
        return adam()[1].state_dict()

    yield "a word"
    yield {"state": {}}
    yield state() | {"state": {}}
    yield state() | {"param_groups": []}
    yield state() | {"param_groups": [{"lr": 0.1, "params": [0]}]}
    yield state() | {"param_groups": [dict(state()["param_groups"][0], lr="fast")]}
    yield state() | {"state": {0: {"step": torch.tensor(1.0)}}}
    yield state() | {"state": {7: state()["state"][0]}}
    shapes = state()
    shapes["state"][0]["exp_avg"] = torch.ones(5, 5)
    yield shapes


@pytest.mark.parametrize("entry", list(damaged_optimisers()))
def test_a_damaged_optimiser_loads_nothing(tmp_path, entry):
    layer, optimizer = adam()
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    weights = {name: value + 1 for name, value in before.items()}
    torch.save({"model": weights, "optimizer": entry, "epoch": 0}, tmp_path / "model_last.pth")
    checkpointer = SafeCheckpointer(layer, str(tmp_path), optimizer=optimizer)
    with pytest.raises(UserError, match=r"model_last\.pth.*'optimizer'"):
        checkpointer.resume_or_load("", resume=True)
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_no_run_goes_on_without_its_optimiser(tmp_path):
    layer, optimizer = adam()
    torch.save({"model": layer.state_dict(), "epoch": 0}, tmp_path / "model_last.pth")
    checkpointer = SafeCheckpointer(layer, str(tmp_path), optimizer=optimizer)
    with pytest.raises(UserError, match=r"model_last\.pth.*no entry 'optimizer'"):
        checkpointer.resume_or_load("", resume=True)
    checkpointer.load(str(tmp_path / "model_last.pth"), checkpointables=[])


@pytest.mark.parametrize(
    "change", [{"last_epoch": "two"}, {"base_lrs": 3}, {"base_lrs": [0.1, 0.2]}, {"T_max": "long"}]
)
def test_a_damaged_schedule_is_found(change):
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam()[1], 10)
    assert state_fault(schedule, schedule.state_dict()) == ""
    assert state_fault(schedule, schedule.state_dict() | change)
    assert state_fault(schedule, {})


@pytest.mark.slow
def test_scoring_needs_no_classifier(small_run, own_data, tmp_path, capsys):
    checkpoint = read_checkpoint(small_run / "model_final.pth")
    del checkpoint["model"]["heads.weight"]
    torch.save(checkpoint, tmp_path / "bare.pth")
    weights = ("MODEL.WEIGHTS", str(tmp_path / "bare.pth"))
    train(own_data, tmp_path / "scores", "--eval-only", *weights, *SMALL)
    one, other = (
        json.loads((folder / "metrics.json").read_text())
        for folder in (small_run, tmp_path / "scores")
    )
    assert [r["mAP"] for r in one] == [r["mAP"] for r in other]
    line = refused(capsys, own_data, tmp_path / "new", *SMALL, *weights)
    assert "heads.weight" in line
    del checkpoint["model"]["heads.bottleneck.0.weight"]
    torch.save(checkpoint, tmp_path / "bare.pth")
    line = refused(capsys, own_data, tmp_path / "more", "--eval-only", *SMALL, *weights)
    assert "heads.bottleneck.0.weight" in line


@pytest.mark.parametrize("what", ["compressed", "expanded", "sparse", "nested", "fifo"])
def test_a_file_that_unpacks_to_more_than_it_is_is_refused(tmp_path, what):
    path = tmp_path / "bomb.pth"
    if what == "fifo":
        os.mkfifo(path)
    elif what == "compressed":
        import zipfile

        torch.save({"model": {"w": torch.zeros(10**6)}}, tmp_path / "plain.pth")
        with (
            zipfile.ZipFile(tmp_path / "plain.pth") as plain,
            zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed,
        ):
            for name in plain.namelist():
                packed.writestr(name, plain.read(name))
    elif what == "expanded":
        torch.save({"model": {"w": torch.zeros(1).expand(10**9)}}, path)
    elif what == "sparse":
        huge = torch.sparse_coo_tensor(torch.tensor([[0]]), torch.ones(1), (10**9,))
        torch.save({"model": {"w": huge}}, path)
    else:
        value = [1]
        for _ in range(200):
            value = [value, value]
        torch.save({"model": {"w": torch.zeros(1)}, "extra": value}, path)
    with pytest.raises(UserError, match=r"bomb\.pth"):
        read_checkpoint(path)


# one process writes into a folder at a time


def test_a_folder_in_use_is_refused(own_data, tmp_path, capsys):
    with locked(tmp_path):
        line = refused(capsys, own_data, tmp_path, *SMALL)
    assert str(tmp_path) in line and str(os.getpid()) in line
    assert not (tmp_path / "config.yaml").exists() and not (tmp_path / ".lock").exists()


HOLD = """
import multiprocessing, sys, time
from icre.utils.lock import locked

def load():
    print("held", flush=True)
    time.sleep(60)

with locked(sys.argv[1]):
    multiprocessing.get_context("fork").Process(target=load).start()
    time.sleep(60)
"""


def test_a_killed_process_leaves_no_lock(tmp_path):
    """Nor do the processes that load images for it, which outlive it for some seconds."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, start_new_session=True
    ) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match=str(holder.pid)), locked(tmp_path):
            pass
        holder.kill()
        holder.wait()
        with locked(tmp_path):
            pass
        os.killpg(holder.pid, signal.SIGKILL)
    assert not (tmp_path / ".lock").exists()


def test_one_of_many_gets_the_lock(tmp_path):
    with ThreadPoolExecutor(8) as workers:
        assert sum(workers.map(_tries, [str(tmp_path)] * 200)) >= 1
    assert list(tmp_path.iterdir()) == [tmp_path / "count"]
    assert (tmp_path / "count").read_text() == "ok"


def _tries(folder: str) -> int:
    try:
        with locked(folder):
            count = Path(folder) / "count"
            assert not (count.exists() and count.read_text() == "busy")
            count.write_text("busy")
            count.write_text("ok")
            return 1
    except UserError:
        return 0


def test_the_configs_that_are_compared_are_whole(small_run):
    checkpoint = read_checkpoint(small_run / "model_final.pth")
    assert checkpoint["identities"]["count"] == 10
    assert yaml.safe_load(checkpoint["config"])["SOLVER"]["MAX_EPOCH"] == 2


# ranks of one machine


def listening() -> set[str]:
    """Addresses (hexadecimal, as in /proc/net/tcp) on which this user's process group listens."""
    sockets = set()
    for process in (os.getpid(), os.getppid()):
        for link in Path(f"/proc/{process}/fd").iterdir():
            try:
                sockets.add(os.readlink(link))
            except OSError:
                continue
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                found.add(fields[1].split(":")[0])
    return found


def _rank(args) -> None:
    from fastreid.utils import comm

    assert comm.all_gather(comm.get_rank()) == [0, 1]
    found = comm.all_gather(sorted(listening()))
    if comm.is_main_process():
        Path(args.out).write_text(json.dumps(found))
    comm.synchronize()


@pytest.mark.slow
def test_ranks_listen_on_the_loopback_interface_only(tmp_path, monkeypatch):
    """fast-reid unpickles what ranks send each other."""
    import argparse

    from icre.engine.launch import launch

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    out = tmp_path / "listening.json"
    args = argparse.Namespace(
        num_gpus=2, num_machines=1, machine_rank=0, dist_url="auto", out=str(out)
    )
    launch(_rank, args, timeout=60)
    loopback = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}
    assert {address for found in json.loads(out.read_text()) for address in found} <= loopback
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("icre-")] == []
