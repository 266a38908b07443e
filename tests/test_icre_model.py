"""The whole model: trains, routes, repeats; its baseline, its health figures, its errors."""

import pytest
import torch

from icre.modality import INFRARED, VISIBLE
from icre.utils.errors import UserError
from small_model import BASELINE, narrow_model, randomise_norms, rows, small_batch, small_model

ALIVE = ("MODEL.SDCE.INIT_SCALE", 1.0)


def step(model, batch, optimiser, dtype=None) -> dict[str, torch.Tensor]:
    with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
        losses = model(batch)
    optimiser.zero_grad()
    sum(losses.values()).backward()
    optimiser.step()
    return losses


def woken(*options: object):
    """A model in evaluation whose stems and norms differ, so that nothing is equal by accident."""
    model = narrow_model(*ALIVE, *options)
    randomise_norms(model.enhance)
    with torch.no_grad():
        model.backbone.stems["infrared"].conv1.weight.mul_(-1)
        model(small_batch(16))  # running statistics of a real batch
    return model.eval()


@pytest.mark.parametrize(
    "options, silent_first",
    [(ALIVE, False), (("MODEL.SDCE.INIT_SCALE", 0.0), True), (BASELINE, False)],
)
def test_every_parameter_gets_a_gradient(options, silent_first):
    model, batch = narrow_model(*options), small_batch()
    trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    step(model, batch, torch.optim.SGD(model.parameters(), lr=0.01))
    dead = [n for n, p in trained if p.grad is None or not p.grad.any()]
    if silent_first:  # BN0 = 0 lets nothing through to MPFR and SDCE in the first step
        assert dead and all(n.startswith("enhance.") for n in dead)
        step(model, batch, torch.optim.SGD(model.parameters(), lr=0.01))
        dead = [n for n, p in trained if p.grad is None or not p.grad.any()]
    assert dead == []


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("options", [ALIVE, BASELINE])
def test_losses_fall(options, dtype):
    model, batch = narrow_model(*options), small_batch()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    totals = [sum(step(model, batch, optimiser, dtype).values()).item() for _ in range(8)]
    assert totals[-1] < 0.7 * totals[0]
    assert model.health["cls_accuracy"] > 0.5


def test_losses_of_a_step_are_named():
    losses = narrow_model()(small_batch())
    assert set(losses) == {"loss_cls", "loss_icg_pull", "loss_icg_push"}
    assert all(value.ndim == 0 and value.dtype == torch.float32 for value in losses.values())


@pytest.mark.parametrize("modality", [VISIBLE, INFRARED])
def test_a_batch_of_one_modality_trains_and_evaluates(modality):
    model, batch = narrow_model(*ALIVE), small_batch()
    batch["modalities"] = torch.full((8,), modality)
    losses = model(batch)
    sum(losses.values()).backward()
    assert losses["loss_icg_pull"] == 0 and losses["loss_cls"] > 0
    assert model.eval()(batch).shape == (8, 64)


def test_permuting_the_batch_permutes_the_features():
    model, batch = woken(), small_batch()
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(batch)[order]
        torch.testing.assert_close(model(rows(batch, order)), expected, atol=1e-4, rtol=1e-4)


def test_evaluation_per_image_equals_per_batch():
    model, batch = woken(), small_batch()
    with torch.no_grad():
        together = model(batch)
        alone = torch.cat([model(rows(batch, slice(i, i + 1))) for i in range(8)])
    assert together.std(dim=0).mean() > 0.01
    torch.testing.assert_close(alone, together, atol=1e-4, rtol=1e-4)


def test_modality_changes_the_feature():
    model, batch = woken(), small_batch()
    with torch.no_grad():
        one = model(batch)
        other = model({**batch, "modalities": 1 - batch["modalities"]})
    assert (one - other).abs().amax(dim=1).min() > 0.01


