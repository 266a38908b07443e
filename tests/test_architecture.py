"""The layout that README.md promises: one-way imports, short files, configs that build."""

import ast
import re
from pathlib import Path

import pytest
import torch

from fastreid.utils.events import EventStorage

from conftest import CONFIGS
from icre.config import load_config
from icre.engine.trainer import Trainer

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "projects/ICRE/icre"
SOURCES = sorted(PACKAGE.rglob("*.py"))
# each may import itself and what stands to its left
ORDER = (
    "errors",
    "cli",
    "webpage",
    "modality",
    "compat",
    "environment",
    "config",
    "data",
    "modeling",
    "evaluation",
    "retrieval",
    "visual",
    "engine",
    "benchmark",
)
STEPPED = set()  # MODEL nodes that have trained a step
ALL_CONFIGS = sorted(
    p
    for p in CONFIGS.rglob("*.yml")
    if not p.name.startswith("Base") and p.parent.name != "ablations"
)


def part(path: Path) -> str:
    """The top-level part of the package that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_parts(path: Path) -> set[str]:
    """Parts of the package that a file imports, wherever in the file."""
    parts = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        parts |= {name.split(".")[1] for name in names if name.startswith("icre.")}
    return parts


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_data_flows_one_way(path):
    if part(path) == "__init__":
        assert imported_parts(path) == set()
        return
    allowed = set(ORDER[: ORDER.index(part(path)) + 1])
    if part(path) == "modeling":
        allowed.remove("data")
    assert imported_parts(path) <= allowed | {"__version__"}


def test_every_part_has_its_place_in_the_order():
    assert {part(path) for path in SOURCES} - {"__init__"} == set(ORDER)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_files_are_short_and_documented(path):
    text = path.read_text()
    tree = ast.parse(text)
    assert len(text.splitlines()) <= 300
    assert max(map(len, text.splitlines()), default=0) <= 110
    assert ast.get_docstring(tree)
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            nested = any(
                node in ast.walk(f)
                for f in ast.walk(tree)
                if isinstance(f, ast.FunctionDef) and f is not node
            )
            assert nested or ast.get_docstring(node), f"{path.name}: {node.name} has no docstring"


def test_only_compat_patches_fastreid():
    patch = re.compile(r"^\s*(fastreid[\w.]*|ReidEvaluator|Baseline|DefaultTrainer)\.\w+ = ", re.M)
    assert {p.name for p in SOURCES if patch.search(p.read_text())} == {"compat.py"}


@pytest.mark.parametrize("path", ALL_CONFIGS, ids=lambda p: p.relative_to(CONFIGS).as_posix())
def test_every_config_builds_and_trains_a_step(path):
    cfg = load_config(
        str(path),
        ["MODEL.DEVICE", "cpu", "MODEL.BACKBONE.PRETRAIN", "False", "MODEL.HEADS.NUM_CLASSES", "4"],
    )
    if cfg.MODEL.dump() not in STEPPED:  # data sets share their models
        train_a_step(Trainer.build_model(cfg).train())
        STEPPED.add(cfg.MODEL.dump())


def train_a_step(model: torch.nn.Module) -> None:
    batch = {
        "images": 255 * torch.rand(8, 3, 96, 32),  # MGN cuts layer4's map into three stripes
        "targets": torch.arange(4).repeat_interleave(2),
        "camids": torch.zeros(8, dtype=torch.long),
        "modalities": torch.tensor([0, 1] * 4),
    }
    with EventStorage():
        losses = model(batch)
    total = sum(losses.values())
    total.backward()
    assert torch.isfinite(total)
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize("readme", ["README.md", "projects/ICRE/README.md"])
def test_the_readme_speaks_of_files_that_exist(readme):
    text = (ROOT / readme).read_text()
    files = set(re.findall(r"\b(?:tools|configs|tests|projects|docs)/[\w./-]+\.\w+", text))
    assert files
    missing = [name for name in files if not (ROOT / name).exists()]
    assert missing == []
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    assert [name for name in links if not ((ROOT / readme).parent / name).exists()] == []


def test_the_readmes_make_targets_exist():
    targets = set(re.findall(r"make (\w+)", (ROOT / "README.md").read_text()))
    makefile = (ROOT / "Makefile").read_text()
    assert {"demo", "test"} <= targets
    assert [name for name in targets if not re.search(rf"^{name}:", makefile, re.M)] == []
