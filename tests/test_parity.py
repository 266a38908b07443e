"""The networks and losses of published methods against their public codes.

`parity/*.npz` hold what the public codes computed (`parity/make_golden.py`): features of two images
by the code's own test script, and values and gradients of its losses. Here the same seeded weights
go, in a file as its training writes, through `icre.load(source=)`: key maps, preparation of images,
network, test feature and flip.
"""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

import icre
from icre.modality import INFRARED, VISIBLE
from icre.modeling.losses.cross_modality_pattern import cross_modality_pattern
from icre.modeling.losses.modality_classifier import ModalityClassifierLoss
from icre.modeling.losses.orthogonal_embedding import orthogonal_embedding
from icre.modeling.losses.outputs import Outputs
from icre.modeling.losses.part_separation import part_separation
from parity import seeded
from small_losses import (
    center_cluster,
    enhanced_squared_difference,
    quadruple_center,
    weighted_regularized_triplet,
)

PARITY = Path(__file__).parent / "parity"
BAR = 1e-4  # length of the difference of two unit vectors, in float32
# golden file -> source, and layers of every kind of which one at a time is changed
NETWORKS = {
    "agw": ("agw", ("stems.visible.conv1", "stages.layer2.3.theta", "stages.layer3.7.conv2")),
    "agw_base": ("agw", ("stems.infrared.bn1", "stages.layer4.2.conv3")),
    "caj": ("caj", ("stems.infrared.conv1", "stages.layer3.8.W.0")),
    "deen": (
        "deen",
        (
            "stages.stages.layer4.1.conv1",
            "stages.fusions.layer1.channels.phi",
            "stages.fusions.layer3.positions.theta",
            "stages.expand.branches.0.dilated.1",
            "stages.expand.branches.1.project",
        ),
    ),
    "deen_regdb": ("deen", ("stages.stages.layer3.5.conv3", "stages.fusions.layer2.channels.g")),
    "mpanet": ("mpanet", ("stem.conv1", "stages.layer3.mam.gate.0", "stages.layer4.mam.gate.2")),
}


def write_public(golden: np.lib.npyio.NpzFile, source: str, path: Path) -> None:
    """A checkpoint as the code's training writes it, with the golden file's weights."""
    state = seeded.weights(json.loads(str(golden["shapes"])))
    scores = {"cmc": np.linspace(0, 1, 20), "mAP": np.float64(0.5), "mINP": 0.25, "epoch": 3}
    torch.save(state if source == "mpanet" else {"net": state, **scores}, path)


def distance(features: np.ndarray, golden: np.lib.npyio.NpzFile) -> float:
    """Largest length of an image's difference, estimated from its products with directions."""
    difference = seeded.project(torch.from_numpy(features)).numpy() - golden["features"]
    return float(np.sqrt((difference**2).mean(axis=1) * int(golden["dimensions"])).max())


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_features_are_the_public_codes(name, tmp_path):
    source, layers = NETWORKS[name]
    golden = np.load(PARITY / f"{name}.npz")
    write_public(golden, source, tmp_path / "public.t")
    predictor = icre.load(tmp_path / "public.t", device="cpu", source=source)
    images = seeded.images(*seeded.ACTUAL_SIZE)
    modalities = ["visible", "infrared"]
    assert predictor(images, modalities).shape == (2, int(golden["dimensions"]))
    found = distance(predictor(images, modalities), golden)
    assert found < BAR, f"{name}: {found:.1e}"
    model = predictor.extractor.model
    for layer in layers:  # the bar tells a network in which one layer differs by a twentieth
        weight = model.backbone.get_submodule(layer).weight
        kept = weight.detach().clone()
        weight.data.mul_(1.05)
        changed = distance(predictor(images, modalities), golden)
        assert changed > 2 * BAR, f"{name} with another {layer}: {changed:.1e}"
        weight.data.copy_(kept)
    # and streams that are mixed up, where there are two
    swapped = distance(predictor(images, modalities[::-1]), golden)
    assert (swapped > 10 * BAR) == (source != "mpanet")