def test_stems_diverge_after_a_step():
    model = narrow_model()
    step(model, small_batch(), torch.optim.SGD(model.parameters(), lr=0.01))
    stems = model.backbone.stems
    assert not torch.equal(stems["visible"].conv1.weight, stems["infrared"].conv1.weight)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_zero_init_scale_is_exactly_the_baseline_at_step_0(dtype):
    full, baseline, batch = narrow_model(), narrow_model(*BASELINE), small_batch()
    baseline.load_state_dict(
        {k: v for k, v in full.state_dict().items() if not k.startswith("enhance.")}
    )
    with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
        assert full(batch)["loss_cls"] == baseline(batch)["loss_cls"]
        assert torch.equal(full.eval()(batch), baseline.eval()(batch))


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_enhanced_at_layer3_layer4_follows(scale):
    options = ("MODEL.SDCE.PLACE", "layer3", "MODEL.SDCE.INIT_SCALE", scale)
    model, batch = narrow_model(*options).eval(), small_batch()
    calls = []
    model.backbone.stages["layer4"].register_forward_hook(lambda *args: calls.append(args[1:]))
    found = model(batch)
    ((given,), final) = calls[0]
    assert len(calls) == 1 and torch.equal(found, model.heads(final))
    images = (batch["images"] - model.pixel_mean) / model.pixel_std
    plain = model.backbone(images, batch["modalities"])
    assert torch.equal(given, plain["layer3"]) == (scale == 0)
    assert torch.allclose(final, plain["layer4"], atol=1e-5) == (scale == 0)
    baseline = narrow_model("MODEL.SDCE.PLACE", "layer3", *BASELINE).eval()
    assert baseline.enhance.place == "layer4"  # nothing is enhanced


def test_health_figures():
    model, batch = narrow_model("MODEL.SDCE.INIT_SCALE", 0.0), small_batch()
    assert model.health == {}
    model(batch)
    masks = {f"mask_mean_layer{i}" for i in (1, 2, 3)}
    always = {"cls_accuracy", "feature_spread"}
    assert set(model.health) == always | masks | {"sdce_share", "mask_saturation"}
    assert all(x.ndim == 0 and not x.requires_grad for x in model.health.values())
    assert model.health["sdce_share"] == 0 and model.health["feature_spread"] > 0
    assert all(0 < model.health[name] < 1 for name in masks)
    assert model.health["mask_saturation"] < 0.5

    torch.nn.init.constant_(model.enhance.clues.mask.conv.bias, 50.0)
    torch.nn.init.constant_(model.enhance.bn0.weight, 1.0)
    model(batch)
    assert model.health["mask_saturation"] == 1 and model.health["sdce_share"] > 0.1

    baseline = narrow_model(*BASELINE)
    baseline(batch)
    assert set(baseline.health) == always


def test_inputs_are_left_as_they_were():
    model, batch = narrow_model(), small_batch()
    before = {key: value.clone() for key, value in batch.items()}
    model(batch)
    assert all(torch.equal(batch[key], value) for key, value in before.items())


def test_normalisation_is_the_configs():
    model, seen = narrow_model("MODEL.PIXEL_MEAN", [10.0, 20.0, 30.0]).eval(), []
    model.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model({"images": torch.full((1, 3, 64, 32), 100.0), "modalities": torch.tensor([0])})
    std = model.pixel_std.flatten()
    torch.testing.assert_close(seen[0][0, :, 5, 5], torch.tensor([90.0, 80.0, 70.0]) / std)


@pytest.mark.parametrize("key", ["images", "modalities", "targets"])
def test_missing_input_is_named(key):
    batch = small_batch()
    del batch[key]
    with pytest.raises(KeyError, match=f"needs '{key}' in its batch, found: "):
        narrow_model()(batch)


def test_a_bare_tensor_is_refused():
    with pytest.raises(KeyError, match="needs 'images' in its batch, found: Tensor"):
        narrow_model()(small_batch()["images"])


def test_feat_dim_of_another_depth_is_named():
    with pytest.raises(UserError, match=r"FEAT_DIM is 2048.* DEPTH 18x yields 512"):
        small_model("MODEL.BACKBONE.FEAT_DIM", 2048)


@pytest.mark.slow
def test_resnet50_has_the_papers_shapes():
    model = small_model(
        "MODEL.BACKBONE.DEPTH", "50x", "MODEL.BACKBONE.FEAT_DIM", 2048, "MODEL.MPFR.DIM", 512
    ).eval()
    with torch.no_grad():
        assert model(small_batch(4)).shape == (4, 2048)
    assert model.enhance.clues.mask.conv.weight.shape == (3, 3 * 512, 1, 1)
