"""ICG's rank, soft_rank and guided against loops and by hand; edges of all variants."""

import math

import pytest
import torch

from fastreid.layers.pooling import GeneralizedMeanPooling

from icre.modeling.losses import Outputs, build_losses
from icre.modeling.losses.icg import VARIANTS, ICGLoss
from icre.utils.errors import UserError
from reference.icg_oracle import guided_loops, rank_loops, soft_rank_loops
from small_losses import R, V, as_lists, guided, ids, pull_push, random_batch, rank, soft_rank
from small_model import small_cfg

TERMS = {
    "pull_push": ("pull", "push"),
    "rank": ("cross", "intra"),
    "soft_rank": ("list",),
    "guided": ("pull", "push"),
}
TWO_IDS = ids(0, 0, 1, 1), ids(V, R, V, R)


def values(terms: tuple[torch.Tensor, ...]) -> tuple[float, ...]:
    return tuple(term.item() for term in terms)


def call(name: str, features, targets, modalities, rho1=0.5, rho2=0.5, unenhanced=None):
    """Terms of a variant's function, as a tuple."""
    batch = features, targets, modalities
    if name == "soft_rank":
        return (soft_rank(*batch, rho1),)
    if name == "guided":
        before = features.detach() if unenhanced is None else unenhanced
        return guided(*batch, rho1, rho2, before)
    return {"pull_push": pull_push, "rank": rank}[name](*batch, rho1, rho2)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rho1, rho2", [(0.5, 0.1), (0.0, 3.0)])
@pytest.mark.parametrize("norm", [True, False])
def test_rank_equals_loops(seed, rho1, rho2, norm):
    batch = random_batch(seed, size=10 + 4 * seed)
    expected = rank_loops(*as_lists(*batch), rho1, rho2, norm)
    assert expected[0] > 0 and (expected[1] > 0 or rho2 == 0.1)
    assert values(rank(*batch, rho1, rho2, norm=norm)) == pytest.approx(expected, rel=1e-9)


def test_norm_off_ranks_free_centres():
    batch = random_batch(3, size=16)
    batch = (10 * batch[0], *batch[1:])
    free, unit = (
        ICGLoss(scale=1.0, norm=norm, variant="rank", rho1=2.0)(
            Outputs(batch[0].float()), *batch[1:]
        )
        for norm in (False, True)
    )
    expected = rank_loops(*as_lists(*batch), 2.0, 0.1, norm=False)
    assert free["loss_icg_cross"].item() == pytest.approx(expected[0], rel=1e-4)
    assert free["loss_icg_cross"] != unit["loss_icg_cross"]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rho1", [0.3, 0.0, -2.0])
def test_soft_rank_equals_loops(seed, rho1):
    batch = random_batch(seed, size=10 + 4 * seed)
    found = soft_rank(*batch, rho1)
    assert found.item() == pytest.approx(soft_rank_loops(*as_lists(*batch), rho1), rel=1e-9)
    assert found > 0


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rho1, rho2", [(0.0, 0.7), (0.3, 3.0)])
def test_guided_equals_loops(seed, rho1, rho2):
    batch = random_batch(seed, size=10 + 4 * seed)
    before = random_batch(seed + 100, size=10 + 4 * seed)[0]
    expected = guided_loops(*as_lists(*batch), rho1, rho2, before.tolist())
    assert expected[0] > 0 and (expected[1] > 0 or rho2 == 0.7)
    assert values(guided(*batch, rho1, rho2, before)) == pytest.approx(expected, rel=1e-9)


def test_rank_by_hand():
    # unit centres: identity 0 at 0 and 60 degrees, identity 1 at 90 and 180
    f = torch.tensor([[2.0, 0], [0.5, math.sqrt(3) / 2], [0, 5], [-1, 0]])
    cross, intra = rank(f, *TWO_IDS, rho1=0.5, rho2=1.5)
    chord = {d: 2 * math.sin(math.radians(d) / 2) for d in (30, 60, 90, 120, 180)}
    # across: 0v-1r 180, 0r-1v 30; within: 0v-1v 90, 0r-1r 120
    losses = [
        0.5 + chord[60] - chord[180],
        0.5 + chord[60] - chord[30],
        0.5 + chord[90] - chord[30],
        0.5 + chord[90] - chord[180],
    ]
    assert cross.item() == pytest.approx(sum(max(x, 0) for x in losses) / 4, rel=1e-5)
    assert intra.item() == pytest.approx(0.1 * (1.5 - chord[90]) / 2, rel=1e-4)


def test_soft_rank_by_hand():
    # identity 0 at 0 and 3, identity 1 at 4, visible only: two features with one negative each
    f = torch.tensor([[0.0], [3], [4]])
    found = soft_rank(f, ids(0, 0, 1), ids(V, R, V), rho1=0.5)
    losses = [math.log(1 + math.exp(0.5 + 3 - 4)), math.log(1 + math.exp(0.5 + 3 - 1))]
    assert found.item() == pytest.approx(sum(losses) / 2, rel=1e-6)


