"""The losses that ICG is compared with: loops, hand-worked values, authors' formulas, edges."""

import math

import pytest
import torch
import torch.nn.functional as F

from fastreid.modeling.losses import triplet_loss

from icre.modeling.losses import Outputs, build_losses
from reference.icg_oracle import (
    center_cluster_loops,
    hetero_center_triplet_loops,
    weighted_triplet_loops,
)
from small_losses import (
    R,
    V,
    as_lists,
    center_cluster,
    hetero_center_triplet,
    ids,
    random_batch,
    weighted_regularized_triplet,
)
from small_model import small_cfg

NAMES = ("HeteroCenterTripletLoss", "CenterClusterLoss", "WeightedRegularizedTripletLoss")
TWO_IDS = ids(0, 0, 1, 1), ids(V, R, V, R)


def total(name: str, features, targets, modalities, *options: object) -> torch.Tensor:
    (loss,) = build_losses(small_cfg("MODEL.LOSSES.NAME", (name,), *options))
    return sum(loss(Outputs(features), targets, modalities).values())


@pytest.mark.parametrize("seed", range(5))
def test_the_functions_equal_loops(seed):
    features, targets, modalities = random_batch(seed, size=10 + 4 * seed)
    f, y, m = as_lists(features, targets, modalities)
    triplet = hetero_center_triplet_loops(f, y, m, 0.3)
    cluster = center_cluster_loops(f, y, 3.0)
    assert triplet > 0 and min(cluster) > 0
    found = hetero_center_triplet(features, targets, modalities, 0.3).item()
    assert found == pytest.approx(triplet, rel=1e-9)
    pull, push = center_cluster(features, targets, 3.0)
    assert (pull.item(), push.item()) == pytest.approx(cluster, rel=1e-9)
    found = weighted_regularized_triplet(features, targets).item()
    assert found == pytest.approx(weighted_triplet_loops(f, y), rel=1e-9)


def test_hetero_center_triplet_by_hand():
    # centres: 0 at 0 (visible) and 2 (infrared), 1 at 3 and 3.5
    f = torch.tensor([[0.0], [2], [3], [3.5]])
    # gaps 2, 2, 0.5, 0.5; nearest other 3, 1, 1, 1.5
    expected = (0 + (0.3 + 2 - 1) + 0 + 0) / 4
    assert hetero_center_triplet(f, *TWO_IDS, 0.3).item() == pytest.approx(expected)


def test_center_cluster_by_hand():
    f = torch.tensor([[0.0], [0], [3], [4]])  # centres: 1 over three images, and 4
    pull, push = center_cluster(f, ids(0, 0, 0, 1), 3.7)
    assert pull.item() == pytest.approx((1 + 1 + 2 + 0) / 4)
    assert push.item() == pytest.approx(0.7)


def test_weighted_regularized_triplet_by_hand():
    f = torch.tensor([[0.0], [1], [3]])
    e = math.exp
    # image 0: positives 0 and 1, negative 3; image 1: positives 1 and 0, negative 2;
    # image 2: positive 0, negatives 3 and 2
    far = (3 * e(-3) + 2 * e(-2)) / (e(-3) + e(-2))
    gaps = [e(1) / (1 + e(1)) - 3, e(1) / (1 + e(1)) - 2, 0 - far]
    expected = sum(math.log1p(e(gap)) for gap in gaps) / 3
    found = weighted_regularized_triplet(f, ids(0, 0, 1)).item()
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("scale", [0.1, 1, 10, 40])
def test_weighted_regularized_triplet_with_the_public_codes_epsilon(scale):
    """Their softmax, line by line (loss.py: softmax_weights, TripletLoss_WRT), in float64."""
    f = scale * random_batch(8)[0].double()
    targets = torch.arange(24) // 4
    same = (targets[:, None] == targets[None]).double()
    distances = torch.cdist(f, f)

    def weights(x, mask):
        shifted = torch.exp(x - (x * mask).amax(dim=1, keepdim=True)) * mask
        return shifted / (shifted.sum(dim=1, keepdim=True) + 1e-6)

    positive = (weights(distances * same, same) * distances).sum(dim=1)
    negative = (weights(-distances * (1 - same), 1 - same) * distances).sum(dim=1)
    expected = F.softplus(positive - negative).mean()
    found = weighted_regularized_triplet(f, targets, 1e-6)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    exact = weighted_regularized_triplet(f, targets)
    assert exact <= found + 1e-6 and (exact < 0.9 * found) == (scale >= 10)


def test_weighted_regularized_triplet_is_fast_reids_on_a_full_batch():
    f = random_batch(8)[0].float()
    targets = torch.arange(24) // 4
    stock = triplet_loss(f, targets, 0.0, False, False)
    found = weighted_regularized_triplet(f, targets)
    torch.testing.assert_close(found, stock, atol=1e-4, rtol=1e-4)


