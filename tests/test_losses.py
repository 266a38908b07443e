"""ICG's pull_push against loops and by hand; the registry and fast-reid's losses."""

import math

import pytest
import torch

from icre.compat import registered

from fastreid.layers.pooling import GeneralizedMeanPooling
from fastreid.modeling.losses import cross_entropy_loss, triplet_loss

from icre.modeling.losses import LOSS_REGISTRY, Outputs, build_losses
from icre.modeling.losses.icg import ICGLoss
from icre.utils.errors import UserError
from reference.icg_oracle import icg_loops
from small_losses import R, V, ids, pull_push, random_batch
from small_model import small_cfg


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rho1, rho2", [(0.7, 0.01), (3.0, 1.0)])
def test_pull_push_equals_loops(seed, rho1, rho2):
    features, targets, modalities = random_batch(seed, size=10 + 4 * seed)
    found = pull_push(features, targets, modalities, rho1, rho2)
    expected = icg_loops(features.tolist(), targets.tolist(), modalities.tolist(), rho1, rho2)
    assert expected[0] > 0
    assert expected[1] > 0 or rho1 == 0.7
    torch.testing.assert_close(torch.stack(found), torch.tensor(expected, dtype=torch.float64))


def test_pull_push_by_hand():
    # identity 0: v at (0,0) and (0,2), r at (3,1) -> centres (0,1), (3,1), joint (1.5,1)
    # identity 1: v and r at (1.5,2)              -> joint (1.5,2), one away from identity 0's
    f = torch.tensor([[0.0, 0], [0, 2], [3, 1], [1.5, 2], [1.5, 2]])
    pull, push = pull_push(f, ids(0, 0, 0, 1, 1), ids(V, V, R, V, R), rho1=1.25, rho2=0.5)
    # distances to the other modality's centre: sqrt(10), sqrt(10), 3, 0, 0
    assert pull.item() == pytest.approx((2 * (math.sqrt(10) - 0.5) + 2.5) / 5, rel=1e-6)
    assert push.item() == pytest.approx(0.25, rel=1e-6)


def test_a_pure_modality_gap_costs_the_gap():
    f = torch.tensor([[0.0, 0], [0, 0], [0.3, 0], [0.3, 0]])
    pull, _ = pull_push(f, ids(4, 4, 4, 4), ids(V, V, R, R), rho1=0.7, rho2=0.01)
    assert pull.item() == pytest.approx(0.29, rel=1e-5)


def test_perfect_features_cost_nothing():
    f = torch.eye(4).repeat_interleave(4, 0).requires_grad_()
    pull, push = pull_push(f, torch.arange(16) // 4, torch.arange(16) % 2, rho1=0.7, rho2=0.01)
    (pull + push).backward()
    assert pull == 0 and push == 0 and not f.grad.any()


def test_identity_of_one_modality_keeps_its_centre_and_has_no_pull():
    f = torch.tensor([[0.0, 0], [0, 0.4], [0.5, 0.2]])
    pull, push = pull_push(f, ids(0, 0, 1), ids(V, V, R), rho1=0.7, rho2=0.01)
    assert pull == 0
    assert push.item() == pytest.approx(0.2, rel=1e-5)  # centres (0,0.2) and (0.5,0.2)


def test_one_identity_has_no_push():
    f = torch.tensor([[0.0, 0], [1, 0]], requires_grad=True)
    pull, push = pull_push(f, ids(3, 3), ids(V, R), rho1=0.7, rho2=0.01)
    assert push == 0 and pull.item() == pytest.approx(0.99)


@pytest.mark.parametrize("rho2", [0.0, 0.01])
def test_coinciding_points_give_finite_gradients(rho2):
    f = torch.ones(8, 3, requires_grad=True)  # every distance is 0, the square root's pole
    pull, push = pull_push(f, torch.arange(8) // 4, torch.arange(8) % 2, rho1=0.7, rho2=rho2)
    (pull + push).backward()
    assert torch.isfinite(f.grad).all()
    assert push.item() == pytest.approx(0.7)


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1e6, 1e15])
@pytest.mark.parametrize("norm", [True, False])
def test_extreme_values_stay_finite(scale, norm):
    features, targets, modalities = random_batch(3)
    f = (scale * features).float().requires_grad_()
    loss = ICGLoss(scale=1.0, rho1=0.7, rho2=0.01, norm=norm)
    total = sum(loss(Outputs(f), targets, modalities).values())
    total.backward()
    assert torch.isfinite(total) and torch.isfinite(f.grad).all()


