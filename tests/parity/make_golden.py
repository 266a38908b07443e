"""Make the golden files of this folder beside clones of the public codes, which are only imported.

    python tests/parity/make_golden.py --agw CLONE --llcm CLONE --mpanet CLONE --mscmnet CLONE

CLONE: of mangye16/Cross-Modal-Re-ID-baseline (AGW, CAJ), ZYK100/LLCM (DEEN), DoubtedSteam/MPANet
and Hua-XC/MSCMNet. Networks get `seeded.weights`, images go through the preparation, network and
flip of the code's own test script, in float64; losses get `seeded.loss_batch` and give value and
gradient. Nothing of their code is kept.
"""

import argparse
import contextlib
import importlib
import json
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import seeded
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision import transforms as T

HERE = Path(__file__).parent
NORMALIZE = T.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
LANCZOS, BILINEAR = Image.Resampling.LANCZOS, Image.Resampling.BILINEAR


@contextlib.contextmanager
def imported(clone: Path, *names: str) -> Iterator[list[Any]]:
    """Modules of a clone, imported with what their time had and torch no longer has."""
    before, path = set(sys.modules), list(sys.path)
    sys.path.insert(0, str(clone))
    old_addmm = torch.Tensor.addmm_

    def addmm(self: Tensor, *values: Any, **options: Any) -> Tensor:
        if len(values) == 4:  # beta, alpha, a, b
            return old_addmm(self, *values[2:], beta=values[0], alpha=values[1])
        return old_addmm(self, *values, **options)

    torch.Tensor.addmm_ = addmm
    utils = types.ModuleType("torchvision.models.utils")
    vars(utils)["load_state_dict_from_url"] = lambda *args, **options: {}
    sys.modules["torchvision.models.utils"] = utils
    sys.modules.setdefault("cv2", types.ModuleType("cv2"))
    try:
        yield [importlib.import_module(name) for name in names]
    finally:
        torch.Tensor.addmm_ = old_addmm
        sys.path[:] = path
        for name in set(sys.modules) - before:
            if getattr(sys.modules[name], "__file__", None) and str(clone) in str(
                sys.modules[name].__file__
            ):
                del sys.modules[name]
        for name in ("torchvision.models.utils", "cv2"):
            sys.modules.pop(name, None)


def untrained(resnet: Any) -> None:
    """Let a clone's resnet.py download nothing."""
    original = resnet.resnet50
    resnet.resnet50 = lambda pretrained=False, **options: original(pretrained=False, **options)


def prepared(size: tuple[int, int], interpolation: Image.Resampling) -> Tensor:
    """The images as a code's test script gives them to its network, (2, 3, *size) float64."""
    made = [Image.fromarray(one) for one in seeded.images(*seeded.ACTUAL_SIZE)]
    made = [one.resize(size[::-1], interpolation) for one in made]
    return torch.stack([NORMALIZE(T.functional.to_tensor(one)) for one in made]).double()


def save(name: str, net: torch.nn.Module, features: Tensor) -> None:
    """Write names and shapes of a network's weights, and its (2, D) features, projected."""
    shapes = {key: list(value.shape) for key, value in net.state_dict().items()}
    values = {"shapes": json.dumps(shapes), "dimensions": features.shape[1]}
    unit = F.normalize(features)
    np.savez_compressed(HERE / f"{name}.npz", features=seeded.project(unit).numpy(), **values)
    print(name, tuple(features.shape), len(shapes), "entries")


def load_seeded(net: torch.nn.Module) -> torch.nn.Module:
    """Give a network `seeded.weights`."""
    shapes = {key: value.shape for key, value in net.state_dict().items()}
    net.load_state_dict(seeded.weights(shapes))
    return net.double().eval()


def two_streams(net: Callable, images: Tensor) -> list[Tensor]:
    """Results of net(x, x, modal) of the visible and the infrared image, joined per image."""
    visible, infrared = net(images[:1], images[:1], 1), net(images[1:], images[1:], 2)
    return [torch.stack([v, r]) for v, r in zip(visible, infrared)]  # (2, rows per image, D)


