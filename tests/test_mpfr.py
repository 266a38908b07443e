"""MPFR against loops; its grid, its stages, and what stands in for it."""

import numpy as np
import pytest
import torch
from reference.enhance_oracle import as_arrays, mpfr_loops, resize_loops
from small_model import CHANNELS, random_maps, randomise_norms, small_cfg

from icre.errors import UserError
from icre.modeling.mpfr import MPFR, StageClues, build_clues


def some_mpfr(*stages: str, dim: int = 5) -> MPFR:
    torch.manual_seed(0)
    mpfr = MPFR(channels={stage: CHANNELS[stage] for stage in stages}, dim=dim)
    randomise_norms(mpfr)
    return mpfr.eval()


@pytest.mark.parametrize("stages", [("layer1", "layer2", "layer3"), ("layer4", "layer2")])
def test_mpfr_equals_loops(stages):
    maps, mpfr = random_maps(), some_mpfr(*stages)
    clues, masks = mpfr(maps)
    arrays = {name: x.double().numpy() for name, x in maps.items()}
    expected_clues, expected_masks = mpfr_loops(arrays, as_arrays(mpfr), list(stages))
    assert (expected_clues > 0).any() and tuple(masks) == stages
    np.testing.assert_allclose(clues.detach().numpy(), expected_clues, atol=1e-5)
    found = torch.cat(list(masks.values()), dim=1).detach().numpy()
    np.testing.assert_allclose(found, expected_masks, atol=1e-5)


def test_clues_without_mpfr_are_the_aligned_stage():
    maps = random_maps()
    clues = StageClues(stage="layer1", channels=4, dim=5).eval()
    found, masks = clues(maps)
    resized = np.stack([resize_loops(x.double().numpy(), (4, 2)) for x in maps["layer1"]])
    weight = clues.project[0].weight.detach().double().numpy()[:, :, 0, 0]
    expected = np.maximum(np.einsum("dc,bchw->bdhw", weight, resized), 0)
    assert masks == {} and found.shape == (2, 5, 4, 2)
    np.testing.assert_allclose(found.detach().numpy(), expected, atol=1e-4)


def test_masks_stay_in_range_and_finite_for_extreme_maps():
    maps = {name: 1e4 * x for name, x in random_maps().items()}
    clues, masks = some_mpfr("layer1", "layer2", "layer3")(maps)
    assert torch.isfinite(clues).all()
    assert all(((mask >= 0) & (mask <= 1)).all() for mask in masks.values())


def test_gradient_of_mpfr_in_float64():
    maps = {name: x.double().requires_grad_() for name, x in random_maps(batch=1).items()}
    mpfr = some_mpfr("layer1", "layer3", dim=2).double()

    def clues_of(layer1: torch.Tensor, layer3: torch.Tensor) -> torch.Tensor:
        return mpfr({"layer1": layer1, "layer3": layer3, "layer4": maps["layer4"]})[0]

    assert torch.autograd.gradcheck(clues_of, (maps["layer1"], maps["layer3"]))


def test_build_reads_the_keys():
    full = build_clues(small_cfg("MODEL.MPFR.STAGES", ("layer2", "layer3", "layer4")), CHANNELS)
    assert isinstance(full, MPFR) and tuple(full.align) == ("layer2", "layer3", "layer4")
    off = build_clues(small_cfg("MODEL.MPFR.ENABLED", False), CHANNELS)
    assert isinstance(off, StageClues) and off.stage == "layer3"


@pytest.mark.parametrize("stages", [("layer1", "layer5"), ()])
def test_unknown_stage_lists_the_names(stages):
    with pytest.raises(UserError, match=r"STAGES is .*layer1, layer2, layer3, layer4"):
        build_clues(small_cfg("MODEL.MPFR.STAGES", stages), CHANNELS)
