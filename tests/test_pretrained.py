"""Pretrained weights by one rule for every model: whole or refused, wrapped or plain, logged."""

import logging
import re
import sys
import types

import pytest
import torch

from fastreid.modeling.backbones import build_backbone, build_resnet_backbone

from conftest import CONFIGS, words
from icre.config import load_config
from icre.modeling import build_model, build_two_stream_resnet_backbone
from icre.utils.errors import UserError
from small_model import randomise_norms, small_cfg

STOCK = words(
    "MODEL.META_ARCHITECTURE Baseline MODEL.BACKBONE.NAME build_resnet_backbone "
    "MODEL.HEADS.NAME EmbeddingHead"
)
KEY = "MODEL.BACKBONE.PRETRAIN_PATH"


def resnet(*options: object):
    return build_resnet_backbone(small_cfg(*options))


def file_of(path, *options: object, change=lambda state: state):
    """The weights of a random ResNet as torchvision's files have them, after `change`."""
    torch.manual_seed(9)
    network = resnet(*options)
    randomise_norms(network)
    torch.save(change({**network.state_dict(), "fc.weight": torch.zeros(1000, 512)}), path)
    return path


def stem(path, *options: object) -> torch.Tensor:
    """The first weights of a model that loads the file."""
    cfg = small_cfg("MODEL.BACKBONE.PRETRAIN", True, KEY, str(path), *options)
    backbone = build_backbone(cfg)
    return (backbone.stems["infrared"] if hasattr(backbone, "stems") else backbone).conv1.weight


WRAPPINGS = {
    "nested": lambda state: {"state_dict": state, "epoch": 3},
    "model": lambda state: {"model": state, "optimizer": {"state": {}}, "step": torch.tensor(3)},
    "net": lambda state: {"net": state},
    "unknown": lambda state: {"weights_of_mine": state},
    "module": lambda state: {f"module.{name}": value for name, value in state.items()},
    "backbone": lambda state: (
        {f"backbone.{name}": value for name, value in state.items()}
        | {"heads.bottleneck.0.weight": torch.ones(512)}
    ),
    "base": lambda state: {"state_dict": {f"module.base.{k}": v for k, v in state.items()}},
}


@pytest.mark.slow
@pytest.mark.parametrize("wrapping, model", [*((w, STOCK) for w in WRAPPINGS), ("base", ())])
def test_a_wrapped_file_is_unwrapped_for_every_model(tmp_path, caplog, wrapping, model):
    caplog.set_level(logging.INFO, "fastreid.icre")
    path = file_of(tmp_path / "r18.pth", change=WRAPPINGS[wrapping])
    torch.manual_seed(9)
    expected = resnet().conv1.weight
    assert torch.equal(stem(path, *model), expected)
    (line,) = [one.getMessage() for one in caplog.records if "pretrained" in one.getMessage()]
    assert str(path) in line and re.search(r"\b100 of the backbone's 100\b", line)


@pytest.mark.slow
def test_mgns_branches_start_from_the_file(tmp_path):
    path = file_of(tmp_path / "r50.pth", "MODEL.BACKBONE.DEPTH", "50x")
    options = ("MODEL.BACKBONE.PRETRAIN", "True", KEY, str(path), "MODEL.HEADS.NUM_CLASSES", "4")
    model = build_model(load_config(CONFIGS / "SYSU/mgn_r50.yml", options), "cpu")
    expected = torch.load(path)["layer4.2.conv3.weight"]
    assert torch.equal(model.b2[1][2].conv3.weight, expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    "theirs, ours, key, model",
    [
        ({}, {"DEPTH": "34x"}, "DEPTH", ()),
        ({}, {"DEPTH": "34x"}, "DEPTH", STOCK),
        ({"DEPTH": "34x"}, {"DEPTH": "18x"}, "DEPTH", STOCK),
        ({"DEPTH": "18x"}, {"DEPTH": "50x"}, "DEPTH", ()),
        ({}, {"WITH_IBN": True}, "WITH_IBN", STOCK),
        ({"WITH_IBN": True}, {}, "WITH_IBN", ()),
        ({}, {"WITH_SE": True}, "WITH_SE", STOCK),
        ({"WITH_SE": True}, {}, "WITH_SE", STOCK),
    ],
)
def test_a_file_of_another_network_is_refused(tmp_path, theirs, ours, key, model):
    def options(chosen):
        return [x for name, value in chosen.items() for x in (f"MODEL.BACKBONE.{name}", value)]

    path = file_of(tmp_path / "other.pth", *options(theirs))
    width = 2048 if ours.get("DEPTH") == "50x" else 512
    with pytest.raises(UserError, match=rf"other\.pth.*\d.*MODEL\.BACKBONE\.{key}"):
        stem(path, *options(ours), "MODEL.BACKBONE.FEAT_DIM", width, *model)


