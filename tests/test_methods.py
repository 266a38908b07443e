"""Published methods as configs: they train, score, and every parameter of theirs is alive."""

import json

import pytest
import torch
import torch.nn.functional as F

from conftest import CONFIGS, train, words
from icre.config import load_config
from icre.modeling import build_model
from icre.modeling.losses import build_losses
from icre.modeling.losses.cross_modality_pattern import cross_modality_pattern
from icre.modeling.losses.orthogonal_embedding import orthogonal_embedding
from icre.modeling.methods.mpanet import MaskedParts, ModalityAlleviation
from icre.modeling.methods.pcb import PCBHead
from icre.utils.errors import UserError
from small_losses import enhanced_squared_difference, quadruple_center, random_batch
from small_model import small_batch, small_cfg

# config of SynthVI-S -> width of its test feature
METHODS = {
    "deen_r18": 3 * 2 * 512,
    "caj_r18": 512,
    "mpanet_r18": 7 * 512,
    "mscmnet_qct_r18": 512,
    "pcb_r18": 6 * 128,
    "vit_tiny": 192,
}
SMALL = words("MODEL.HEADS.NUM_CLASSES 4 MODEL.DEVICE cpu INPUT.SIZE_TEST [64,32]")


def method(name: str, *options: str) -> torch.nn.Module:
    if name.startswith("vit"):
        pytest.importorskip("timm")
    torch.manual_seed(0)
    config = str(CONFIGS / f"SynthVI-S/{name}.yml")
    return build_model(load_config(config, [*SMALL, *options])).train()


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_every_parameter_gets_a_gradient(name):
    model = method(name)
    for part in model.modules():  # DEEN's fusions begin as identities, as the public code's
        if isinstance(part, torch.nn.BatchNorm2d):
            part.weight.data.uniform_(0.5, 1)
    losses = model(small_batch())
    sum(losses.values()).backward()
    dead = [
        key
        for key, p in model.named_parameters()
        if p.requires_grad and (p.grad is None or not p.grad.any())
    ]
    assert dead == [] and all(torch.isfinite(loss) for loss in losses.values())
    assert model.eval()(small_batch()).shape == (8, METHODS[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_an_epoch_is_trained_and_scored(name, demo_root, tmp_path):
    if name.startswith("vit"):
        pytest.importorskip("timm")
    options = words("SOLVER.MAX_EPOCH 1 SOLVER.WARMUP_EPOCHS 0.0 SOLVER.SCHED MultiStepLR")
    size = words("SOLVER.IMS_PER_BATCH 32 TEST.PROTOCOLS ('sysu-all-single',)")
    train(demo_root, tmp_path, *options, *size, config=f"SynthVI-S/{name}.yml")
    records = json.loads((tmp_path / "metrics.json").read_text())
    assert {r["protocol"] for r in records} == {"sysu-all-single"}
    lines = [json.loads(line) for line in (tmp_path / "scalars.json").read_text().splitlines()]
    logged = {key: value for line in lines for key, value in line.items()}
    assert logged["total_loss"] == pytest.approx(
        sum(value for key, value in logged.items() if key.startswith("loss_")), rel=1e-3
    )


@pytest.mark.parametrize("folder", ["SYSU", "RegDB", "LLCM"])
@pytest.mark.parametrize("name", ["deen", "caj", "mpanet", "mscmnet_qct", "pcb"])
def test_configs_of_the_real_sets_differ_in_the_data_alone(folder, name):
    cfg = load_config(str(CONFIGS / folder / f"{name}_r50.yml"))
    sysu = load_config(str(CONFIGS / "SYSU" / f"{name}_r50.yml"))
    assert cfg.MODEL.LOSSES == sysu.MODEL.LOSSES and cfg.MODEL.HEADS == sysu.MODEL.HEADS
    assert cfg.DATASETS.NAMES != sysu.DATASETS.NAMES or folder == "SYSU"


@pytest.mark.parametrize("name", ["mpanet", "pcb"])
def test_heads_that_read_fewer_keys_take_fast_reids_values(name):
    """As a model of a public checkpoint has them; the configs say GeneralizedMeanPooling."""
    for pool in ("GlobalAvgPool", "GeneralizedMeanPooling"):
        assert method(f"{name}_r18", "MODEL.HEADS.POOL_LAYER", pool)


def test_deens_embeddings_stand_side_by_side():
    model = method("deen_r18").eval()
    batch = small_batch(4)
    with torch.no_grad():
        maps = model.backbone(model._normalise(batch["images"]), batch["modalities"])
        assert maps["layer3"].shape[0] == 4 and maps["layer4"].shape[0] == 3 * 4
        feature = model(batch)
        rows = model.heads(maps["layer4"])  # of both kinds, one embedding behind the other
    # a dot product of two images is the mean of their cosines over embeddings and kinds
    expected = torch.stack([F.normalize(rows.view(3, 4, -1)[i]) for i in range(3)])
    cosines = torch.einsum("ead,ebd->ab", expected, expected)
    torch.testing.assert_close(feature @ feature.T, cosines)
    assert not torch.allclose(expected[0], expected[1])


def test_deen_for_regdb_ends_with_layer3():
    model = method("deen_r18", *words("MODEL.DEEN.LAST_STAGE layer3 MODEL.BACKBONE.FEAT_DIM 256"))
    keys = [key for key, _ in model.backbone.named_parameters() if "stages.stages" in key]
    names = {key.split(".")[2] for key in keys}
    assert names == {"layer1", "layer2", "layer3"}
    assert model.backbone.channels["layer4"] == 256
    assert model.eval()(small_batch(4)).shape == (4, 3 * 2 * 256)


def test_alleviation_is_between_the_map_and_its_instance_norm():
    torch.manual_seed(0)
    alleviation, x = ModalityAlleviation(32), 5 * torch.randn(2, 32, 6, 3) + 2
    gate = alleviation.gate(x.mean((2, 3), keepdim=True))
    expected = gate * x + (1 - gate) * F.instance_norm(x)
    torch.testing.assert_close(alleviation(x), expected)


def test_masked_parts_are_means_of_masked_maps():
    torch.manual_seed(0)
    pool, x = MaskedParts(8, 3), torch.randn(2, 8, 6, 3)
    found = pool(x).view(2, 4, 8)
    for part in range(3):
        torch.testing.assert_close(found[:, part], (pool.masks(x)[:, [part]] * x).mean((2, 3)))
    torch.testing.assert_close(found[:, 3], x.mean((2, 3)))


def test_pcbs_strips_have_the_backbones_width_where_none_is_given():
    cfg = load_config("SynthVI-S/pcb_r18.yml", [*SMALL, "MODEL.HEADS.EMBEDDING_DIM", "0"])
    assert PCBHead(cfg).weight.shape == (6, 4, 512)


def test_pcbs_strips_share_nothing():
    torch.manual_seed(0)
    head = PCBHead(feat_dim=5, embedding_dim=4, num_classes=3, parts=2, norm_type="BN").eval()
    x = torch.randn(2, 5, 8, 3)
    weight = head.reduce[0].weight.view(2, 4, 5)
    expected = [
        F.relu(half.mean((2, 3)) @ weight[i].T / (1 + 1e-5) ** 0.5)
        for i, half in enumerate(x.chunk(2, dim=2))
    ]
    torch.testing.assert_close(head(x), torch.cat(expected, dim=1))
    outputs = head.train()(x)
    strips = outputs["features"].view(2, 2, 4)
    for i in range(2):
        logits = strips[:, i] @ head.weight[i].T
        torch.testing.assert_close(outputs["cls_outputs"][:, i], logits)


@pytest.mark.parametrize(
    ("loss", "needs"), [("PartSeparationLoss", "MPANetHead"), ("PartIDLoss", "PCBHead")]
)
def test_losses_of_a_head_refuse_another(loss, needs):
    with pytest.raises(UserError, match=f"{loss} needs MODEL.HEADS.NAME {needs}"):
        build_losses(small_cfg("MODEL.LOSSES.NAME", (loss,)))


@pytest.mark.parametrize("size", [0, 1, 2])
def test_losses_of_too_little_are_a_differentiable_zero(size):
    f = torch.randn(size, 4, requires_grad=True)
    targets, modalities = torch.zeros(size, dtype=torch.long), torch.zeros(size, dtype=torch.long)
    batch = targets, modalities
    values = [
        cross_modality_pattern(f, f * 2, *batch, 0.2),
        enhanced_squared_difference(f, targets),
        sum(quadruple_center(f, *batch, 0.7)),
        orthogonal_embedding(f.repeat(2, 1), 2),
    ]
    for value in values:
        assert value == 0
        torch.autograd.grad(value, f, retain_graph=True)


def test_gradients_by_finite_differences():
    f, targets, modalities = random_batch(0, size=12)
    f = f.double()

    for loss in (
        lambda x: enhanced_squared_difference(x, targets),
        lambda x: sum(quadruple_center(x, targets, modalities, 5.0)),
        lambda x: orthogonal_embedding(x, 3),
    ):
        assert torch.autograd.gradcheck(loss, (f.clone().requires_grad_(),))


def test_the_squared_difference_collapses_to_the_log_of_two():
    """The known weakness: one point for all images is a stationary value, log 2."""
    f = torch.full((8, 4), 0.3, requires_grad=True)
    loss = enhanced_squared_difference(f, torch.arange(8) // 4)
    (gradient,) = torch.autograd.grad(loss, f)
    assert loss.item() == pytest.approx(0.6931, abs=1e-4) and not gradient.any()
