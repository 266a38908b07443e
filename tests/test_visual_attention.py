"""Where a model looks: Grad-CAM against a loop, masks and attention against the model's own."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from PIL import Image

from conftest import CONFIGS
from icre.config import load_config
from icre.inference.attention import attention_weights, cross_attention, grad_cam, stage_masks
from icre.modality import INFRARED, VISIBLE
from icre.modeling import build_model
from icre.plots.maps import MapBlock, draw_maps
from icre.utils.errors import UserError
from small_model import BASELINE, randomise_norms, small_batch, small_model


@pytest.fixture(scope="module")
def model():
    model = small_model("MODEL.SDCE.INIT_SCALE", 0.5).eval()
    randomise_norms(model)
    return model


@pytest.fixture(scope="module")
def batch():
    return small_batch(8)  # two people, two images of each modality


WEIGHTS = {
    "gradcam": lambda gradient: gradient.mean(dim=(1, 2), keepdim=True),
    "hirescam": lambda gradient: gradient,
    "layercam": lambda gradient: gradient.relu(),
}


def cam_by_hand(model, batch, layer: str, kind: str) -> np.ndarray:
    """The definitions, image by image: ReLU(sum_c weight_c * map_c)."""
    kept = {}
    hook = model.get_submodule(layer).register_forward_hook(
        lambda _, inputs, output: kept.update(map=output)
    )
    features = model(batch)
    hook.remove()
    result = []
    for row in range(len(features)):
        others = [
            other
            for other in range(len(features))
            if batch["targets"][other] == batch["targets"][row]
            and batch["modalities"][other] != batch["modalities"][row]
        ]
        centre = torch.stack([features[other] / features[other].norm() for other in others]).mean(0)
        match = features[row] @ centre.detach()
        gradient = torch.autograd.grad(match, kept["map"], retain_graph=True)[0][row]
        cam = (WEIGHTS[kind](gradient) * kept["map"][row]).sum(0).relu()
        result.append(stretched(cam))
    cells = torch.stack(result)[:, None]
    size = batch["images"].shape[2:]
    large = F.interpolate(cells, size=size, mode="bilinear", align_corners=False)
    return np.stack([stretched(one).detach().numpy() for one in large[:, 0]])


def stretched(cam: torch.Tensor) -> torch.Tensor:
    return (cam - cam.min()) / (cam.max() - cam.min() + 1e-7)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layer", "kind"),
    [
        ("backbone.stages.layer2", "gradcam"),
        ("enhance.bn0", "gradcam"),
        ("enhance.bn0", "hirescam"),
        ("enhance.bn0", "layercam"),
    ],
)
def test_cams_are_their_definitions(model, batch, layer, kind):
    found = grad_cam(model, batch, layer, kind)
    wanted = cam_by_hand(model, batch, layer, kind)
    assert found.shape == (8, 64, 32) and wanted.max() > 0.9
    np.testing.assert_allclose(found, wanted, atol=2e-3)


@pytest.mark.slow
def test_the_final_map_is_what_the_heads_read(batch):
    baseline = small_model(*BASELINE).eval()
    final, layer4 = grad_cam(baseline, batch), grad_cam(baseline, batch, "backbone.stages.layer4")
    assert final.max() > 0.9
    np.testing.assert_allclose(final, layer4, atol=1e-5)


@pytest.mark.slow
def test_fast_reids_own_models_are_explained_too(batch):
    cfg = load_config(
        str(CONFIGS / "SYSU/bagtricks_r50.yml"),
        [
            "MODEL.BACKBONE.PRETRAIN",
            "False",
            "MODEL.BACKBONE.DEPTH",
            "18x",
            "MODEL.DEVICE",
            "cpu",
            "MODEL.BACKBONE.FEAT_DIM",
            "512",
            "MODEL.HEADS.NUM_CLASSES",
            "4",
        ],
    )
    model = build_model(cfg).eval()
    final, layer4 = grad_cam(model, batch), grad_cam(model, batch, "backbone.layer4")
    assert final.shape == (8, 64, 32) and final.max() > 0.9
    np.testing.assert_allclose(final, layer4, atol=1e-5)


def test_nothing_is_left_in_the_model_or_its_images(model, batch):
    images = batch["images"].clone()
    before = model(batch)
    grad_cam(model, batch)
    cross_attention(model, batch)
    assert torch.equal(images, batch["images"])
    assert torch.equal(before, model(batch))
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ("layer9", "layer9.* final, backbone.stages.layer1"),
        ("backbone.stems.visible.conv1", r"visible.conv1.*\(4, 64, 32, 16\)"),
        ("enhance", "--layer enhance"),
    ],
)
def test_a_layer_without_a_map_of_all_images_is_refused(model, batch, layer, said):
    with pytest.raises(UserError, match=said):
        grad_cam(model, batch, layer)


def test_a_map_may_have_one_cell(model, batch):
    assert grad_cam(model, batch, "heads.pool_layer").shape == (8, 64, 32)


def test_a_person_in_one_modality_has_no_match_to_explain(model, batch):
    alone = {**batch, "targets": torch.tensor([0] * 7 + [5])}
    with pytest.raises(UserError, match="identity 5"):
        grad_cam(model, alone)


def test_masks_are_mpfrs_own(model, batch):
    with torch.no_grad():
        maps = model.backbone(model._normalise(batch["images"]), batch["modalities"])
        wanted = model.enhance(maps).masks
    found = stage_masks(model, batch)
    assert list(found) == ["layer1", "layer2", "layer3"]
    for stage, mask in found.items():
        np.testing.assert_allclose(mask, wanted[stage][:, 0].numpy())
    assert stage_masks(small_model(*BASELINE).eval(), batch) == {}


def test_weights_give_what_the_fused_attention_gives(model):
    attention = model.enhance.distil.cross_attention
    query_tokens, key_value_tokens = torch.randn(2, 5, 32), torch.randn(2, 7, 32)
    weights = attention_weights(attention, query_tokens, key_value_tokens)  # (2, 8, 5, 7)
    values = attention._split_heads(attention.key_value(key_value_tokens).chunk(2, dim=-1)[1])
    mixed = attention.out((weights @ values).transpose(1, 2).flatten(2))
    torch.testing.assert_close(mixed, attention(query_tokens, key_value_tokens))
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 8, 5))


def test_cross_attention_is_a_share_of_each_position(model, batch):
    found = cross_attention(model, batch)
    assert found.shape == (8, 4, 2) and (found > 0).all()
    np.testing.assert_allclose(found.sum((1, 2)), 1, atol=1e-5)
    assert cross_attention(small_model(*BASELINE).eval(), batch) is None
    assert cross_attention(small_model("MODEL.SDCE.ORDER", "self").eval(), batch) is None


def maps_figure(blocks) -> Figure:
    images = [Image.new("RGB", (8, 16))] * 5
    return draw_maps(
        images, [1, 1, 1, 2, 2], [VISIBLE, VISIBLE, INFRARED, INFRARED, VISIBLE], blocks
    )


def test_a_block_has_a_visible_row_above_an_infrared_one():
    figure = maps_figure([MapBlock("model\nmask", [np.full((2, 1), 0.25)] * 5, absolute=True)])
    images = figure.axes[0].images
    assert len(images) == 5 + 2 * 5  # the images; then each under its map
    corners = [(round(image.get_extent()[0]), round(image.get_extent()[3])) for image in images]
    # id 1: columns 0 and 1, its infrared image below the first; id 2: column 2
    assert corners[:5] == [(0, 0), (1, 0), (0, 2), (2, 2), (2, 0)]
    assert np.asarray(images[6].get_array()) == pytest.approx(0.25)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert {"images", "model\nmask", "VIS", "IR", "id 1", "id 2"} == set(texts)


def test_a_map_without_a_unit_is_stretched_and_a_flat_one_is_black():
    figure = maps_figure([MapBlock("a", [np.array([[1.0], [3.0]])] * 4 + [np.ones((2, 1))])])
    shown = [np.asarray(image.get_array()) for image in figure.axes[0].images[6::2]]
    assert shown[0].min() == pytest.approx(0, abs=0.05) and shown[0].max() == pytest.approx(
        1, abs=0.05
    )
    assert (shown[-1] == 0).all()
    with pytest.raises(UserError, match="no image to draw"):
        draw_maps([], [], [], [])
