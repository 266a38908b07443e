"""The head: GeM and BNNeck by their formulas, float32 under autocast, fast-reid's output keys."""

import pytest
import torch
import torch.nn.functional as F

from fastreid.modeling.heads import build_heads

from icre.modeling import ICREHead
from icre.modeling.head import TEST_FEATURES, all_test_features
from icre.utils.errors import UserError
from small_model import randomise_norms, small_cfg


@pytest.fixture
def head() -> ICREHead:
    torch.manual_seed(0)
    head = build_heads(small_cfg("MODEL.BACKBONE.FEAT_DIM", 16))
    randomise_norms(head)
    return head


def gem(x: torch.Tensor) -> torch.Tensor:
    """(mean of max(x, 1e-6)^3)^(1/3) over positions, in float64."""
    return x.double().clamp(min=1e-6).pow(3).mean((2, 3)).pow(1 / 3)


def test_training_outputs(head):
    x, targets = torch.randn(4, 16, 4, 2), torch.arange(4)
    outputs = head(x, targets)
    f = gem(x)
    assert set(outputs) == {"cls_outputs", "pred_class_logits", "features", "neck"}
    torch.testing.assert_close(outputs["features"].double(), f, atol=1e-5, rtol=1e-4)
    bn = head.bottleneck[0]
    b = F.batch_norm(f.float(), None, None, bn.weight, bn.bias, training=True)
    torch.testing.assert_close(outputs["cls_outputs"], b @ head.weight.T, atol=1e-5, rtol=1e-4)


def test_evaluation_gives_the_neck_feature(head):
    x, bn = torch.randn(4, 16, 4, 2), head.bottleneck[0]
    b = F.batch_norm(gem(x).float(), bn.running_mean, bn.running_var, bn.weight, bn.bias)
    torch.testing.assert_close(head.eval()(x), b, atol=1e-5, rtol=1e-4)


def test_neck_bias_is_frozen_and_classifier_has_none(head):
    trained = {name for name, p in head.named_parameters() if p.requires_grad}
    assert trained == {"weight", "bottleneck.0.weight"}


def test_autocast_changes_nothing(head):
    x, targets = torch.randn(4, 16, 4, 2), torch.arange(4)
    expected = head(x, targets)
    with torch.autocast("cpu", torch.bfloat16):
        found = head(x, targets)
        evaluated = head.eval()(x.bfloat16())
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
    assert evaluated.dtype == torch.float32


def test_gradients_are_finite_for_dead_and_huge_maps(head):
    x = torch.cat([torch.full((2, 16, 4, 2), -1.0), torch.full((2, 16, 4, 2), 1e4)])
    x.requires_grad_()
    head(x, torch.arange(4))["cls_outputs"].square().sum().backward()
    assert torch.isfinite(x.grad).all()


def test_test_feature_before_or_behind_the_neck():
    torch.manual_seed(0)
    options = ("MODEL.BACKBONE.FEAT_DIM", 16, "MODEL.HEADS.TEST_FEAT", "before")
    head, x = build_heads(small_cfg(*options)), torch.randn(4, 16, 4, 2)
    randomise_norms(head)
    found = head.eval()(x)
    torch.testing.assert_close(found.double(), gem(x), atol=1e-5, rtol=1e-4)
    head.test_feat = "after"
    torch.testing.assert_close(head(x), head.bottleneck(found[..., None, None])[..., 0, 0])
    assert not torch.allclose(head(x), found)


def test_both_averages_the_cosines_of_the_two(head):
    x = torch.randn(6, 16, 4, 2)
    head.eval()
    cosines = {}
    for name in ("before", "after", "both"):
        head.test_feat = name
        unit = F.normalize(head(x))
        cosines[name] = unit @ unit.T
    expected = (cosines["before"] + cosines["after"]) / 2
    torch.testing.assert_close(cosines["both"], expected, atol=1e-6, rtol=1e-5)


def test_all_test_features_are_those_that_each_name_gives(head):
    x = torch.randn(4, 16, 4, 2)
    head.eval()
    with all_test_features(torch.nn.Sequential(head)):
        found = head(x)
    assert set(found) == set(TEST_FEATURES)
    for name, feature in found.items():
        head.test_feat = name
        assert torch.equal(head(x), feature), name


def test_unknown_test_feature_lists_the_names():
    with pytest.raises(UserError, match=r"TEST_FEAT.*'neck'.*after, before"):
        build_heads(small_cfg("MODEL.HEADS.TEST_FEAT", "neck"))
