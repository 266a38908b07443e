"""The public loops, on a stand-in clone with their interfaces and none of their code."""

import json
import sys

import pytest
import torch

from icre.benchmark.loops import Setup
from icre.benchmark.public_loops import AgwLoop, DeenLoop, load_clone, three_groups
from icre.commands.benchmark import main
from icre.config import load_config
from icre.utils.errors import UserError
from test_benchmark_speed import BASELINE, CPU, TINY

# What the real files offer: github.com/mangye16/Cross-Modal-Re-ID-baseline and ZYK100/LLCM.
FILES = {
    "resnet": "def resnet50(pretrained=False, **options):\n    assert not pretrained\n",
    "model": """
import torch
from resnet import resnet50
class embed_net(torch.nn.Module):
    def __init__(self, classes, dataset=None, no_local=None, gm_pool=None, arch=None):
        super().__init__()
        resnet50(pretrained=True)
        self.deen = dataset == "sysu"
        self.stem = torch.nn.ModuleList(torch.nn.Conv2d(3, 4, 3) for _ in range(2))
        self.bottleneck, self.classifier = torch.nn.BatchNorm1d(4), torch.nn.Linear(4, classes)
    def forward(self, first, second, modal=0):
        if modal:
            return (self.stem[modal - 1](first).mean((2, 3)),) * 2
        assert len(first) == len(second)
        x = torch.cat((self.stem[0](first), self.stem[1](second))).mean((2, 3))
        x = x.repeat(3, 1) if self.deen else x
        logits = self.classifier(self.bottleneck(x))
        return (x, logits, x.mean()) if self.deen else (x, logits)
""",
    "loss": """
import torch
SEEN = []
class TripletLoss_WRT(torch.nn.Module):
    def forward(self, features, labels):
        SEEN.append(("wrt", len(features), labels.tolist()))
        return features.mean(), 0
class OriTripletLoss(torch.nn.Module):
    def __init__(self, batch_size, margin):
        super().__init__()
    def forward(self, features, labels):
        SEEN.append(("triplet", len(features), labels.tolist()))
        return features.mean()
class CPMLoss(torch.nn.Module):
    def __init__(self, margin):
        super().__init__()
    def forward(self, features, labels):
        SEEN.append(("cpm", len(features), labels.tolist()))
        return features.mean()
""",
    "utils": """
import numpy as np
def GenIdx(color, thermal):
    return [[list(np.flatnonzero(x == one)) for one in np.unique(x)] for x in (color, thermal)]
class IdentitySampler:
    def __init__(self, color, thermal, color_pos, thermal_pos, num_pos, batch, epoch):
        chosen = np.random.permutation(len(color_pos))[:batch]
        self.index1, self.index2 = (
            np.array([pos[i][k % len(pos[i])] for i in chosen for k in range(num_pos)])
            for pos in (color_pos, thermal_pos))
    def __iter__(self):
        return iter(range(len(self.index1)))
    def __len__(self):
        return len(self.index1)
""",
    "data_loader": """
class SYSUData:
    def __init__(self):
        raise FileNotFoundError("train_rgb_resized_img.npy")
    def __getitem__(self, i):
        c, t = self.cIndex[i], self.tIndex[i]
        first, second = self.train_color_image[c], self.train_thermal_image[t]
        labels = self.train_color_label[c], self.train_thermal_label[t]
        return self.transform(first), self.transform(second), *labels
    def __len__(self):
        return len(self.train_color_label)
""",
    "random_erasing": """
class RandomErasing:
    def __init__(self, probability, sl, sh, r1, mean):
        pass
    def __call__(self, image):
        return image
""",
}


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clone")
    for name, code in FILES.items():
        (folder / f"{name}.py").write_text(code)
    return str(folder)


