"""Backbones of fast-reid, timm and somebody's own: parts, two streams, refusals."""

import importlib.util
import sys

import pytest
import torch
from torch import nn

from icre.compat import registered

from fastreid.modeling.backbones import BACKBONE_REGISTRY, build_backbone
from fastreid.modeling.backbones.regnet.effnet import EffNet
from fastreid.modeling.backbones.regnet.regnet import AnyNet

from icre.modality import NAMES
from icre.modeling import StagedBackbone, TwoStream, build_model
from icre.modeling.backbone import STAGES, staged
from icre.modeling.check import check_model
from icre.utils.errors import UserError
from small_model import BASELINE, small_batch, small_cfg

MIXED = torch.arange(6) % 2
FASTREID = {  # builder: (DEPTH, FEAT_DIM)
    "build_resnet_backbone": ("18x", 512),
    "build_resnext_backbone": ("50x", 2048),
    "build_resnest_backbone": ("50x", 2048),
    "build_osnet_backbone": ("x0_5", 256),
    "build_mobilenetv2_backbone": ("0.5x", 1280),
    "build_mobilenetv3_backbone": ("Small", 1024),
    "build_shufflenetv2_backbone": ("0.5x", 1024),
    "build_repvgg_backbone": ("A0", 1280),
}
TIMM = {  # network: channels of layer4, its size for 64x32 with LAST_STRIDE 1
    "resnet18": (512, (4, 2)),
    "mobilenetv3_small_100": (576, (2, 1)),
    "regnety_002": (368, (4, 2)),
    "convnext_atto": (320, (4, 2)),
    "vit_tiny_patch16_224": (192, (4, 2)),
}
needs_timm = pytest.mark.skipif(not importlib.util.find_spec("timm"), reason="timm is missing")


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(6, 3, 64, 32, generator=torch.Generator().manual_seed(0))


def options(name: str, depth: str, width: int, timm: str = "") -> tuple:
    return (
        *("MODEL.BACKBONE.NAME", name, "MODEL.BACKBONE.DEPTH", depth, "MODEL.BACKBONE.TIMM", timm),
        *("MODEL.BACKBONE.FEAT_DIM", width, "INPUT.SIZE_TEST", (64, 32)),
    )


def randomise(module: nn.Module) -> nn.Module:
    """Statistics and scales other than 0 and 1, which would hide a layer that is left out."""
    generator = torch.Generator().manual_seed(1)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.uniform_(-0.2, 0.2, generator=generator)
            part.weight.data.uniform_(0.5, 1.5, generator=generator)
    return module.eval()


def check_two_streams(model: nn.Module) -> None:
    """Every parameter has a gradient, and each stem sees its own images."""
    losses = model.train()(small_batch())
    sum(losses.values()).backward()
    missing = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not missing
    batch = small_batch()
    before = model.eval()(batch)
    for parameter in model.backbone.stems["infrared"].parameters():
        parameter.data.mul_(-1.5)
    changed = (model(batch) != before).any(dim=1)
    assert torch.equal(changed, batch["modalities"] == NAMES.index("infrared"))


@pytest.mark.slow
@pytest.mark.parametrize("name", FASTREID)
@torch.no_grad()
def test_parts_of_fastreids_backbones_are_the_whole(name, images):
    depth, width = FASTREID[name]
    backbone = randomise(build_backbone(small_cfg(*options(name, depth, width))))
    expected = backbone(images)
    parts = staged(backbone, name)
    maps = parts.stages(parts.stem(images))
    torch.testing.assert_close(maps["layer4"], expected)
    assert {stage: x.shape[1] for stage, x in maps.items()} == parts.channels
    assert [*maps] == [*STAGES] and parts.channels["layer4"] == width
    heights = [x.shape[2] for x in maps.values()]
    assert heights == sorted(heights, reverse=True) and heights[0] > heights[-1]
    assert {id(p) for p in parts.parameters()} == {id(p) for p in backbone.parameters()}


@pytest.mark.parametrize(
    "build",
    [
        lambda: AnyNet(
            stem_type="simple_stem_in", stem_w=8, block_type="res_bottleneck_block",
            ds=[1, 1, 2, 1], ws=[8, 16, 24, 32], ss=[2, 2, 2, 1], bms=[1.0] * 4, gws=[8] * 4,
            se_r=0.25, nc=1, bn_norm="BN",
        ),
        lambda: EffNet(
            1, "BN", stem_w=8, ds=[1] * 7, ws=[8, 8, 16, 16, 24, 24, 32], exp_rs=[1] + [6] * 6,
            se_r=0.25, ss=[1, 2, 2, 2, 1, 2, 1], ks=[3, 3, 5, 3, 5, 5, 3], head_w=64,
        ),
    ],
)  # fmt: skip
@torch.no_grad()
def test_parts_of_those_that_the_package_of_fastreid_cannot_build(build, images):
    # their builders need files that the PyPI package lacks; the classes are whole
    backbone = randomise(build())
    expected = backbone(images)
    parts = staged(backbone, "it")
    maps = parts.stages(parts.stem(images))
    torch.testing.assert_close(maps["layer4"], expected)
    heights = [x.shape[2] for x in maps.values()]
    assert heights == sorted(heights, reverse=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["build_osnet_backbone", "build_mobilenetv2_backbone"])