def test_soft_rank_is_a_smooth_hinge_over_all_negatives():
    # far from the hinge it is rho_1 + gap - distance to the near negatives, or 0
    f = torch.tensor([[0.0], [50], [20], [20], [1e4], [1e4]])
    found = soft_rank(f, ids(0, 0, 1, 1, 2, 2), ids(V, R, V, R, V, R), rho1=1.0)
    # both centres of identity 1 are equally near, hence the log 2
    expected = [1 + 50 - 20 + math.log(2), 1 + 50 - 30 + math.log(2), 0, 0, 0, 0]
    assert found.item() == pytest.approx(sum(expected) / 6, rel=1e-4)


def test_guided_by_hand():
    f = torch.tensor([[0.0, 0], [0, 0.4], [1, 0], [1, 0.2]])  # gaps 0.4 and 0.2
    before = torch.tensor([[0.0, 0], [0, 0.3], [1, 0], [1, 0.9]])  # gaps 0.3 and 0.9
    pull, push = guided(f, *TWO_IDS, 0.05, 1.5, before)
    assert pull.item() == pytest.approx((0.4 - 0.3 + 0.05) / 2, rel=1e-5)
    assert push.item() == pytest.approx(1.5 - math.hypot(1, 0.1), rel=1e-5)


def test_guided_has_no_gradient_on_the_unenhanced_feature():
    f, before = (random_batch(seed)[0].requires_grad_() for seed in (0, 1))
    _, targets, modalities = random_batch(0)
    sum(guided(f, targets, modalities, 0.3, 0.7, before)).backward()
    assert f.grad.any() and before.grad is None