def half(state):
    return dict(list(state.items())[: len(state) // 2])


def poisoned(state):
    return state | {"layer1.0.conv1.weight": torch.full((64, 64, 3, 3), float("nan"))}


def quantised(state):
    return state | {"layer1.0.conv1.weight": torch.ones(64, 64, 3, 3, dtype=torch.int8)}


def twice(state):
    one = {f"student.{name}": value for name, value in state.items()}
    return one | {f"teacher.{name}": value + 1 for name, value in state.items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    "change, named",
    [
        (half, "50 of the backbone's|missing"),
        (poisoned, r"layer1\.0\.conv1\.weight"),
        (quantised, r"layer1\.0\.conv1\.weight"),
        (twice, "student.*teacher"),
        (lambda state: list(state.values()), "no state dict"),
        (lambda state: {"epoch": 3, "state_dict": "gone"}, "no state dict"),
        (lambda state: {"fc.weight": state["fc.weight"]}, "missing"),
        (lambda state: state | {"conv1.weight": torch.ones(1).expand(64, 3, 7, 7)}, "fewer"),
    ],
)
def test_damaged_contents_are_refused(tmp_path, change, named):
    path = file_of(tmp_path / "damaged.pth", change=change)
    with pytest.raises(UserError, match=named) as caught:
        stem(path, *STOCK)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("zipped, model", [(True, STOCK), (False, STOCK), (True, ())])
def test_a_file_cut_in_the_middle_is_refused(tmp_path, zipped, model):
    path = file_of(tmp_path / "cut.pth")
    if not zipped:
        torch.save(torch.load(path), path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"cut\.pth is broken"):
        stem(path, *model)


@pytest.mark.slow
def test_non_local_blocks_keep_their_initial_values_and_are_listed(tmp_path, caplog):
    caplog.set_level(logging.INFO, "fastreid.icre")
    depth = ("MODEL.BACKBONE.DEPTH", "50x", "MODEL.BACKBONE.WITH_NL")
    path = file_of(tmp_path / "r50.pth", *depth, False)
    cfg = small_cfg("MODEL.BACKBONE.PRETRAIN", True, KEY, str(path), *depth, True)
    build_two_stream_resnet_backbone(cfg)
    (line,) = [one.getMessage() for one in caplog.records if "pretrained" in one.getMessage()]
    assert "NL_2.0.g.weight" in line and "265 of" in line


OSNET = (*STOCK, "MODEL.BACKBONE.NAME", "build_osnet_backbone", "MODEL.BACKBONE.DEPTH", "x0_25")
OSNET += ("MODEL.BACKBONE.FEAT_DIM", 128)


@pytest.mark.slow
def test_other_backbones_load_a_named_file_by_the_same_rule(tmp_path):
    source = build_model(small_cfg(*OSNET), "cpu").backbone
    state = {f"module.{name}": value for name, value in source.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "osnet.pth")
    options = ("MODEL.BACKBONE.PRETRAIN", True, KEY, str(tmp_path / "osnet.pth"))
    backbone = build_model(small_cfg(*OSNET, *options), "cpu").backbone
    assert torch.equal(backbone.conv1.conv.weight, source.conv1.conv.weight)
    file_of(tmp_path / "osnet.pth")
    with pytest.raises(UserError, match=r"osnet\.pth.*entries are missing"):
        build_model(small_cfg(*OSNET, *options), "cpu")


def test_fast_reids_own_loading_is_refused_if_it_finds_nothing(tmp_path, monkeypatch):
    """A file of another network in the cache: fast-reid warns, and trains random weights."""
    (tmp_path / "checkpoints").mkdir()
    file_of(tmp_path / "checkpoints" / "osnet_x0_25_imagenet.pth")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cfg = small_cfg(*OSNET, "MODEL.BACKBONE.PRETRAIN", True)
    monkeypatch.setitem(sys.modules, "gdown", None)
    with pytest.raises(UserError, match=r"build_osnet_backbone.*gdown.*PRETRAIN"):
        build_backbone(cfg)
    monkeypatch.setitem(sys.modules, "gdown", types.ModuleType("gdown"))
    with pytest.raises(UserError, match=r"nothing for build_osnet_backbone.*PRETRAIN"):
        build_backbone(cfg)
