"""A run that is stopped after any step and resumed ends with the weights of an unbroken one."""

import contextlib
import itertools
import json
import re
from pathlib import Path

import pytest
import torch

from conftest import train, train_status, words
from icre.engine.hooks import Evaluation, LayerFreeze
from icre.engine.step import Step
from icre.engine.trainer import Trainer
from icre.runs.checkpoint import read_checkpoint
from icre.runs.resume import finished_steps, rng_state
from icre.utils.checksum import add_checksum, content_hash, strip_checksum
from icre.utils.errors import STOPPED, UserError
from small_runs import SMALL, STOCK, TINY_MODEL, asked_to_stop, assert_same_end, load


@pytest.fixture(scope="module")
def unbroken(demo_root, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("unbroken")
    train(demo_root, output, *SMALL)
    return output


@pytest.fixture(scope="module")
def unbroken_stock(demo_root, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("unbroken_stock")
    train(demo_root, output, *TINY_MODEL, config=STOCK)
    return output


def stop(root: Path, output: Path, steps: int, *options: str, **config: str) -> None:
    with asked_to_stop(steps):
        assert train_status(root, output, "--resume", *options, **config) == STOPPED


@pytest.mark.slow
@pytest.mark.parametrize(
    "config, options", [("Demo/icre_r18.yml", SMALL), (STOCK, TINY_MODEL)], ids=["icre", "stock"]
)
def test_stopped_and_resumed_is_as_unbroken(request, demo_root, tmp_path, capsys, config, options):
    """Also where the number of workers changes on the way."""
    whole = request.getfixturevalue("unbroken" if options is SMALL else "unbroken_stock")
    stop(demo_root, tmp_path, 1, *options, "DATALOADER.NUM_WORKERS", "2", config=config)
    assert re.search("error: .* SIGTERM after step 1;.* --resume", capsys.readouterr().err)
    assert load(tmp_path, "model_last")["iteration"] == 1
    stop(demo_root, tmp_path, 6, *options, config=config)
    assert load(tmp_path, "model_last")["iteration"] == 7
    train(demo_root, tmp_path, "--resume", *options, "DATALOADER.NUM_WORKERS", "2", config=config)
    assert_same_end(tmp_path, whole)
    assert (tmp_path / "metrics.json").read_text() == (whole / "metrics.json").read_text()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.slow
def test_stopped_at_an_epochs_end(unbroken, demo_root, tmp_path, capsys):
    steps = load(unbroken)["iteration"] // 2
    stop(demo_root, tmp_path, steps, *SMALL)
    assert re.search("error: .* SIGTERM after epoch 1;.* --resume", capsys.readouterr().err)
    train(demo_root, tmp_path, "--resume", *SMALL)
    assert_same_end(tmp_path, unbroken)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        "SOLVER.AMP.ENABLED True SOLVER.AMP.DTYPE float16 TEST.EVAL_PERIOD 1",
        "MODEL.FREEZE_LAYERS ['backbone'] SOLVER.FREEZE_ITERS 5 TEST.EVAL_PERIOD 1",
        "DATALOADER.SAMPLER_TRAIN ImbalancedDatasetSampler SOLVER.OPT Adam",
        "DATALOADER.SAMPLER_TRAIN BalancedIdentitySampler INPUT.BATCHED False",
    ],
    ids=["float16 scaler", "frozen layers", "torch's sampler", "NumPy's sampler"],
)
def test_all_that_a_run_depends_on_is_kept(demo_root, tmp_path, monkeypatch, options):
    # float16 is slow on a CPU: the scaler alone is used
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: contextlib.nullcontext())
    options = (*SMALL, *words(options))
    train(demo_root, tmp_path / "whole", *options)
    stop(demo_root, tmp_path / "broken", 4, *options)
    train(demo_root, tmp_path / "broken", "--resume", *options)
    assert_same_end(tmp_path / "whole", tmp_path / "broken")
    assert ("grad_scaler" in load(tmp_path / "broken")) == ("float16" in options)


@pytest.mark.slow
def test_frozen_layers_move_after_their_steps_only(demo_root, tmp_path, monkeypatch):
    seen = []
    before = LayerFreeze.before_step

    def note(hook):
        before(hook)
        block = hook.trainer.model.backbone.stages["layer1"][0]
        weight, norm = block.conv1.weight, block.bn1
        seen.append((weight.detach().clone(), norm.running_mean.clone(), norm.training))

    monkeypatch.setattr(LayerFreeze, "before_step", note)
    frozen = words("MODEL.FREEZE_LAYERS ['backbone'] SOLVER.FREEZE_ITERS 4 TEST.EVAL_PERIOD 1")
    train(demo_root, tmp_path, *SMALL, *frozen)
    assert [training for *_, training in seen] == [False] * 4 + [True] * (len(seen) - 4)
    for kept in (0, 1):
        moved = [not torch.equal(a[kept], b[kept]) for a, b in itertools.pairwise(seen)]
        assert moved == [False] * 4 + [True] * (len(seen) - 5)


@pytest.mark.slow
def test_an_evaluation_draws_from_no_generator_of_the_run(demo_root, tmp_path, monkeypatch):
    states = []
    evaluate = Trainer._evaluate

    def note(trainer):
        before = rng_state()
        result = evaluate(trainer)
        states.append((before, rng_state()))
        return result

    monkeypatch.setattr(Trainer, "_evaluate", note)
    options = words("SOLVER.MAX_EPOCH 1 DATALOADER.NUM_WORKERS 1")
    train(demo_root, tmp_path, *SMALL, *options)
    ((before, after),) = states
    assert torch.equal(before["torch"], after["torch"]) and before["python"] == after["python"]
    assert torch.equal(before["numpy"][1], after["numpy"][1])