@torch.no_grad()
def agw(clone: Path) -> None:
    """AGW (test.py: feature behind the neck, no flip) and its base; CAJ (testa.py: flip)."""
    with imported(clone, "resnet", "model") as (resnet, model):
        untrained(resnet)
        model.resnet50 = resnet.resnet50
        images = prepared((288, 144), LANCZOS)
        for name, switch in (("agw", "on"), ("agw_base", "off")):
            net = load_seeded(model.embed_net(7, switch, switch))
            save(name, net, two_streams(net, images)[1][:, 0])
        caj = load_seeded(model.embed_net(7, "on", "on"))
        both = two_streams(caj, images)[1][:, 0] + two_streams(caj, images.flip(3))[1][:, 0]
        save("caj", caj, both / 2)


@torch.no_grad()
def deen(clone: Path) -> None:
    """DEEN: test.py adds f and b of each embedding and of the mirrored image."""
    with imported(clone / "DEEN", "resnet", "model") as (resnet, model):
        untrained(resnet)
        model.resnet50 = resnet.resnet50
        images = prepared((384, 144), LANCZOS)
        for name, dataset in (("deen", "sysu"), ("deen_regdb", "regdb")):
            net = load_seeded(model.embed_net(7, dataset))
            plain, mirrored = two_streams(net, images), two_streams(net, images.flip(3))
            f, b = (one + other for one, other in zip(plain, mirrored))  # (2, 3, D) each
            save(name, net, torch.cat([f, b], dim=2).flatten(1))


@torch.no_grad()
def mpanet(clone: Path) -> None:
    """MPANet: the feature behind the neck."""
    with imported(clone, "models.baseline") as (baseline,):
        net = load_seeded(
            baseline.Baseline(
                7,
                drop_last_stride=True,
                pattern_attention=True,
                modality_attention=2,
                mutual_learning=True,
                classification=True,
                num_parts=6,
            )
        )
        images = prepared((384, 128), BILINEAR)
        save("mpanet", net, net(images, cam_ids=torch.tensor([1, 3])))


def value_and_gradient(loss: Callable[[Tensor], Tensor], features: Tensor) -> dict[str, np.ndarray]:
    """{"value": 0-d, "gradient": as features}."""
    features = features.clone().requires_grad_()
    value = loss(features)
    (gradient,) = torch.autograd.grad(value, features)
    return {"value": value.detach().numpy(), "gradient": gradient.numpy()}


def losses(args: argparse.Namespace) -> None:
    """Values and gradients of the codes' losses on `seeded.loss_batch`."""
    batch = seeded.loss_batch()
    features, targets = batch["features"], batch["targets"]
    found: dict[str, dict[str, np.ndarray]] = {}
    with imported(args.agw / "ICCV21_CAJ", "loss") as (code,):
        near = features[:24]
        wrt, adp = code.TripletLoss_WRT(), code.TripletLoss_ADP(square=1)
        found["wrt"] = value_and_gradient(lambda f: wrt(f, targets)[0], near)
        found["squared_difference"] = value_and_gradient(lambda f: adp(f, targets)[0], near)
    with imported(args.llcm / "DEEN", "loss") as (code,):
        cpm, labels = code.CPMLoss(), targets.repeat(2)

        def pattern(f: Tensor) -> Tensor:
            first, second, third = f.chunk(3)
            pairs = torch.cat([first, second]), torch.cat([first, third])
            return cpm(pairs[0], labels) + cpm(pairs[1], labels)

        found["cpm"] = value_and_gradient(pattern, features)
    with imported(args.llcm / "DEEN", "resnet", "model") as (resnet, model):
        untrained(resnet)
        model.resnet50 = resnet.resnet50
        found["orthogonal"] = _deen_orthogonality(model, features)
    with imported(args.mpanet, "layers.loss.local_center_loss") as (code,):
        cluster = code.CenterTripletLoss(k_size=3, margin=0.7)
        order = torch.argsort(targets, stable=True)  # it takes every k-th image as an identity's
        ordered = value_and_gradient(lambda f: cluster(f, targets[order])[0], features[:24][order])
        gradient = np.empty_like(ordered["gradient"])
        gradient[order.numpy()] = ordered["gradient"]
        found["center_cluster"] = {"value": ordered["value"], "gradient": gradient}
    with imported(args.mpanet, "models.baseline") as (baseline,):
        found |= _mpanet_losses(baseline, batch)
    with imported(args.mscmnet, "loss") as (code,):
        quadruple = code.QuarCenterTripletLoss(k_size=4, margin=1.5)
        visible, infrared = features[:24].chunk(2)
        views = torch.cat([visible, batch["second"][:12], infrared, batch["second"][12:]])
        found["quadruple_center"] = value_and_gradient(
            lambda f: quadruple(f, torch.cat([targets, targets])), views
        )
    flat = {f"{name}/{part}": value for name, one in found.items() for part, value in one.items()}
    np.savez_compressed(HERE / "losses.npz", **flat)
    print({name: float(value) for name, value in flat.items() if name.endswith("value")})