@pytest.mark.parametrize(
    "kind, expected",
    [(AgwLoop, [("wrt", 8, 2)]), (DeenLoop, [("triplet", 24, 6), ("cpm", 16, 4), ("cpm", 16, 4)])],
)
@pytest.mark.parametrize("loaded", [False, True])
def test_the_losses_get_what_train_py_gives_them(clone, demo_root, kind, expected, loaded):
    cfg = load_config(BASELINE, ["DATASETS.ROOT", str(demo_root)])
    root = str(demo_root) if loaded else None
    setup = Setup(batch=8, size=(32, 16), device=CPU, classes=10, instances=2, root=root)
    loop = kind(clone, cfg, setup)
    losses = noted(loop)
    before = [parameter.clone() for parameter in loop.model.parameters()]
    loop.step()
    assert [(name, count) for name, count, _ in losses] == [(n, c) for n, c, _ in expected]
    for (_, count, labels), (_, _, halves) in zip(losses, expected):
        visible = labels[:4]  # two identities, two images each, then the infrared ones
        assert labels == visible * halves and visible[0] == visible[1] != visible[2] == visible[3]
    moved = [not torch.equal(a, b) for a, b in zip(before, loop.model.parameters())]
    assert all(moved[:4])  # both stems


def noted(loop) -> list:
    """What the stand-in's losses note down."""
    return type(loop._triplet).forward.__globals__["SEEN"]


def test_features_of_a_flip_are_the_mean_of_both(clone):
    setup = Setup(batch=8, size=(8, 8), device=CPU, classes=10, instances=2)
    loop = AgwLoop(clone, None, setup)
    loop.eval_mode()
    pixels = torch.randint(256, (2, 8, 8, 3), dtype=torch.uint8)
    plain, mirrored = (loop.extract(x, None, False) for x in (pixels, pixels.flip(2)))
    assert torch.allclose(loop.extract(pixels, None, True), (plain + mirrored) / 2, atol=1e-6)


@pytest.mark.slow
def test_the_public_rows_are_in_the_table(clone, capsys, tmp_path):
    out = tmp_path / "b.json"
    rows = ["--no-stock", "--agw", clone, "--deen", clone, "--reference", "DEEN (public)"]
    words = [*TINY, "--batch", "8", *rows, "--json", str(out)]
    assert main(["train", "--config-file", BASELINE, *words]) == 0
    result = json.loads(out.read_text())
    names = ["Demo/baseline_r18", "AGW (public)", "DEEN (public)"]
    assert [row["name"] for row in result["rows"]] == names
    assert result["left_out"] == [] and result["rows"][2]["ratio"] == 1
    assert "x DEEN (public)" in capsys.readouterr().out


CLONE = {
    "resnet": "def resnet50(pretrained=False, **options):\n    return pretrained\n",
    "model": "from resnet import resnet50\nWEIGHTS = resnet50(pretrained=True, stride=1)\n",
    "loss": "NAME = '{}'\n",
    "utils": "",
    "data_loader": "",
}


def test_clones_are_loaded_apart_and_download_nothing(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name / "inner").mkdir(parents=True)
        for module, code in CLONE.items():
            (tmp_path / name / "inner" / f"{module}.py").write_text(code.replace("{}", name))
    before, path = dict(sys.modules), list(sys.path)
    one = load_clone("--agw", tmp_path / "one", "inner")
    two = load_clone("--deen", tmp_path / "two" / "inner", "inner")
    assert (one.loss.NAME, two.loss.NAME) == ("one", "two")
    assert one.model.WEIGHTS is False
    assert sys.path == path
    for name in ("resnet", "model", "loss", "utils", "data_loader"):
        assert sys.modules.get(name) is before.get(name)


def test_a_clone_that_does_not_import_is_one_line(tmp_path):
    (tmp_path / "resnet.py").write_text("import no_such_module\n")
    (tmp_path / "model.py").write_text("")
    with pytest.raises(UserError, match=r"--agw .*no_such_module"):
        load_clone("--agw", tmp_path, ".")


def test_the_public_optimiser_has_every_parameter_once():
    net = torch.nn.Module()
    net.base, net.bottleneck, net.classifier = (torch.nn.Linear(2, 2) for _ in range(3))
    groups = three_groups(net).param_groups
    assert [group["lr"] for group in groups] == pytest.approx([0.001, 0.01, 0.01])
    assert sum(len(group["params"]) for group in groups) == len(list(net.parameters()))
