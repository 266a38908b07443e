"""What goes wrong around a run ends in one line that says what to do, and loses nothing."""

import errno
import json
import multiprocessing
import os
import re
import signal
import time
from pathlib import Path

import pytest
import torch
from hypothesis import strategies as st

from conftest import train, train_status, words
from icre.data.dataset import CrossModalDataset
from icre.engine import session
from icre.engine.hooks import TrainingCheckpointer
from icre.engine.step import Step
from icre.engine.trainer import Trainer
from icre.engine.validation import BestOnValidation
from icre.runs.resume import truncate_scalars
from icre.utils import cli
from icre.utils.errors import STOPPED, UserError
from icre.utils.files import read_bytes, read_json
from icre.utils.run_folder import RunFolder
from small_runs import SMALL, assert_same_end, load


def ends(root: Path, output: Path, capsys, *options: str, status: int = 2) -> str:
    """The one line in which a run ends."""
    assert train_status(root, output, *SMALL, *options) == status
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err + captured.out
    (line,) = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    return line


@pytest.mark.slow
def test_a_loss_that_is_not_finite_names_step_terms_and_files(
    demo_root, tmp_path, capsys, monkeypatch
):
    forward = Step.run
    steps = []

    def poison(step, *args, **kwargs):
        if len(steps) == 6:
            with torch.no_grad():
                next(step.model.parameters()).fill_(torch.nan)
        steps.append(1)
        forward(step, *args, **kwargs)

    monkeypatch.setattr(Step, "run", poison)
    line = ends(demo_root, tmp_path, capsys, "SOLVER.CHECKPOINT_ITERS", "1")
    assert re.search("step 7: .*loss_cls nan, loss_icg_list nan.* 32 images", line)
    told = json.loads((tmp_path / "not_finite_rank0.json").read_text())
    assert (told["step"], told["terms"]["loss_cls"]) == (7, "nan")
    assert len(told["files"]) == 32 and all(Path(path).is_file() for path in told["files"])
    assert load(tmp_path, "model_last")["iteration"] == 6
    assert all(value.isfinite().all() for value in load(tmp_path, "model_last")["model"].values())


def first_training_image(root: Path) -> Path:
    ids = (root / "SYSU-MM01/exp/train_id.txt").read_text().split(",")
    return next((root / f"SYSU-MM01/cam1/{int(ids[0]):04d}").glob("*.jpg"))


@pytest.mark.slow
def test_an_image_that_breaks_in_mid_training_stops_the_run(
    own_root, tmp_path, capsys, monkeypatch
):
    # it breaks after the run has looked for such images
    monkeypatch.setattr(session, "verify_datasets", lambda *args, **kwargs: None)
    broken = first_training_image(own_root)
    broken.write_bytes(broken.read_bytes()[:300])
    line = ends(own_root, tmp_path / "out", capsys, "DATALOADER.NUM_WORKERS", "1")
    assert str(broken) in line


@pytest.mark.slow
def test_or_the_next_image_of_its_kind_takes_its_place(own_root, tmp_path, capsys):
    broken = first_training_image(own_root)
    broken.write_bytes(b"no image")
    train(own_root, tmp_path / "out", *SMALL, "DATALOADER.CORRUPT", "replace")
    said = capsys.readouterr().out
    (other,) = set(re.findall(rf"{broken}: .*; replaced by (\S+)", said))
    assert Path(other).parent.name == broken.parent.name and "cam3" not in other


def test_no_other_person_and_no_other_modality_takes_its_place(tmp_path):
    def read(index, path, modality, seed):
        if path != "whole":
            raise UserError(f"cannot read image {path}")
        return {"at": index}

    items = [("broken", "a", 1), ("whole", "b", 1), ("whole", "a", 2), ("gone", "a", 1)]
    data = CrossModalDataset(items, [0, 0, 1, 0], read, relabel=True, replace=True)
    assert [data[1]["at"], data[2]["at"]] == [1, 2]
    for index in (0, 3):
        with pytest.raises(UserError, match=items[index][0]):
            data[index]
    items.append(("whole", "a", 1))
    data = CrossModalDataset(items, [0, 0, 1, 0, 0], read, relabel=True, replace=True)
    assert [data[0]["at"], data[3]["at"]] == [4, 4]


