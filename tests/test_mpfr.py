"""MPFR against loops; its grid, its stages, and its replacement if it is off."""

import numpy as np
import pytest
import torch

from icre.modeling.mpfr import ALIGNMENTS, MASKS, MPFR, StageClues, build_clues
from icre.utils.errors import UserError
from reference.enhance_oracle import as_arrays, mpfr_loops, resize_loops
from small_model import CHANNELS, random_maps, randomise_norms, small_cfg

THREE = ("layer1", "layer2", "layer3")


def some_mpfr(*stages: str, dim: int = 5, **options: object) -> MPFR:
    torch.manual_seed(0)
    mpfr = MPFR(channels={stage: CHANNELS[stage] for stage in stages}, dim=dim, **options)
    randomise_norms(mpfr)
    return mpfr.eval()


@pytest.mark.parametrize(
    "stages, options",
    [
        (THREE, {}),
        (("layer4", "layer2"), {}),
        (THREE, {"align": "bilinear"}),
        (THREE, {"mask": "softmax"}),
        (THREE, {"mask": "cbam"}),
        (THREE, {"fuse": "concat"}),
        (THREE, {"instance_norm": True}),
        (
            ("layer3",),
            {"align": "bilinear", "mask": "cbam", "fuse": "concat", "instance_norm": True},
        ),
    ],
)
def test_mpfr_equals_loops(stages, options):
    maps, mpfr = random_maps(), some_mpfr(*stages, **options)
    clues, masks = mpfr(maps)
    arrays = {name: x.double().numpy() for name, x in maps.items()}
    expected_clues, expected_masks = mpfr_loops(arrays, as_arrays(mpfr), list(stages), **options)
    assert (expected_clues > 0).any() and tuple(masks) == stages
    assert expected_masks.std() > 0.01
    np.testing.assert_allclose(clues.detach().numpy(), expected_clues, atol=1e-5)
    found = torch.cat(list(masks.values()), dim=1).detach().numpy()
    np.testing.assert_allclose(found, expected_masks, atol=1e-5)


def test_softmax_masks_sum_to_one():
    masks = some_mpfr(*THREE, mask="softmax")(random_maps())[1]
    torch.testing.assert_close(sum(masks.values()), torch.ones(2, 1, 4, 2))


def test_masks_by_hand():
    # two stages of one channel, 1 and 3 everywhere; each mask reads its own stage
    aligned = [torch.full((1, 1, 2, 1), 1.0), torch.full((1, 1, 2, 1), 3.0)]
    for name, expected in (
        ("sigmoid", [1 / (1 + np.exp(-1)), 1 / (1 + np.exp(-3))]),
        ("softmax", [1 / (1 + np.exp(2)), 1 / (1 + np.exp(-2))]),
    ):
        masks = MASKS[name](2, 1)
        masks.conv.weight.data = torch.eye(2).view(2, 2, 1, 1)
        torch.nn.init.zeros_(masks.conv.bias)
        found = masks(aligned)[0, :, 0, 0]
        torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float32))
    cbam = MASKS["cbam"](1, 2)
    torch.nn.init.zeros_(cbam[0].bias)
    torch.nn.init.zeros_(cbam[0].weight)
    cbam[0].weight.data[0, :, 3, 3] = torch.tensor([1.0, 10.0])  # the centre: mean + 10 maximum
    map_ = torch.tensor([0.0, 0.2]).view(1, 2, 1, 1)
    assert cbam([map_]).item() == pytest.approx(1 / (1 + np.exp(-(0.1 + 10 * 0.2))))


def test_bilinear_by_hand():
    x = torch.tensor([[[[0.0, 1, 2, 3]]]])
    assert ALIGNMENTS["bilinear"](x, (1, 2)).flatten().tolist() == [0.5, 2.5]
    assert ALIGNMENTS["avg"](x, (1, 2)).flatten().tolist() == [0.5, 2.5]
    assert ALIGNMENTS["bilinear"](x, (1, 1)).item() == 1.5
    twice = ALIGNMENTS["bilinear"](x[..., :2], (1, 4)).flatten().tolist()
    assert twice == [0, 0.25, 0.75, 1]


