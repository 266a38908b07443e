"""How the clues and the deep map become F_e: four combinations of parts, three ways to join."""

import pytest
import torch
import torch.nn.functional as F

from icre.modeling.enhance import OUTPUTS, Enhancement, NoEnhancement, build_enhancement
from icre.modeling.mpfr import MPFR, StageClues
from icre.modeling.sdce import SDCE, CluesOnly
from icre.utils.errors import UserError
from small_model import CHANNELS, random_maps, randomise_norms, small_cfg


@pytest.mark.parametrize(
    "mpfr, sdce, clues, distil",
    [(True, True, MPFR, SDCE), (False, True, StageClues, SDCE), (True, False, MPFR, CluesOnly)],
)
def test_each_switch_picks_its_part(mpfr, sdce, clues, distil):
    options = ("MODEL.MPFR.ENABLED", mpfr, "MODEL.SDCE.ENABLED", sdce, "MODEL.SDCE.INIT_SCALE", 0.5)
    enhance = build_enhancement(small_cfg(*options), CHANNELS)
    assert isinstance(enhance.clues, clues) and isinstance(enhance.distil, distil)
    maps = random_maps()
    enhanced = enhance(maps)
    # BN0 in training: zero mean and a deviation of its weight in every channel
    assert enhanced.branch.mean((0, 2, 3)).abs().max() < 1e-5
    torch.testing.assert_close(
        enhanced.branch.std((0, 2, 3), correction=0), torch.full((10,), 0.5), atol=0.01, rtol=0
    )
    assert torch.equal(enhanced.map, maps["layer4"] + enhanced.branch)


def test_both_off_is_the_deep_map():
    options = ("MODEL.MPFR.ENABLED", False, "MODEL.SDCE.ENABLED", False)
    enhance = build_enhancement(small_cfg(*options), CHANNELS)
    maps = random_maps()
    assert isinstance(enhance, NoEnhancement) and not list(enhance.parameters())
    assert torch.equal(enhance(maps).map, maps["layer4"])


def test_at_layer3_the_clues_and_the_enhanced_map_have_its_grid_and_channels():
    maps = random_maps()
    maps["layer4"] = maps["layer4"][..., ::2, ::2]  # a last stride of 2
    enhance = build_enhancement(small_cfg("MODEL.SDCE.PLACE", "layer3"), CHANNELS)
    del maps["layer4"]  # not needed
    enhanced = enhance(maps)
    assert enhanced.deep is maps["layer3"] and enhanced.map.shape == maps["layer3"].shape
    assert enhanced.clues.shape[2:] == maps["layer3"].shape[2:]
    assert torch.equal(enhanced.map, maps["layer3"] + enhanced.branch)


def test_without_mpfr_the_clues_are_of_the_stage_before_the_place():
    for place, stage in (("layer4", "layer3"), ("layer3", "layer2")):
        options = ("MODEL.MPFR.ENABLED", False, "MODEL.SDCE.PLACE", place)
        enhance = build_enhancement(small_cfg(*options), CHANNELS)
        assert (enhance.clues.align.stage, enhance.clues.align.place) == (stage, place)


@pytest.mark.parametrize("training", [True, False])
def test_zero_init_scale_is_exactly_the_deep_map(training):
    enhance = build_enhancement(small_cfg("MODEL.SDCE.INIT_SCALE", 0.0), CHANNELS).train(training)
    maps = random_maps()
    assert isinstance(enhance, Enhancement)
    assert torch.equal(enhance(maps).map, maps["layer4"])


def test_sum_is_float32_under_autocast():
    enhance = build_enhancement(small_cfg("MODEL.SDCE.INIT_SCALE", 1e-3), CHANNELS)
    maps = {name: x.bfloat16() for name, x in random_maps().items()}
    with torch.autocast("cpu", torch.bfloat16):
        enhanced = enhance(maps)
    assert enhanced.map.dtype == enhanced.branch.dtype == torch.float32
    # bfloat16 would round a branch of a thousandth away
    assert (enhanced.map != maps["layer4"].float()).float().mean() > 0.9


@pytest.mark.parametrize("output", OUTPUTS)
def test_each_output_by_its_formula(output):
    options = ("MODEL.SDCE.OUTPUT", output, "MODEL.SDCE.INIT_SCALE", 0.5)
    torch.manual_seed(0)
    enhance, maps = build_enhancement(small_cfg(*options), CHANNELS).eval(), random_maps()
    randomise_norms(enhance)
    found = enhance(maps)
    deep, new = maps["layer4"], enhance.distil(maps["layer4"], enhance.clues(maps)[0])
    read = {"residual": new, "replace": new, "concat": torch.cat([deep, new], dim=1)}[output]
    mixed = torch.einsum("oc,bchw->bohw", enhance.project.weight[:, :, 0, 0], read)
    bn = enhance.bn0
    branch = F.batch_norm(mixed, bn.running_mean, bn.running_var, bn.weight, bn.bias)
    torch.testing.assert_close(found.branch, branch, atol=1e-4, rtol=1e-4)
    expected = deep + branch if output == "residual" else branch
    torch.testing.assert_close(found.map, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("output, scale", [("residual", 0.25), ("replace", 1), ("concat", 1)])
def test_init_scale_is_of_the_residual_alone(output, scale):
    options = ("MODEL.SDCE.OUTPUT", output, "MODEL.SDCE.INIT_SCALE", 0.25)
    assert (build_enhancement(small_cfg(*options), CHANNELS).bn0.weight == scale).all()


def test_unknown_output_lists_the_names():
    with pytest.raises(UserError, match=r"SDCE\.OUTPUT.*'add'.*residual, replace"):
        build_enhancement(small_cfg("MODEL.SDCE.OUTPUT", "add"), CHANNELS)
