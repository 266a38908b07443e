"""tools/analyze_model.py: counts by hand, parts that add up to the whole, any config, bad input."""

import json

import pytest
import torch
from torch import nn

from conftest import CONFIGS
from icre.commands.analyze import main
from icre.inference.cost import analyze, parts_of, some_batch
from small_model import BASELINE, small_model

SMALL = ("MODEL.DEVICE", "cpu", "INPUT.SIZE_TEST", "[64, 32]", "MODEL.HEADS.NUM_CLASSES", "8")


class Toy(nn.Module):
    """A convolution in a backbone that is a list, and a linear layer."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.ModuleList([nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 2, 1)])
        self.enhance = nn.Identity()
        self.unused = nn.Linear(7, 7)
        self.head = nn.Linear(2, 5)

    def forward(self, batch: dict) -> torch.Tensor:
        x = batch["images"]
        for layer in self.backbone:
            x = layer(x)
        return self.head(self.enhance(x).mean((2, 3)))


def cpu_batch(size: int = 4, image: tuple[int, int] = (6, 5)) -> dict:
    return some_batch(size, image, torch.device("cpu"))


def test_counts_by_hand():
    rows = {part.name: part for part in analyze(Toy(), cpu_batch, repeat=1)}
    assert list(rows) == ["backbone.0", "backbone.1", "enhance", "unused", "head", "total"]
    assert {name: part.parameters for name, part in rows.items()} == {
        "backbone.0": 3 * 4 * 9 + 4,
        "backbone.1": 4 * 2 + 2,
        "enhance": 0,
        "unused": 56,
        "head": 2 * 5 + 5,
        "total": 112 + 10 + 56 + 15,
    }
    assert rows["backbone.0"].macs == 3 * 4 * 9 * 30 and rows["backbone.1"].macs == 4 * 2 * 30
    assert rows["head"].macs == 2 * 5 and rows["unused"].macs == rows["unused"].ms == 0
    assert rows["total"].macs == 3 * 4 * 9 * 30 + 4 * 2 * 30 + 10
    assert 0 < rows["backbone.0"].ms < rows["total"].ms


@pytest.mark.parametrize("options", [(), BASELINE, ("MODEL.SDCE.ORDER", "cross")])
def test_parts_add_up_to_the_model(options):
    model = small_model(*options)
    *parts, total = analyze(model, lambda: cpu_batch(2, (64, 32)), repeat=1)
    assert sum(p.parameters for p in parts) == total.parameters
    assert total.parameters == sum(p.numel() for p in model.parameters())
    assert sum(p.macs for p in parts) == pytest.approx(total.macs) and total.macs > 1e7
    assert sum(p.ms for p in parts) < 1.5 * total.ms
    names = {p.name for p in parts}
    assert {"backbone.stems", "backbone.stages.layer4", "heads"} <= names
    assert ("enhance.clues (MPFR)" in names) == (options != BASELINE)


def test_attention_counts_its_projections_and_its_products():
    rows = {p.name: p for p in analyze(small_model(), lambda: cpu_batch(2, (64, 32)), repeat=1)}
    n, d = 4 * 2, 32  # tokens and channels
    attention = 4 * n * d * d + 2 * n * n * d  # q, k, v, out; then q k and (q k) v
    expected = 512 * d * n + 2 * (attention + 2 * n * d * 4 * d)  # ask, two stages with their FFN
    assert rows["enhance.distil (SDCE)"].macs == expected


def test_rows_hold_every_parameter_once():
    model = small_model()
    seen = [id(p) for module in parts_of(model).values() for p in module.parameters()]
    assert sorted(seen) == sorted(id(p) for p in model.parameters())


@pytest.mark.parametrize("config", ["Demo/icre_r18.yml", "Demo/bagtricks_r18.yml"])
def test_the_command_prints_a_table_and_writes_json(config, tmp_path, capsys):
    file = tmp_path / "parts.json"
    words = ["--batch", "2", "--repeat", "1", "--json", str(file), *SMALL]
    assert main(["--config-file", str(CONFIGS / config), *words]) == 0
    out, rows = capsys.readouterr().out, json.loads(file.read_text())
    assert rows[-1]["name"] == "total" and set(rows[0]) == {"name", "parameters", "macs", "ms"}
    assert "64x32, batches of 2, cpu" in out
    for row in rows:
        assert row["name"] in out and f"{row['parameters'] / 1e6:.3f}" in out
    assert rows[-1]["macs"] > 0.9 * sum(row["macs"] for row in rows[:-1]) > 0


@pytest.mark.parametrize(
    "arguments, message",
    [(("--batch", "0"), "--batch"), (("MODEL.SDCE.ORDER", "odd"), "MODEL.SDCE.ORDER")],
)
def test_bad_input_is_one_line(capsys, arguments, message):
    assert main(["--config-file", str(CONFIGS / "Demo/icre_r18.yml"), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
