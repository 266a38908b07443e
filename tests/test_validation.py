"""The best epoch on held-out identities, and the checkpoint that is kept of it."""

import json

import pytest

from icre.engine.validation import BestOnValidation
from icre.utils.run_folder import RunFolder


def validate(run, start, scores):
    """Add epochs from `start` + 1 on, whose checkpoints hold their number; -> what adds them."""
    best = BestOnValidation(run, start)
    for epoch, score in enumerate(scores, start + 1):
        add(best, epoch, score)
    return best


def add(best, epoch, score):
    checkpoint = best.run.path / "model_last.pth"
    checkpoint.write_text(str(epoch))
    mean = {"mean": score}
    best.add([{"epoch": epoch, "Rank-1": mean, "mAP": mean}], checkpoint)


@pytest.fixture
def run(tmp_path):
    run = RunFolder(tmp_path)
    validate(run, 0, [1, 5, 3, 9])
    assert run.best.read_text() == "4"
    return run


def test_the_best_is_kept_where_it_is_not_trained_again(run, caplog):
    add(BestOnValidation(run, 4), 5, 2)
    assert run.best.read_text() == "4" and BestOnValidation(run, 5).best_epoch == 4
    validate(run, 4, [10, 11])
    assert run.best.read_text() == "6"
    assert "trained again" not in caplog.text


def test_a_worse_best_epoch_replaces_one_that_is_trained_again(run, caplog):
    """The weights of epoch 2 are gone, so no later epoch has to be better than it was."""
    best = BestOnValidation(run, 3)
    (line,) = caplog.messages
    assert "model_best.pth holds epoch 4, which is trained again" in line
    assert not best.knows(3)  # so that the trainer validates what it resumed from
    add(best, 3, 3)
    assert best.best_epoch == 3 and run.best.read_text() == "3"
    add(best, 4, 2)
    add(best, 5, 4)
    assert best.best_epoch == 5 and run.best.read_text() == "5"
    assert [r["epoch"] for r in json.loads(run.validation.read_text())] == [3, 4, 5]


def test_the_best_among_those_before_stays(tmp_path, caplog):
    run = RunFolder(tmp_path)
    validate(run, 0, [1, 5, 3])
    best = validate(run, 2, [4])
    assert best.best_epoch == 2 and run.best.read_text() == "2" and not caplog.messages


def test_a_new_run_in_an_old_folder_says_nothing(run, caplog):
    best = validate(run, 0, [2])
    assert best.best_epoch == 1 and run.best.read_text() == "1" and not caplog.messages