BATCH = seeded.loss_batch()
TARGETS, MODALITIES = BATCH["targets"], BATCH["modalities"]
FIRST = BATCH["features"][:24]


def patterns(f: torch.Tensor) -> torch.Tensor:
    first, *others = f.chunk(3)
    return sum(cross_modality_pattern(first, one, TARGETS, MODALITIES, 0.2) for one in others)


def quadruple(f: torch.Tensor) -> torch.Tensor:
    # two views of the visible, then two of the infrared images
    modalities = torch.arange(2).repeat_interleave(24)
    return 0.5 * sum(quadruple_center(f, TARGETS.repeat(2), modalities, 1.5))


def classifiers(f: torch.Tensor) -> torch.Tensor:
    loss = ModalityClassifierLoss(feat_dim=16, num_classes=4, scale=1.0, scale_kl=2.5, rate=0.2)
    loss.weight.data = BATCH["classifiers"].float()
    loss.copies = BATCH["copies"].float()
    terms = loss(Outputs(f, neck=f), TARGETS, MODALITIES)
    golden = np.load(PARITY / "losses.npz")["modality_classifier/copies"]
    np.testing.assert_allclose(loss.copies.numpy(), golden, atol=1e-6)
    return sum(terms.values())


def views() -> torch.Tensor:
    visible, infrared = FIRST.chunk(2)
    second = BATCH["second"].chunk(2)
    return torch.cat([visible, second[0], infrared, second[1]])


# name in losses.npz -> (our loss, its input)
LOSSES = {
    "wrt": (lambda f: weighted_regularized_triplet(f, TARGETS), FIRST),
    "squared_difference": (lambda f: enhanced_squared_difference(f, TARGETS), FIRST),
    "cpm": (patterns, BATCH["features"]),
    "orthogonal": (lambda f: orthogonal_embedding(f, 3), BATCH["features"]),
    "center_cluster": (lambda f: sum(center_cluster(f, TARGETS, 0.7)), FIRST),
    "quadruple_center": (quadruple, views()),
    "modality_classifier": (classifiers, FIRST),
    "part_separation": (part_separation, BATCH["masks"]),
}
IN_FLOAT32 = ("modality_classifier",)


def loss_difference(name: str, change: float = 1.0) -> float:
    """Largest relative difference of value and gradient; `change` multiplies the last row."""
    golden = np.load(PARITY / "losses.npz")
    loss, features = LOSSES[name]
    features = features.clone()
    features[-1] *= change
    features.requires_grad_()
    value = loss(features)
    (gradient,) = torch.autograd.grad(value, features)
    pairs = ((value.detach().numpy(), "value"), (gradient.numpy(), "gradient"))
    return max(
        float(abs(ours - golden[f"{name}/{part}"]).max() / abs(golden[f"{name}/{part}"]).max())
        for ours, part in pairs
    )


@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_gradients_are_the_public_codes(name):
    bar = 1e-4 if name in IN_FLOAT32 else 1e-5
    assert loss_difference(name) < bar
    assert loss_difference(name, change=1.1) > 10 * bar


def test_every_golden_loss_is_tested_and_none_is_zero():
    golden = np.load(PARITY / "losses.npz")
    assert {name.split("/")[0] for name in golden} == set(LOSSES)
    assert all(math.isfinite(golden[n].sum()) and golden[n].any() for n in golden)


def test_losses_do_not_depend_on_the_order_of_a_batch():
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    batch = TARGETS[order], MODALITIES[order]
    assert {VISIBLE, INFRARED} == set(MODALITIES.tolist())
    pairs = (
        (cross_modality_pattern, (FIRST, BATCH["second"]), (0.2,)),
        (quadruple_center, (FIRST,), (1.5,)),
    )
    for loss, features, more in pairs:
        found = loss(*(f[order] for f in features), *batch, *more)
        expected = loss(*features, TARGETS, MODALITIES, *more)
        torch.testing.assert_close(found, expected)