@pytest.mark.slow
@pytest.mark.parametrize("busy", ["build_hooks", "before_epoch", "run_step"])
def test_a_worker_that_is_killed_ends_the_run(busy, demo_root, tmp_path, capsys, monkeypatch):
    """Whatever the trainer is busy with then: torch's signal handler raises in the midst of it."""
    read, main = CrossModalDataset._read, os.getpid()
    method = getattr(Trainer, busy)

    def slow(trainer):
        time.sleep(1)
        return method(trainer)

    def die(data, index, draw):
        if os.getpid() != main:
            os.kill(os.getpid(), signal.SIGKILL)
        return read(data, index, draw)

    monkeypatch.setattr(CrossModalDataset, "_read", die)
    monkeypatch.setattr(Trainer, busy, slow)
    line = ends(demo_root, tmp_path, capsys, "DATALOADER.NUM_WORKERS", "1", status=1)
    assert "DataLoader worker (pid" in line and "go on with --resume" in line


@pytest.mark.slow
def test_a_worker_that_hangs_ends_the_run(demo_root, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(CrossModalDataset, "_read", lambda data, index, draw: time.sleep(600))
    options = words("DATALOADER.NUM_WORKERS 1 DATALOADER.TIMEOUT 1")
    line = ends(demo_root, tmp_path, capsys, *options, status=1)
    assert "timed out after 1 seconds" in line and "DATASETS.ROOT" in line


@pytest.mark.slow
def test_sigterm_to_all_processes_still_ends_in_a_checkpoint(
    demo_root, tmp_path, capsys, monkeypatch
):
    """As schedulers send it: the workers get it too, and before their trainer."""
    run, before = Step.run, set(multiprocessing.active_children())

    def ask_everybody(step, *args, **kwargs):
        for worker in set(multiprocessing.active_children()) - before:
            os.kill(worker.pid, signal.SIGTERM)
        time.sleep(0.2)
        run(step, *args, **kwargs)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Step, "run", ask_everybody)
    line = ends(demo_root, tmp_path, capsys, "DATALOADER.NUM_WORKERS", "2", status=STOPPED)
    assert "SIGTERM after step 1;" in line
    assert load(tmp_path, "model_last")["iteration"] == 1
    assert set(multiprocessing.active_children()) <= before


@pytest.mark.slow
def test_sigterm_while_scoring_leaves_at_once(demo_root, tmp_path, capsys, monkeypatch):
    def ask(trainer):
        os.kill(os.getpid(), signal.SIGTERM)
        pytest.fail("still here")

    monkeypatch.setattr(Trainer, "_evaluate", ask)
    assert "SIGTERM" in ends(demo_root, tmp_path, capsys, status=STOPPED)
    assert load(tmp_path)["epoch"] == 1


@pytest.mark.slow
def test_a_full_disk_loses_nothing_saved(demo_root, tmp_path, capsys, monkeypatch):
    train(demo_root, tmp_path / "whole", *SMALL)
    save, saved = torch.save, []

    def fill(data, file):
        if len(saved) == 3:
            try:
                file.write(b"half a checkpoint")
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            finally:
                raise RuntimeError("unexpected pos 17 vs 12")  # as torch.save does
        saved.append(save(data, file))

    monkeypatch.setattr(torch, "save", fill)
    options = ("SOLVER.CHECKPOINT_ITERS", "1")
    line = ends(demo_root, tmp_path / "full", capsys, *options)
    assert "model_last.pth" in line and os.strerror(errno.ENOSPC) in line
    monkeypatch.setattr(torch, "save", save)
    assert load(tmp_path / "full", "model_last")["iteration"] == 3
    assert load(tmp_path / "full", "model_last_1")["iteration"] == 2
    assert not list((tmp_path / "full").glob(".*"))
    train(demo_root, tmp_path / "full", "--resume", *SMALL, *options)
    assert_same_end(tmp_path / "whole", tmp_path / "full")


def test_a_place_that_cannot_be_written_is_one_line(demo_root, tmp_path, capsys):
    (tmp_path / "file").write_text("no folder")
    assert f"{tmp_path / 'file'}" in ends(demo_root, tmp_path / "file/out", capsys)


def test_only_the_machines_refusals_lose_their_traceback(capsys):
    def raises(number):
        raise OSError(number, os.strerror(number), "some/file")

    for number in (errno.ENOSPC, errno.EROFS, errno.EACCES):
        assert cli.run(lambda: raises(number)) == 2
        assert "some/file" in capsys.readouterr().err
    with pytest.raises(OSError):
        cli.run(lambda: raises(errno.ENOENT))