def test_instance_norm_removes_scale_and_offset_of_a_channel():
    mpfr, maps = some_mpfr(*THREE, instance_norm=True), random_maps()
    a, norm = torch.rand(2, 5, 4, 2), mpfr.instance_norms[0]
    torch.testing.assert_close(norm(3 * a + 7), norm(a), atol=1e-3, rtol=0)
    assert norm(a).mean((2, 3)).allclose(norm.bias, atol=1e-5)
    assert not torch.allclose(mpfr(maps)[0], some_mpfr(*THREE)(maps)[0])


def test_clues_without_mpfr_are_the_aligned_stage():
    maps = random_maps()
    clues = StageClues(stage="layer1", channels=4, dim=5).eval()
    found, masks = clues(maps)
    resized = np.stack([resize_loops(x.double().numpy(), (4, 2)) for x in maps["layer1"]])
    weight = clues.align.project[0].weight.detach().double().numpy()[:, :, 0, 0]
    expected = np.maximum(np.einsum("dc,bchw->bdhw", weight, resized), 0)
    assert masks == {} and found.shape == (2, 5, 4, 2)
    np.testing.assert_allclose(found.detach().numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("mask", MASKS)
def test_masks_stay_in_range_and_finite_for_extreme_maps(mask):
    maps = {name: 1e4 * x for name, x in random_maps().items()}
    clues, masks = some_mpfr(*THREE, mask=mask)(maps)
    assert torch.isfinite(clues).all()
    assert all(((mask >= 0) & (mask <= 1)).all() for mask in masks.values())


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mask": "softmax", "fuse": "concat"},
        {"mask": "cbam", "align": "bilinear", "instance_norm": True},
    ],
)
def test_gradient_of_mpfr_in_float64(options):
    maps = {name: x.double().requires_grad_() for name, x in random_maps(batch=1).items()}
    mpfr = some_mpfr("layer1", "layer3", dim=2, **options).double()

    def clues_of(layer1: torch.Tensor, layer3: torch.Tensor) -> torch.Tensor:
        return mpfr({"layer1": layer1, "layer3": layer3, "layer4": maps["layer4"]})[0]

    assert torch.autograd.gradcheck(clues_of, (maps["layer1"], maps["layer3"]))


def test_build_reads_the_keys():
    full = build_clues(small_cfg("MODEL.MPFR.STAGES", ("layer2", "layer3", "layer4")), CHANNELS)
    assert isinstance(full, MPFR) and tuple(full.align) == ("layer2", "layer3", "layer4")
    off = build_clues(small_cfg("MODEL.MPFR.ENABLED", False), CHANNELS)
    assert isinstance(off, StageClues) and off.align.stage == "layer3"


@pytest.mark.parametrize("stages", [("layer1", "layer5"), (), ("layer1", "layer1")])
def test_unknown_stage_lists_the_names(stages):
    with pytest.raises(UserError, match=r"MPFR\.STAGES.*layer1, layer2"):
        build_clues(small_cfg("MODEL.MPFR.STAGES", stages), CHANNELS)


@pytest.mark.parametrize("key", ["ALIGN", "MASK", "FUSE"])
def test_build_reads_the_options(key):
    with pytest.raises(UserError, match=rf"MODEL\.MPFR\.{key}.*'odd'.*: \w+, \w+"):
        build_clues(small_cfg(f"MODEL.MPFR.{key}", "odd"), CHANNELS)
    assert not build_clues(small_cfg(), CHANNELS).instance_norms
    assert (
        len(build_clues(small_cfg("MODEL.MPFR.INSTANCE_NORM", True), CHANNELS).instance_norms) == 3
    )