def test_the_authors_code_gives_the_same_on_their_batches():
    """Their code, as it reads, on P x (K visible) then P x (K infrared) images."""
    f, p, k = torch.randn(24, 5, dtype=torch.float64), 3, 4
    targets, modalities = torch.arange(24) // k % p, torch.arange(24) // (p * k)
    centres = torch.stack([chunk.mean(0) for chunk in f.chunk(2 * p)])
    label = torch.arange(2 * p) % p
    distances, same = torch.cdist(centres, centres), label[:, None] == label
    farthest = (distances * same).amax(1)
    nearest = distances.masked_fill(same, 1e9).amin(1)
    expected = (0.3 + farthest - nearest).clamp(min=0).mean()
    torch.testing.assert_close(hetero_center_triplet(f, targets, modalities, 0.3), expected)

    own = torch.stack([f[targets == y].mean(0) for y in targets])
    distances, same = torch.cdist(own, own), targets[:, None] == targets
    pushes = [(3.0 - distances[i][~same[i]]).clamp(min=0).mean() for i in (0, 4, 8)]
    pull, push = center_cluster(f, targets, 3.0)
    torch.testing.assert_close(pull, (f - own).norm(dim=1).mean())
    torch.testing.assert_close(push, sum(pushes) / 3)


def test_perfect_features_cost_nothing_where_there_is_a_margin():
    f = torch.eye(4).repeat_interleave(4, 0)
    batch = f, torch.arange(16) // 4, torch.arange(16) % 2
    assert total(NAMES[0], *batch) == total(NAMES[1], *batch) == 0
    soft = weighted_regularized_triplet(f, batch[1]).item()  # no margin: log(1 + exp(-sqrt 2))
    assert soft == pytest.approx(math.log1p(math.exp(-math.sqrt(2))), rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_one_identity_has_no_negative(name):
    f = torch.tensor([[0.0, 0], [1, 0]], requires_grad=True)
    loss = total(name, f, ids(3, 3), ids(V, R))
    loss.backward()
    assert loss.item() == pytest.approx(0.5 if name == "CenterClusterLoss" else 0)
    assert torch.isfinite(f.grad).all()


@pytest.mark.parametrize("name", NAMES)
def test_one_modality_still_has_other_identities(name):
    f = torch.tensor([[1.0, 0], [1, 0.1], [0.9, 0.1]], requires_grad=True)
    loss = total(name, f, ids(0, 0, 1), ids(V, V, V))
    loss.backward()
    assert loss > 0 and f.grad.any() and torch.isfinite(f.grad).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("norm", ["True", "False"])
def test_an_empty_batch_gives_a_differentiable_zero(name, norm):
    node = {NAMES[0]: "HC_TRIPLET", NAMES[1]: "CENTER_CLUSTER", NAMES[2]: "WRT"}[name]
    f = torch.empty(0, 8, requires_grad=True)
    loss = total(name, f, ids(), ids(), f"MODEL.LOSSES.{node}.NORM", norm)
    loss.backward()
    assert loss == 0 and f.grad.shape == (0, 8)


@pytest.mark.parametrize("name", NAMES)
def test_coinciding_points_and_extreme_values_give_finite_gradients(name):
    targets, modalities = torch.arange(8) // 4, torch.arange(8) % 2
    for features in (torch.ones(8, 3), torch.zeros(8, 3), 1e15 * torch.randn(8, 3)):
        f = features.requires_grad_()
        loss = total(name, f, targets, modalities)
        loss.backward()
        assert torch.isfinite(loss) and torch.isfinite(f.grad).all()


def test_gradients_are_those_of_the_formulas():
    features, targets, modalities = random_batch(1, size=9, dim=3)
    features.requires_grad_()
    for function in (
        lambda f: hetero_center_triplet(f, targets, modalities, 0.3),
        lambda f: sum(center_cluster(f, targets, 2.5)),
        lambda f: weighted_regularized_triplet(f, targets),
    ):
        assert torch.autograd.gradcheck(function, (features,))


@pytest.mark.parametrize("name", NAMES)
def test_autocast_leaves_the_loss_in_float32(name):
    features, targets, modalities = random_batch(5)
    expected = total(name, features.float(), targets, modalities)
    with torch.autocast("cpu", torch.bfloat16):
        found = total(name, features.float(), targets, modalities)
    assert found == expected and found.dtype == torch.float32


def test_keys_reach_the_losses():
    features, targets, modalities = random_batch(7)
    batch = features.float(), targets, modalities
    for name, node in zip(NAMES, ("HC_TRIPLET", "CENTER_CLUSTER", "WRT")):
        key = f"MODEL.LOSSES.{node}"
        one = total(name, *batch)
        torch.testing.assert_close(total(name, *batch, f"{key}.SCALE", 0.5), one / 2)
        normed = total(name, *batch, f"{key}.NORM", True)
        scaled = 9 * features.float(), targets, modalities
        torch.testing.assert_close(total(name, *scaled, f"{key}.NORM", True), normed)
        assert normed != one
        if node != "WRT":
            assert total(name, *batch, f"{key}.MARGIN", 5.0) > one
