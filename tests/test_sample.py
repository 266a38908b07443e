"""`icre try`, the model and the crops that come with the package, and checkpoints made small."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import icre
from icre.commands import export, try_it
from icre.config import load_config
from icre.inference.shipped import SAMPLE, WEIGHTS, find_weights
from icre.runs.checkpoint import read_checkpoint, write_checkpoint
from icre.runs.release import release
from icre.runs.resume import check_split
from icre.utils.errors import UserError

IMAGES = sorted((SAMPLE / "images").rglob("*.jpg"))


def test_what_comes_with_the_package_is_small_and_has_its_record():
    assert WEIGHTS.stat().st_size < 6_000_000
    assert len(IMAGES) == 200 and len({path.parent.name for path in IMAGES}) == 20
    content = json.loads((SAMPLE / "record.json").read_text())
    assert content["environment"]["versions"]["torch"]
    assert {one["protocol"] for one in content["records"]} >= {"sysu-all-single"}
    assert all(0 < one["Rank-1"]["mean"] < 100 for one in content["records"])


@pytest.mark.slow
def test_try_finds_people(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert try_it.main([]) == 0
    said = capsys.readouterr().out
    page = tmp_path / "icre-try/answers.html"
    assert str(page) in said and said.count("| 1      |") == 5
    assert "<img" in page.read_text()
    assert try_it.main([]) == 2  # never over what is there
    assert "--out" in capsys.readouterr().err


@pytest.mark.slow
def test_it_recognises_people_far_better_than_chance():
    """Of the first infrared image of each person, the best of 160 visible ones; chance is 5 %."""
    model = icre.load("synthvi-small")
    night = [path for path in IMAGES if path.parts[-3] == "cam3"]
    day = [path for path in IMAGES if path.parts[-3] in ("cam1", "cam4", "cam5")]
    similarity = model(night, modality="infrared") @ model(day, modality="visible").T
    best = similarity.argmax(1)
    hits = [day[row].parent.name == path.parent.name for path, row in zip(night, best)]
    assert len(night) == 20 and np.mean(hits) > 0.3


def test_a_path_wins_over_the_name_of_a_shipped_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_weights("synthvi-small") == WEIGHTS
    Path("synthvi-small").mkdir()
    assert find_weights("synthvi-small") == Path("synthvi-small")
    with pytest.raises(UserError, match="synthvi-large is missing"):
        icre.load("synthvi-large")


def test_a_released_checkpoint_is_half_of_what_features_need(tmp_path):
    model = {
        "heads.weight": torch.ones(5, 4),
        "losses.0.neck.weight": torch.ones(3),
        "backbone.weight": torch.linspace(-2, 2, 12).reshape(3, 4),
        "backbone.count": torch.tensor(7),
    }
    source = tmp_path / "full.pth"
    write_checkpoint(
        {"model": model, "optimizer": {"state": torch.ones(9)}, "config": "SEED: 1\n"}, source
    )
    release(source, tmp_path / "small.pth")
    found = read_checkpoint(tmp_path / "small.pth")
    assert set(found) == {"model", "config"} and found["config"] == "SEED: 1\n"
    assert set(found["model"]) == {"backbone.weight", "backbone.count"}
    assert found["model"]["backbone.weight"].dtype == torch.float16
    assert found["model"]["backbone.count"] == 7
    error = (found["model"]["backbone.weight"].float() - model["backbone.weight"]).abs().max()
    assert 0 < error < 2e-3


def test_a_released_checkpoint_still_says_what_it_was_trained_on(tmp_path):
    source = tmp_path / "model.pth"
    cfg = load_config(options=["DATASETS.TESTS", "('SYSUMM01',)"])
    config = "DATASETS: {COMBINEALL: true}\n"
    model = {"backbone.weight": torch.ones(2)}
    write_checkpoint({"model": model, "config": config, "datasets": ["SYSUMM01"]}, source)
    release(source, tmp_path / "small.pth")
    with pytest.raises(UserError, match="COMBINEALL"):
        check_split(cfg, read_checkpoint(tmp_path / "small.pth"), "small.pth")


def test_a_checkpoint_is_not_replaced_by_its_release(tmp_path, capsys):
    source = tmp_path / "model.pth"
    write_checkpoint({"model": {"backbone.weight": torch.ones(2)}, "config": "SEED: 1\n"}, source)
    before = source.read_bytes()
    words = ["--weights", str(source), "--out", str(tmp_path), "--format", "checkpoint"]
    assert export.main(words) == 2
    assert "name another folder" in capsys.readouterr().err and source.read_bytes() == before


@pytest.mark.parametrize("value", [1e6, float("nan"), float("inf")])
def test_weights_that_half_precision_does_not_hold_are_refused(value, tmp_path):
    source = tmp_path / "full.pth"
    write_checkpoint({"model": {"backbone.weight": torch.tensor([1.0, value])}}, source)
    with pytest.raises(UserError, match=r"backbone\.weight"):
        release(source, tmp_path / "small.pth")
    assert not (tmp_path / "small.pth").exists()


@pytest.mark.parametrize("more", [["--single"], ["--modality", "visible"], ["SEED", "1"]])
def test_options_of_other_formats_are_refused(more, tmp_path, capsys):
    words = ["--weights", "synthvi-small", "--out", str(tmp_path / "x"), "--format", "checkpoint"]
    assert export.main([*words, *more]) == 2
    assert "--format checkpoint" in capsys.readouterr().err and not (tmp_path / "x").exists()
