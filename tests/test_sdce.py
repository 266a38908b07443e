"""SDCE against loops, and the sum F_e = X_4 + BN0(...) in all four combinations of its parts."""

import numpy as np
import pytest
import torch
from reference.enhance_oracle import as_arrays, sdce_loops
from small_model import CHANNELS, random_maps, randomise_norms, small_cfg

from icre.errors import UserError
from icre.modeling.enhance import Enhancement, NoEnhancement, build_enhancement
from icre.modeling.mpfr import MPFR, StageClues
from icre.modeling.sdce import SDCE, CluesOnly, to_map, to_tokens


def some_sdce(dim: int = 8, heads: int = 2) -> SDCE:
    torch.manual_seed(0)
    sdce = SDCE(in_channels=10, dim=dim, heads=heads, ffn_ratio=2.0)
    randomise_norms(sdce)
    return sdce.eval()


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_sdce_equals_loops(heads):
    deep, clues, sdce = torch.randn(2, 10, 3, 2), torch.randn(2, 8, 3, 2), some_sdce(heads=heads)
    expected = sdce_loops(
        deep.double().numpy(), clues.double().numpy(), as_arrays(sdce), heads=heads
    )
    np.testing.assert_allclose(sdce(deep, clues).detach().numpy(), expected, atol=1e-4)


def test_tokens_and_maps_are_inverse():
    x = torch.randn(2, 3, 4, 5)
    assert to_tokens(x).shape == (2, 20, 3)
    assert torch.equal(to_tokens(x)[1, 7], x[1, :, 1, 2])
    assert torch.equal(to_map(to_tokens(x), (4, 5)), x)


def test_an_image_attends_only_to_itself():
    deep, clues, sdce = torch.randn(3, 10, 3, 2), torch.randn(3, 8, 3, 2), some_sdce()
    together = sdce(deep, clues)
    alone = torch.cat([sdce(deep[i : i + 1], clues[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone)


def test_clues_change_the_result():
    deep, sdce = torch.randn(1, 10, 3, 2), some_sdce()
    one, two = (sdce(deep, torch.randn(1, 8, 3, 2)) for _ in range(2))
    assert (one - two).abs().max() > 0.01


def test_gradient_of_sdce_in_float64():
    sdce = some_sdce(dim=4).double()
    deep = torch.randn(1, 10, 2, 1, dtype=torch.float64, requires_grad=True)
    clues = torch.randn(1, 4, 2, 1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(sdce, (deep, clues))


def test_heads_that_do_not_divide_are_named():
    with pytest.raises(UserError, match="MODEL.SDCE.HEADS 8 does not divide MODEL.MPFR.DIM 100"):
        SDCE(in_channels=10, dim=100, heads=8)


def test_dropout_acts_in_training_only():
    sdce = SDCE(in_channels=10, dim=8, heads=2, dropout=0.5)
    deep, clues = torch.randn(1, 10, 3, 2), torch.randn(1, 8, 3, 2)
    assert not torch.equal(sdce(deep, clues), sdce(deep, clues))
    assert torch.equal(sdce.eval()(deep, clues), sdce(deep, clues))


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