class Call(torch.nn.Module):
    """A function in a module's place."""

    def __init__(self, function: Callable):
        super().__init__()
        self.forward = function


def _deen_orthogonality(model: Any, features: Tensor) -> dict[str, np.ndarray]:
    """loss_ort of embed_net.forward, whose pooled map is set to `features`."""

    def orthogonality(f: Tensor) -> Tensor:
        net = model.embed_net(4, "sysu").train()
        net.visible_module = net.thermal_module = torch.nn.Identity()
        for name in ("MFA1", "MFA2", "MFA3"):
            setattr(net, name, Call(lambda high, low: high))
        net.DEE = torch.nn.Identity()
        for number in range(1, 5):
            setattr(net.base_resnet.base, f"layer{number}", torch.nn.Identity())
        net.avgpool = Call(lambda x: f[..., None, None])
        net.bottleneck = net.classifier = torch.nn.Identity()
        return net(torch.zeros(36, 1), torch.zeros(36, 1))[2]

    return value_and_gradient(orthogonality, features)


def _mpanet_losses(baseline: Any, batch: dict[str, Tensor]) -> dict[str, dict[str, np.ndarray]]:
    """Mask separation and modality classifiers of Baseline, with its weights on them."""
    # an object without a backbone, on which its methods run
    net = baseline.Baseline.__new__(baseline.Baseline)
    torch.nn.Module.__init__(net)
    vars(net).update(
        triplet=False, center_loss=False, center_cluster=False, classification=False,
        pattern_attention=False, mutual_learning=True, weight_sid=0.5, weight_KL=2.5,
        update_rate=0.2,
    )  # fmt: skip
    net.id_loss = torch.nn.CrossEntropyLoss()
    net.KLDivLoss = torch.nn.KLDivLoss(reduction="batchmean")
    net.bn_neck = torch.nn.Identity()
    for m, name in enumerate(("visible", "infrared")):
        for values, suffix in ((batch["classifiers"], ""), (batch["copies"], "_")):
            linear = torch.nn.Linear(16, 4, bias=False).double()
            linear.weight.data = values[m].clone()
            setattr(net, f"{name}_classifier{suffix}", linear)
    classifiers = value_and_gradient(
        lambda f: net.train_forward(f, batch["targets"], 0, batch["modalities"])[0],
        batch["features"][:24],
    )
    weights = torch.stack([net.visible_classifier.weight, net.infrared_classifier.weight])
    copies = torch.stack([net.visible_classifier_.weight, net.infrared_classifier_.weight])
    assert torch.equal(weights, batch["classifiers"])
    classifiers["copies"] = copies.detach().numpy()

    def separation(masks: Tensor) -> Tensor:
        net.training, net.pattern_attention, net.part_num = True, True, 6
        net.backbone = Call(lambda inputs: torch.zeros(24, 1, 4, 2).double())
        net.spatial_attention, net.activation = Call(lambda x: masks), torch.nn.Identity()
        kept: list[Tensor] = []
        net.train_forward = lambda feats, labels, loss_reg, sub, **options: kept.append(loss_reg)
        net.forward(None, None, cam_ids=batch["modalities"])
        return kept[0]

    return {
        "modality_classifier": classifiers,
        "part_separation": value_and_gradient(separation, batch["masks"]),
    }


def main() -> None:
    """Make all files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("agw", "llcm", "mpanet", "mscmnet"):
        parser.add_argument(f"--{name}", type=Path, required=True, metavar="CLONE")
    args = parser.parse_args()
    agw(args.agw)
    deen(args.llcm)
    mpanet(args.mpanet)
    losses(args)


if __name__ == "__main__":
    main()
