"""What README.md promises of the repository: configs that train, files and targets that exist."""

import re
from pathlib import Path

import pytest
import torch

from fastreid.utils.events import EventStorage

from conftest import CONFIGS, words
from icre.config import load_config
from icre.modeling import build_model

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "projects").rglob("*.py"))
# model -> its configs, of any data set and depth
MODELS: dict[str, list[Path]] = {}
for path in sorted(CONFIGS.rglob("*.yml")):
    if path.name.startswith("Base-") or path.parent.name == "ablations":
        continue
    MODELS.setdefault(re.sub("^(llcm_|regdb_)|_r[0-9]+$", "", path.stem), []).append(path)


RESNETS = ("build_resnet_backbone", "build_two_stream_resnet_backbone")


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_every_config_builds_and_trains_a_step(model):
    """With ResNet-18 in place of deeper ones, but for MGN, whose branches need bottlenecks."""
    options = [
        "MODEL.DEVICE",
        "cpu",
        "MODEL.BACKBONE.PRETRAIN",
        "False",
        "MODEL.HEADS.NUM_CLASSES",
        "4",
    ]
    small = words("MODEL.BACKBONE.DEPTH 18x MODEL.BACKBONE.FEAT_DIM 512")
    trained = set()
    for path in MODELS[model]:
        backbone = load_config(path).MODEL.BACKBONE.NAME
        if backbone == "build_timm_backbone":
            pytest.importorskip("timm")
        may_be_small = model != "mgn" and backbone in RESNETS
        cfg = load_config(path, [*options, *small * may_be_small])
        if cfg.MODEL.dump() not in trained:  # data sets share their models
            size = cfg.INPUT.SIZE_TRAIN if model.startswith("vit") else (96, 32)
            loss, gradients = train_a_step(build_model(cfg).train(), size)
            assert loss.isfinite() and any(one.abs().sum() > 0 for one in gradients), path
            trained.add(cfg.MODEL.dump())


def train_a_step(
    model: torch.nn.Module, size: tuple[int, int]
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    batch = {
        # of (96, 32) MGN cuts layer4's map into three stripes
        "images": 255 * torch.rand(8, 3, *size),
        "targets": torch.arange(4).repeat_interleave(2),
        "camids": torch.zeros(8, dtype=torch.long),
        "modalities": torch.tensor([0, 1] * 4),
    }
    with EventStorage():
        loss = sum(model(batch).values())
    loss.backward()
    return loss.detach(), [p.grad for p in model.parameters() if p.grad is not None]


def test_files_are_short():
    lines = {path.name: len(path.read_text().splitlines()) for path in SOURCES}
    assert {name: count for name, count in lines.items() if count > 350} == {}


def test_only_compat_patches_fastreid():
    patch = re.compile(r"^\s*(fastreid[\w.]*|ReidEvaluator|Baseline|DefaultTrainer)\.\w+ = ", re.M)
    patching = {path.parent.name for path in SOURCES if patch.search(path.read_text())}
    assert patching == {"compat"}


PAGES = [
    *("README.md", "CONTRIBUTING.md", "projects/ICRE/README.md", "projects/SynthVI/README.md"),
    *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))),
    "docs/results/README.md",
]


@pytest.mark.parametrize("page", PAGES)
def test_pages_name_files_that_exist(page):
    text = (ROOT / page).read_text()
    files = set(re.findall(r"\b(?:tools|configs|tests|projects|docs)/[\w./-]+\.\w+", text))
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    files -= {"configs/ablations/SPEC.yml"}  # stands for any
    assert [name for name in files if not (ROOT / name).exists()] == []
    assert [name for name in links if not ((ROOT / page).parent / name).exists()] == []


def test_the_readme_names_files_and_links():
    text = (ROOT / "README.md").read_text()
    assert "](docs/" in text and "configs/SYSU/icre_r50.yml" in text


def test_pages_name_make_targets_that_exist():
    makefile = (ROOT / "Makefile").read_text()
    for page in PAGES:
        for name in re.findall(r"make (\w+) *(?=[#`\n])", (ROOT / page).read_text()):
            assert re.search(rf"^{name}:", makefile, re.M), f"{page}: make {name}"