@pytest.mark.slow
def test_the_last_checkpoints_are_kept(demo_root, tmp_path):
    options = words(
        "SOLVER.CHECKPOINT_ITERS 2 SOLVER.CHECKPOINT_KEEP 2 SOLVER.CHECKPOINT_PERIOD 1 "
        "SOLVER.MAX_EPOCH 3"
    )
    train(demo_root, tmp_path, *SMALL, *options)
    steps = {path.stem: load(tmp_path, path.stem)["iteration"] for path in tmp_path.glob("*.pth")}
    assert steps == {
        "model_final": 15,
        "model_last": 14,
        "model_last_1": 12,
        "model_0000": 5,
        "model_0001": 10,
    }


def cut_the_newest(output):
    newest = output / "model_last.pth"
    newest.write_bytes(newest.read_bytes()[: newest.stat().st_size // 2])
    return 6


def lose_the_newest(output):
    (output / "model_last.pth").unlink()  # as a kill between two renames would
    return 6


def lose_the_tag(output):
    (output / "last_checkpoint").unlink()
    return 8


def garble_the_tag(output):
    (output / "last_checkpoint").write_bytes(b"\x00\xff../model_final.pth")
    return 8


@pytest.mark.slow
@pytest.mark.parametrize("damage", [cut_the_newest, lose_the_newest, lose_the_tag, garble_the_tag])
def test_a_damaged_folder_resumes_from_what_is_whole(unbroken, demo_root, tmp_path, capsys, damage):
    options = (*SMALL, "SOLVER.CHECKPOINT_ITERS", "2")
    stop(demo_root, tmp_path, 8, *options)
    assert load(tmp_path, "model_last_1")["iteration"] == 6
    step = damage(tmp_path)
    train(demo_root, tmp_path, "--resume", *options)
    assert f"after epoch 1 of 2, step {step}" in capsys.readouterr().out
    assert_same_end(tmp_path, unbroken)


def test_nothing_whole_is_one_line(demo_root, tmp_path, capsys):
    (tmp_path / "model_last.pth").write_bytes(b"half")
    (tmp_path / "model_last_1.pth").write_bytes(b"")
    assert train_status(demo_root, tmp_path, "--resume", *SMALL) == 2
    assert f"{tmp_path}/model_last.pth" in capsys.readouterr().err


def test_another_number_of_steps_an_epoch_is_refused():
    """The data set has grown or shrunk."""
    with pytest.raises(UserError, match=r"x\.pth .*step 6 in epoch 2, .* 10 steps"):
        finished_steps({"epoch": 0, "iteration": 6}, "x.pth", 10)


@pytest.mark.slow
def test_an_epoch_that_was_not_validated_is_validated_on_resuming(demo_root, tmp_path, monkeypatch):
    options = (
        *SMALL,
        *words("DATASETS.VALIDATION True TEST.EVAL_PERIOD 1"),
        *words("SOLVER.IMS_PER_BATCH 16 DATALOADER.NUM_INSTANCE 2"),
    )
    train(demo_root, tmp_path / "whole", *options)

    def die(hook):
        raise KeyboardInterrupt

    for _ in range(2):  # before the first, then before the last epoch's validation
        monkeypatch.setattr(Evaluation, "after_epoch", die)
        assert train_status(demo_root, tmp_path / "broken", "--resume", *options) == 130
        monkeypatch.undo()
    train(demo_root, tmp_path / "broken", "--resume", *options)
    for name in ("validation.json", "metrics.json"):
        one, other = (
            json.loads((tmp_path / run / name).read_text()) for run in ("whole", "broken")
        )
        assert one == other


def test_a_failure_in_the_last_epoch_is_not_evaluated(demo_root, tmp_path, monkeypatch):
    class Broken(Exception):
        pass

    def fail(step, log):
        raise Broken

    monkeypatch.setattr(Step, "run", fail)
    monkeypatch.setattr(Trainer, "_evaluate", lambda trainer: pytest.fail("evaluated"))
    with pytest.raises(Broken):
        train(demo_root, tmp_path, *SMALL, "SOLVER.MAX_EPOCH", "1")


@pytest.mark.slow
def test_a_checkpoint_with_a_wrong_byte_is_refused(unbroken, tmp_path):
    """torch.load takes the byte for a weight."""
    content = bytearray((unbroken / "model_final.pth").read_bytes())
    weight = load(unbroken)["model"]["heads.weight"]
    at = content.find(weight.numpy().tobytes())
    assert at > 0
    content[at + 3] ^= 0x40
    path = tmp_path / "model_last.pth"
    path.write_bytes(content)
    assert not torch.equal(load(tmp_path, "model_last")["model"]["heads.weight"], weight)
    with pytest.raises(UserError, match=f"{path} "):
        read_checkpoint(path)


def test_every_part_of_a_checkpoint_has_its_share_in_the_digest():
    content = {
        "a": torch.arange(3.0),
        "b": [1, (2, "x")],
        "c": {"d": torch.tensor(1, dtype=torch.bfloat16)},
    }
    others = [
        {**content, "a": torch.tensor([0.0, 1.0, 2.5])},
        {**content, "a": torch.arange(3)},
        {**content, "a": torch.arange(3.0).view(1, 3)},
        {**content, "b": [1, (2, "y")]},
        {**content, "c": {"e": content["c"]["d"]}},
        {**content, "f": None},
    ]
    assert len({content_hash(one) for one in (content, *others)}) == 1 + len(others)
    assert content_hash({**content, "a": torch.arange(6.0)[::2] / 2}) == content_hash(content)
    assert (
        "digest" not in strip_checksum(add_checksum(content), "x")
        and strip_checksum(content, "x") == content
    )