def test_normalised_loss_ignores_scale_and_lambda_weighs_it():
    features, targets, modalities = random_batch(4)
    one = ICGLoss(scale=1.0, rho1=1.5, rho2=0.01, norm=True)
    half = ICGLoss(scale=0.5, rho1=1.5, rho2=0.01, norm=True)
    expected = one(Outputs(features), targets, modalities)
    found = half(Outputs(9 * features), targets, modalities)
    assert all(value > 0 for value in expected.values())
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value / 2)


def test_unknown_loss_name_lists_the_known():
    with pytest.raises(UserError, match=r"LOSSES\.NAME.*'IGCLoss'.*ICGLoss"):
        build_losses(small_cfg("MODEL.LOSSES.NAME", ("CrossEntropyLoss", "IGCLoss")))


def test_no_loss_name_is_an_error():
    with pytest.raises(UserError, match=r"LOSSES\.NAME is empty"):
        build_losses(small_cfg("MODEL.LOSSES.NAME", ()))


# what only a published method's own network gives: tests/test_methods.py trains these
OF_METHODS = {
    *("CrossModalityPatternLoss", "OrthogonalEmbeddingLoss"),
    *("ModalityClassifierLoss", "PartSeparationLoss", "PartIDLoss"),
}


@pytest.mark.parametrize("name", sorted(registered(LOSS_REGISTRY).keys() - OF_METHODS))
def test_every_registered_loss_builds_and_has_a_gradient(name):
    features, targets, modalities = random_batch(6)
    f, targets = features.float().requires_grad_(), targets // 7
    (loss,) = build_losses(small_cfg("MODEL.LOSSES.NAME", (name,)))
    outputs = Outputs(
        f,
        cls_outputs=f @ torch.randn(5, 50),
        deep=torch.rand(24, 512, 2, 1, requires_grad=True),
        clues=torch.rand(24, 32, 2, 1, requires_grad=True),
        pool=GeneralizedMeanPooling(),
    )
    losses = loss(outputs, targets, modalities)
    sum(losses.values()).backward()
    assert all(key.startswith("loss_") and value.ndim == 0 for key, value in losses.items())
    touched = [x for x in (f, outputs.deep, outputs.clues) if x.grad is not None]
    assert touched and all(x.grad.abs().sum() > 0 for x in touched)


def test_stock_losses_are_fast_reids_with_their_keys():
    features, targets, modalities = random_batch(7)
    f, logits = features.float(), torch.randn(24, 50)
    cfg = small_cfg(
        "MODEL.LOSSES.NAME",
        ("CrossEntropyLoss", "TripletLoss"),
        "MODEL.LOSSES.CE.EPSILON",
        0.1,
        "MODEL.LOSSES.CE.SCALE",
        2.0,
        "MODEL.LOSSES.TRI.MARGIN",
        0.6,
        "MODEL.LOSSES.TRI.HARD_MINING",
        True,
    )
    found = {}
    for loss in build_losses(cfg):
        found.update(loss(Outputs(f, logits), targets, modalities))
    torch.testing.assert_close(found["loss_cls"], 2 * cross_entropy_loss(logits, targets, 0.1))
    torch.testing.assert_close(found["loss_triplet"], triplet_loss(f, targets, 0.6, False, True))