def test_icre_makes_two_streams_of_fastreids(name):
    torch.manual_seed(0)
    check_two_streams(build_model(small_cfg(*options(name, *FASTREID[name]))))


@needs_timm
@pytest.mark.slow
@pytest.mark.parametrize("name", TIMM)
def test_icre_makes_two_streams_of_timms(name):
    width, size = TIMM[name]
    torch.manual_seed(0)
    model = build_model(small_cfg(*options("build_timm_backbone", "50x", width, name)))
    assert model.backbone(torch.zeros(2, 3, 64, 32), MIXED[:2])["layer4"].shape == (2, width, *size)
    check_two_streams(model)


@needs_timm
@pytest.mark.slow
def test_timms_maps_are_those_of_timm(images):
    import timm

    torch.manual_seed(0)
    backbone = build_backbone(
        small_cfg(*options("build_timm_backbone", "50x", 576, "mobilenetv3_small_100"))
    )
    torch.manual_seed(0)
    theirs = timm.create_model("mobilenetv3_small_100", features_only=True).eval()
    shared = backbone.stages.state_dict()
    state = {name.removeprefix("model."): value for name, value in shared.items()}
    theirs.load_state_dict(state | backbone.stem.state_dict())
    maps = TwoStream(backbone).eval()(images, MIXED)
    for mine, their in zip(maps.values(), theirs(images)[-4:]):
        torch.testing.assert_close(mine, their)


@needs_timm
@pytest.mark.slow
def test_a_timm_backbone_in_fastreids_baseline(images):
    name = "mobilenetv3_small_100"
    cfg = small_cfg(
        *options("build_timm_backbone", "50x", 576, name),
        *("MODEL.META_ARCHITECTURE", "Baseline", "MODEL.HEADS.NAME", "EmbeddingHead"),
        *("MODEL.LOSSES.NAME", ("CrossEntropyLoss",)),
    )
    check_model(cfg)
    assert build_model(cfg).eval()({"images": images}).shape == (6, 576)


@needs_timm
@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_weights_of_timm_from_a_file(suffix, tmp_path):
    import safetensors.torch
    import timm

    theirs = timm.create_model("mobilenetv3_small_100", num_classes=7).state_dict()
    file = tmp_path / f"weights.{suffix}"
    save = torch.save if suffix == "pth" else safetensors.torch.save_file
    save(theirs, file)
    weights = ("MODEL.BACKBONE.PRETRAIN", True, "MODEL.BACKBONE.PRETRAIN_PATH", str(file))
    name = ("build_timm_backbone", "50x", 576, "mobilenetv3_small_100")
    backbone = build_backbone(small_cfg(*options(*name), *weights))
    assert torch.equal(backbone.stem.conv_stem.weight, theirs["conv_stem.weight"])
    other = ("build_timm_backbone", "50x", 576, "mobilenetv3_large_100")
    with pytest.raises(UserError, match=r"of another network.*TIMM"):
        build_backbone(small_cfg(*options(*other), *weights))


REFUSED = [
    (("build_vit_backbone", "small", 768), "two streams: it has no channels"),
    (("build_osnet_backbone", "50x", 512), "DEPTH 50x: .*build_osnet_backbone has no such size"),
    (("build_resnet_backbone", "19x", 512), "DEPTH 19x"),
    (("build_regnet_backbone", "400x", 384), "regnet.*yaml, which the PyPI package .* lacks"),
    (("build_osnet_backbone", "x0_5", 512), "FEAT_DIM is 512, but .* yields 256: set it"),
]
REFUSED_TIMM = [
    ("resnet1888", "no network 'resnet1888'; near it are"),
    ("densenet121", "two streams of it cannot be made"),
    ("../model.py", "no network"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("backbone", "said"), REFUSED)
def test_backbones_that_do_not_fit_are_one_line(backbone, said):
    with pytest.raises(UserError, match=said) as caught:
        build_model(small_cfg(*options(*backbone), *BASELINE))
    assert "\n" not in str(caught.value)


@needs_timm
@pytest.mark.slow
@pytest.mark.parametrize(("name", "said"), REFUSED_TIMM)
def test_networks_of_timm_that_do_not_fit_are_one_line(name, said):
    with pytest.raises(UserError, match=said) as caught:
        build_model(small_cfg(*options("build_timm_backbone", "50x", 512, name)))
    assert "MODEL.BACKBONE.TIMM" in str(caught.value) and "\n" not in str(caught.value)


def test_without_timm_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"needs the package timm: pip install 'icre\[timm\]'"):
        build_model(small_cfg(*options("build_timm_backbone", "50x", 512, "resnet18")))