@pytest.mark.slow
def test_scalars_of_steps_that_are_trained_again_are_forgotten(demo_root, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def die(hook):
        if hook.trainer.iter == 8:
            raise Killed

    monkeypatch.setattr(TrainingCheckpointer, "after_step", die)
    with pytest.raises(Killed):
        train(demo_root, tmp_path, *SMALL, "TEST.EVAL_PERIOD", "1")
    monkeypatch.undo()
    scalars = tmp_path / "scalars.json"
    with open(scalars, "a") as file:
        file.write('{"iteration": 7, "total_loss": 1.0}\n{"iteration": 8, "tot')
    train(demo_root, tmp_path, "--resume", *SMALL, "TEST.EVAL_PERIOD", "1")
    lines = [json.loads(line) for line in scalars.read_text().splitlines()]
    assert [line["iteration"] for line in lines if "total_loss" in line] == [4, 9]
    assert [line["iteration"] for line in lines if "metric" in line] == [4, 9]


def test_forgetting_keeps_whole_lines_of_kept_steps(tmp_path):
    path = tmp_path / "scalars.json"
    lines = ['{"iteration": 3, "total_loss": 2.0}', '{"iteration": 4, "metric": 3.0}']
    path.write_text("\n".join([*lines, '{"iteration": 5, "total_loss": 1.0}', "[]", "7", '{"half']))
    truncate_scalars(path, 5)
    assert path.read_text().splitlines() == lines


@pytest.mark.slow
def test_the_fault_suite_counts_what_is_lost(monkeypatch, capsys):
    from faults import __main__ as suite
    from faults import inputs

    def crash(path):
        raise KeyError(path)

    monkeypatch.setattr(suite, "prepare", lambda *args: None)
    monkeypatch.setattr(inputs, "MAKERS", (inputs._images,))
    monkeypatch.setattr(inputs, "read_image", crash)
    assert suite.main(["--parts", "inputs", "--inputs", "1"]) == 1
    said = capsys.readouterr().out.splitlines()
    lost = [line for line in said if line.startswith("LOST: ")]
    kinds = len(inputs.SUFFIXES)
    assert len(lost) == kinds and all("images" in line and "KeyError" in line for line in lost)
    assert re.fullmatch(rf"faults: 0 kills, \d+ inputs, 0 ranks, lost {kinds}", said[-1])


@pytest.mark.parametrize("end", ["hang", "crash", "other error"])
@pytest.mark.slow
def test_the_fault_suite_sees_readers_that_hang_or_crash(end, monkeypatch, tmp_path):
    from faults import inputs
    from faults.runs import Faults

    def read(path):
        if end == "hang":
            time.sleep(60)
        if end == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        raise KeyError if end == "other error" else UserError("fine")

    monkeypatch.setattr(inputs, "LONGEST", 1)
    kind = inputs.Kind("any", tmp_path / "file", st.binary(max_size=3), read)
    (tmp_path / "file").touch()
    monkeypatch.setattr(inputs, "MAKERS", (lambda *args: [kind],))
    monkeypatch.setattr(inputs, "_nodes", lambda path: [])
    faults = Faults()
    inputs.break_files(tmp_path, tmp_path / "folder", 1, faults)
    assert faults.lost == 1


def test_what_reads_files_refuses_what_is_none(tmp_path):
    """Pipes, devices and folders in place of a file: no reader waits for them."""
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to("/dev/zero")
    for path in (pipe, link, tmp_path):
        with pytest.raises(UserError, match="regular file"):
            read_json(path)
    (tmp_path / "large").write_bytes(bytes(100))
    with pytest.raises(UserError, match="100 bytes"):
        read_bytes(tmp_path / "large", 99)
    with pytest.raises(UserError, match="cannot read"):
        read_bytes(tmp_path / "missing", 99)


@pytest.mark.parametrize("content", ["[1]", "{}", '[{"epoch": "1"}]', "[{}]", '"text"', "[[]]"])
def test_validation_records_of_another_shape_are_refused(content, tmp_path):
    (tmp_path / "validation.json").write_text(content)
    with pytest.raises(UserError, match=r"validation\.json.*delete it"):
        BestOnValidation(RunFolder(tmp_path))