@pytest.mark.parametrize("name", ["pull_push", "rank", "guided"])
def test_perfect_features_cost_nothing(name):
    f = torch.eye(4).repeat_interleave(4, 0).requires_grad_()
    loss, margins = VARIANTS[name]
    own = (getattr(loss(), one) for one in margins)
    terms = call(name, f, torch.arange(16) // 4, torch.arange(16) % 2, *own)
    sum(terms).backward()
    assert values(terms) == (0, 0) and not f.grad.any()


@pytest.mark.parametrize("name", VARIANTS)
def test_one_identity_has_no_other_to_keep_away_from(name):
    f = torch.tensor([[0.0, 1], [1, 0]], requires_grad=True)
    first, *second = call(name, f, ids(3, 3), ids(V, R))
    sum(second, first).backward()
    alone = {"pull_push": math.sqrt(2) - 0.5, "rank": 0, "soft_rank": 0, "guided": 0.5}
    assert first.item() == pytest.approx(alone[name])
    assert sum(second) == 0 and torch.isfinite(f.grad).all()


@pytest.mark.parametrize("name", VARIANTS)
def test_one_modality_has_no_cross_modal_term(name):
    f = torch.tensor([[1.0, 0], [1, 0.1], [0.9, 0.3]], requires_grad=True)
    first, *second = call(name, f, ids(0, 0, 1), ids(V, V, V))
    sum(second, first).backward()
    assert first == 0 and torch.isfinite(f.grad).all()
    assert all(term > 0 for term in second)  # soft_rank has the first alone


def test_rank_leaves_out_an_identity_of_one_modality_but_meets_it():
    # identity 1 is infrared only: a negative of 0v, without a triplet of its own
    f = torch.tensor([[1.0, 0], [0, 1.0], [math.cos(0.2), math.sin(0.2)]])
    cross, intra = rank(f, ids(0, 0, 1), ids(V, R, R), 0.5, 0.1)
    assert cross.item() == pytest.approx(0.5 + math.sqrt(2) - 2 * math.sin(0.1), rel=1e-5)
    assert intra == 0


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("norm", [True, False])
def test_an_empty_batch_gives_a_differentiable_zero(variant, norm):
    f = torch.empty(0, 8, requires_grad=True)
    outputs = Outputs(f, deep=torch.empty(0, 8, 2, 1), pool=GeneralizedMeanPooling())
    terms = ICGLoss(scale=1.0, norm=norm, variant=variant)(outputs, ids(), ids())
    total = sum(terms.values())
    total.backward()
    assert total == 0 and f.grad.shape == (0, 8)


@pytest.mark.parametrize("name", VARIANTS)
def test_coinciding_points_give_finite_gradients(name):
    f = torch.ones(8, 3, requires_grad=True)
    terms = call(name, f, torch.arange(8) // 4, torch.arange(8) % 2)
    sum(terms).backward()
    assert sum(terms) > 0 and torch.isfinite(f.grad).all()


@pytest.mark.parametrize("scale", [1e-12, 1e6, 1e11])  # GeM cubes
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("norm", [True, False])
def test_extreme_values_stay_finite(scale, variant, norm):
    features, targets, modalities = random_batch(3)
    f = (scale * features).float().requires_grad_()
    outputs = Outputs(f, deep=f.detach().view(24, 5, 1, 1), pool=GeneralizedMeanPooling())
    loss = ICGLoss(scale=1.0, norm=norm, variant=variant)
    total = sum(loss(outputs, targets, modalities).values())
    total.backward()
    assert torch.isfinite(total) and torch.isfinite(f.grad).all()


@pytest.mark.parametrize("name", VARIANTS)
def test_gradients_are_those_of_the_formula(name):
    features, targets, modalities = random_batch(1, size=9, dim=3)
    before = random_batch(2, size=9, dim=3)[0]
    features.requires_grad_()
    rho1, rho2 = (2.5, 0.3) if name == "pull_push" else (0.6, 2.5)  # no term is 0
    assert all(x > 0 for x in call(name, features, targets, modalities, rho1, rho2, before))
    assert torch.autograd.gradcheck(
        lambda f: call(name, f, targets, modalities, rho1, rho2, before), (features,)
    )


@pytest.mark.parametrize("name", VARIANTS)
def test_order_of_images_and_names_of_identities_do_not_matter(name):
    features, targets, modalities = random_batch(2)
    order = torch.randperm(len(targets))
    before = random_batch(3)[0]
    expected = call(name, features, targets, modalities, 0.6, 2.5, before)
    found = call(
        name, features[order], 100 - targets[order], 1 - modalities[order], 0.6, 2.5, before[order]
    )
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("variant", VARIANTS)
def test_autocast_leaves_the_loss_in_float32(variant):
    features, targets, modalities = random_batch(5)
    f = features.float()
    deep = 1 + torch.rand(24, 5, 3, 2).bfloat16()
    outputs = Outputs(f, deep=deep, pool=GeneralizedMeanPooling())
    loss = ICGLoss(scale=1.0, norm=True, variant=variant, rho1=0.5)
    expected = loss(outputs, targets, modalities)
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(outputs, targets, modalities)
    assert found == expected and all(x.dtype == torch.float32 for x in found.values())


def test_margins_default_to_the_variants_own():
    for variant, rho1, rho2 in (
        ("pull_push", 0.7, 0.01),
        ("rank", 0.5, 0.1),
        ("soft_rank", 0.3, None),
        ("guided", 0, 0.7),
    ):
        key = ("MODEL.LOSSES.NAME", ("ICGLoss",), "MODEL.LOSSES.ICG.VARIANT", variant)
        (loss,) = build_losses(small_cfg(*key))
        names = VARIANTS[variant].margins
        expected = [one for one in (rho1, rho2) if one is not None]
        assert [getattr(loss.loss, name) for name in names] == expected
        (loss,) = build_losses(small_cfg(*key, "MODEL.LOSSES.ICG.RHO1", 0.4))
        assert [getattr(loss.loss, name) for name in names] == [0.4, *expected[1:]]


def test_lambda_and_normalisation_act_on_every_variant():
    features, targets, modalities = random_batch(4)
    for variant, known in VARIANTS.items():
        rho2 = 0.4 if len(known.margins) == 2 else None

        def loss(scale: float, grow: float, norm: bool = True) -> dict[str, torch.Tensor]:
            f = grow * features
            deep = 0.5 + f.view(24, 5, 1, 1).abs()
            outputs = Outputs(f, deep=deep, pool=GeneralizedMeanPooling())
            made = ICGLoss(scale=scale, norm=norm, variant=variant, rho1=0.9, rho2=rho2)
            return made(outputs, targets, modalities)

        one = loss(1.0, 1.0)
        assert set(one) == {f"loss_icg_{term}" for term in TERMS[variant]}
        assert all(value > 0 for value in one.values())
        for name, value in loss(0.5, 1.0).items():
            torch.testing.assert_close(value, one[name] / 2)
        assert sum(loss(1.0, 1.0, norm=False).values()) != sum(one.values())


def test_unknown_variant_lists_the_names():
    with pytest.raises(UserError, match=r"ICG\.VARIANT.*'pull'.*pull_push, rank, soft_rank"):
        ICGLoss(scale=1.0, norm=True, variant="pull")


@pytest.mark.parametrize("variant", ["pull_push", "rank", "soft_rank"])
def test_the_loss_of_the_clue_map_is_that_of_its_pooled_features(variant):
    features, targets, modalities = random_batch(7)
    clues = 1 + torch.rand(24, 6, 3, 2)
    pooled = clues.pow(3).mean((2, 3)).pow(1 / 3)
    outputs = Outputs(features.float(), clues=clues, pool=GeneralizedMeanPooling())

    def terms(maps, outputs):
        loss = ICGLoss(scale=2.0, norm=False, variant=variant, rho1=0.9, maps=maps)
        return loss(outputs, targets, modalities)

    both, alone = terms(("enhanced", "clues"), outputs), terms(("enhanced",), outputs)
    of_clues = terms(("enhanced",), Outputs(pooled))
    assert both == alone | {
        name.replace("loss_icg", "loss_icg_clues"): pytest.approx(value.item(), rel=1e-5)
        for name, value in of_clues.items()
    }
    assert of_clues != alone