@pytest.mark.parametrize(
    ("name", "timm", "said"),
    [
        ("build_timm_backbone", "", "TIMM is ''.*name a network"),
        ("build_osnet_backbone", "resnet18", "TIMM is 'resnet18'.*set MODEL.BACKBONE.NAME"),
    ],
)
def test_the_key_and_the_builder_belong_together(name, timm, said):
    with pytest.raises(UserError, match=said):
        check_model(small_cfg(*options(name, "50x", 512, timm)))


class Own(nn.Module):
    """An own backbone that keeps the contract without a base class."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.stages = StagedBackbone(
            nn.Identity(),
            {
                name: nn.Sequential(nn.Conv2d(c, c + 4, 3, stride=2, padding=1), nn.ReLU())
                for name, c in zip(STAGES, (4, 8, 12, 16))
            },
            dict(zip(STAGES, (8, 12, 16, 20))),
        ).stages
        self.channels = dict(zip(STAGES, (8, 12, 16, 20)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.stages(self.stem(images))["layer4"]


class OwnTwoStreams(nn.Module):
    """One that takes modalities itself."""

    two_stream = True

    def __init__(self):
        super().__init__()
        self.net = Own()
        self.channels = self.net.channels
        self.offset = nn.Parameter(torch.zeros(2, 3, 1, 1))

    def forward(self, images, modalities):
        offset = self.offset[modalities.to(images.device)]
        return self.net.stages(self.net.stem(images + offset))


@pytest.fixture
def register(monkeypatch):
    """Register a backbone for one test: class -> its name."""

    def register(backbone: type) -> str:
        monkeypatch.setitem(BACKBONE_REGISTRY._obj_map, backbone.__name__, lambda cfg: backbone())
        return backbone.__name__

    return register


@pytest.mark.parametrize("backbone", [Own, OwnTwoStreams])
@pytest.mark.parametrize("specific", [0, 1])
def test_own_backbones_under_icre(backbone, specific, register):
    cfg = small_cfg(
        *options(register(backbone), "50x", 20), "MODEL.BACKBONE.SPECIFIC_STAGES", specific
    )
    check_model(cfg)
    model = build_model(cfg)
    assert isinstance(model.backbone, TwoStream) == (backbone is Own)
    sum(model.train()(small_batch()).values()).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_only_backbones_of_separate_stages_are_enhanced_at_layer3(register):
    at_layer3 = ("MODEL.SDCE.PLACE", "layer3")
    model = build_model(small_cfg(*options(register(Own), "50x", 20), *at_layer3))
    assert model.train()(small_batch())["loss_cls"].isfinite()
    with pytest.raises(UserError, match=r"PLACE layer3 needs a backbone.*OwnTwoStreams has not"):
        build_model(small_cfg(*options(register(OwnTwoStreams), "50x", 20), *at_layer3))


def test_own_backbones_under_fastreids_baseline(register, images):
    stock = ("MODEL.META_ARCHITECTURE", "Baseline", "MODEL.HEADS.NAME", "EmbeddingHead")
    losses = ("MODEL.LOSSES.NAME", ("CrossEntropyLoss",))
    cfg = small_cfg(*options(register(Own), "50x", 20), *stock, *losses)
    check_model(cfg)
    assert build_model(cfg).eval()({"images": images}).shape == (6, 20)
    cfg = small_cfg(*options(register(OwnTwoStreams), "50x", 20), *stock, *losses)
    with pytest.raises(UserError, match=r"OwnTwoStreams has two streams, and .*Baseline"):
        build_model(cfg)


@pytest.mark.parametrize(
    ("lacking", "said"),
    [
        ("channels", "no channels of the maps layer1"),
        ("stem", "no modules stem and stages"),
        ("stages", "no modules stem and stages"),
    ],
)
def test_an_own_backbone_without_the_contract(lacking, said, register):
    class Lacking(Own):
        def __init__(self):
            super().__init__()
            delattr(self, lacking)

    with pytest.raises(UserError, match=f"Lacking .*{said}"):
        build_model(small_cfg(*options(register(Lacking), "50x", 20)))
    assert "Lacking" in registered(BACKBONE_REGISTRY)
