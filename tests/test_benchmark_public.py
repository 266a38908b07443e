"""The public loops' rows, on a stand-in clone with their interfaces and none of their code."""

import json

import pytest
import torch

from conftest import CONFIGS
from icre.benchmark.public_loops import AgwRow, DeenRow
from icre.benchmark.rows import Setup
from icre.config import load_config
from test_benchmark_speed import CPU, TINY
from test_benchmark_speed import main as main

ICRE = str(CONFIGS / "Demo/icre_r18.yml")

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
        return (self.transform(self.train_color_image[c]), self.transform(self.train_thermal_image[t]),
                self.train_color_label[c], self.train_thermal_label[t])
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
    [(AgwRow, [("wrt", 8, 2)]), (DeenRow, [("triplet", 24, 6), ("cpm", 16, 4), ("cpm", 16, 4)])],
)
@pytest.mark.parametrize("loaded", [False, True])
def test_the_losses_get_what_train_py_gives_them(clone, demo_root, kind, expected, loaded):
    cfg = load_config(ICRE, ["DATASETS.ROOT", str(demo_root)])
    root = str(demo_root) if loaded else None
    setup = Setup(batch=8, size=(32, 16), device=CPU, classes=10, instances=2, root=root)
    row = kind(clone, cfg, setup)
    losses = noted(row)
    before = [parameter.clone() for parameter in row.model.parameters()]
    row.step()
    assert [(name, count) for name, count, _ in losses] == [(n, c) for n, c, _ in expected]
    for (_, count, labels), (_, _, halves) in zip(losses, expected):
        visible = labels[:4]  # two identities, two images each, then the infrared ones
        assert labels == visible * halves and visible[0] == visible[1] != visible[2] == visible[3]
    moved = [not torch.equal(a, b) for a, b in zip(before, row.model.parameters())]
    assert all(moved[:4])  # both stems


def noted(row) -> list:
    """What the stand-in's losses note down."""
    return type(row._triplet).forward.__globals__["SEEN"]


def test_features_of_a_flip_are_the_mean_of_both(clone):
    setup = Setup(batch=8, size=(8, 8), device=CPU, classes=10, instances=2)
    row = AgwRow(clone, None, setup)
    row.test_mode()
    pixels = torch.randint(256, (2, 8, 8, 3), dtype=torch.uint8)
    plain, mirrored = (row.extract(x, None, False) for x in (pixels, pixels.flip(2)))
    assert torch.allclose(row.extract(pixels, None, True), (plain + mirrored) / 2, atol=1e-6)


def test_the_rows_stand_in_the_table(main, clone, capsys, tmp_path):
    out = tmp_path / "b.json"
    assert (
        main(
            [
                "train",
                "--config-file",
                ICRE,
                *TINY,
                "--batch",
                "8",
                "--no-stock",
                "--agw",
                clone,
                "--deen",
                clone,
                "--reference",
                "DEEN (public)",
                "--json",
                str(out),
            ]
        )
        == 0
    )
    result = json.loads(out.read_text())
    assert [row["name"] for row in result["rows"]] == [
        "Demo/icre_r18",
        "AGW (public)",
        "DEEN (public)",
    ]
    assert result["left_out"] == [] and result["rows"][2]["ratio"] == 1
    assert "x DEEN (public)" in capsys.readouterr().out
