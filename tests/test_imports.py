"""IMPORTS: losses and backbones in a module of somebody's own, through every command."""

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import CONFIGS, SHORT, words
from faults.runs import ended, start
from icre.config import imports, load_config
from icre.utils.errors import UserError

LOSS = """
import torch
from fastreid.config import CfgNode
from icre.compat import registered
from icre.modeling.losses import LOSS_REGISTRY

def add_config(cfg):
    cfg.MODEL.LOSSES.MINE = CfgNode({"SCALE": 0.5})

if "MyLoss" not in registered(LOSS_REGISTRY):
    @LOSS_REGISTRY.register()
    class MyLoss(torch.nn.Module):
        def __init__(self, cfg):
            super().__init__()
            self.scale = cfg.MODEL.LOSSES.MINE.SCALE

        def forward(self, outputs, targets, modalities):
            return {"loss_mine": self.scale * outputs.features.float().pow(2).mean()}
"""
BACKBONE = """
from fastreid.modeling.backbones import BACKBONE_REGISTRY

def build_mine(cfg):
    return BACKBONE_REGISTRY.get("build_two_stream_resnet_backbone")(cfg)

BACKBONE_REGISTRY.register(build_mine)
"""
ICRE = str(CONFIGS / "Demo/icre_r18.yml")
MINE = ("MODEL.LOSSES.NAME", "('CrossEntropyLoss','MyLoss')", "MODEL.LOSSES.MINE.SCALE", "2")
SMALL = (*SHORT, *words("MODEL.MPFR.DIM 32 SOLVER.MAX_EPOCH 1 TEST.PROTOCOLS ('sysu-all-single',)"))


def icre(place: Path, *arguments: str, status: int = 0) -> str:
    """Run the command in a folder, as a user does; returns what it says.

    In a fork, which has imported torch already; what it registers is gone with it.
    """
    log = place / "said.txt"
    log.unlink(missing_ok=True)
    with contextlib.chdir(place):
        found = ended(start([*arguments], log))
    said = log.read_text()
    assert found == status, said[-3000:]
    assert "Traceback" not in said
    return said


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """The current folder, with `mine.py`; what it registers stays, its import does not."""
    (tmp_path / "mine.py").write_text(LOSS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(imports, "_trusted", False)
    yield tmp_path
    sys.modules.pop("mine", None)


def test_modules_add_keys_that_files_and_options_set(place):
    file = place / "mine.yml"
    file.write_text(
        f"_BASE_: {ICRE}\nIMPORTS: [mine]\n"
        "MODEL: {LOSSES: {NAME: [MyLoss], MINE: {SCALE: 3}}}\n"
    )
    cfg = load_config(file)
    assert cfg.IMPORTS == ("mine",) and type(cfg.MODEL.LOSSES.MINE.SCALE) is float
    assert load_config(file, ["MODEL.LOSSES.MINE.SCALE", "4"]).MODEL.LOSSES.MINE.SCALE == 4
    assert load_config(ICRE, ["IMPORTS", "('mine',)", *MINE]).MODEL.LOSSES.MINE.SCALE == 2
    with pytest.raises(UserError, match=r"did you mean MODEL\.LOSSES\.MINE\.SCALE"):
        load_config(file, ["MODEL.LOSSES.MINE.SCALES", "4"])
    assert "MINE" not in load_config(ICRE).MODEL.LOSSES


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("('no_such',)", "no module no_such"),
        ("('mine.no_such',)", "no module mine.no_such"),
        ("('my-losses.py',)", "is no name of a module"),
        ("('/tmp/mine',)", "is no name of a module"),
        ("(1,)", "is no name of a module"),
        ("('',)", "is no name of a module"),
        ("mine", "must be a list"),
        ("('broken',)", "broken needs no_such_package, which is missing"),
    ],
)
def test_what_cannot_be_imported_is_one_line(value, said, place):
    (place / "broken.py").write_text("import no_such_package")
    with pytest.raises(UserError, match=said) as caught:
        load_config(ICRE, ["IMPORTS", value])
    assert "IMPORTS" in str(caught.value) and "\n" not in str(caught.value)


def test_a_checkpoints_config_imports_nothing_unless_it_is_trusted(place, monkeypatch):
    text = load_config(ICRE, ["IMPORTS", "('mine',)", *MINE]).dump()
    (place / "mine.py").write_text("raise SystemExit('imported')")
    del sys.modules["mine"]
    cfg = load_config(text=text, trust_imports=False)
    assert "MINE" not in cfg.MODEL.LOSSES and cfg.IMPORTS == ("mine",)
    with pytest.raises(SystemExit, match="imported"):
        load_config(text=text)
    imports.trust()
    with pytest.raises(SystemExit, match="imported"):
        load_config(text=text, trust_imports=False)


def test_a_model_of_untrusted_parts_names_the_modules(place):
    options = ["IMPORTS", "('mine',)", "MODEL.BACKBONE.NAME", "build_no_such"]
    with pytest.raises(UserError, match=r"build_no_such.* of mine, .*--trust-imports"):
        load_config(ICRE, options, trust_imports=False)


@pytest.mark.slow
def test_an_own_loss_goes_through_every_command(demo_root, tmp_path):
    here, other = tmp_path / "here", tmp_path / "other"
    here.mkdir(), other.mkdir()
    (here / "mine.py").write_text(LOSS)
    data = ("DATASETS.ROOT", str(demo_root), *SMALL)
    training = ("train", "--config-file", ICRE, "--import", "mine")
    said = icre(here, *training, "OUTPUT_DIR", "run", *data, *MINE)
    assert "loss_mine" in said
    two = icre(here, *training, "--num-gpus", "2", "OUTPUT_DIR", "two", *data, *MINE)
    assert "loss_mine" in two
    (here / "spec.yml").write_text(
        f"config: {ICRE}\nseeds: [0]\nprotocol: sysu-all-single\ndraw: official\nrows:\n"
        "  without: {}\n  with: {options: {IMPORTS: [mine], MODEL.LOSSES.MINE.SCALE: 1, "
        "MODEL.LOSSES.NAME: [CrossEntropyLoss, MyLoss]}}\n"
    )
    table = icre(here, "ablate", "spec.yml", "--out", "ablation", "--options", *data)
    assert "with" in table and (here / "ablation/results.json").is_file()
    # elsewhere, without the module
    run, cam = str(here / "run"), str(demo_root / "SYSU-MM01/cam1")
    icre(other, "search", "index", "--weights", run, "--out", "gallery", cam)
    icre(other, "search", "query", "gallery", str(demo_root / "SYSU-MM01/cam3"), "--json", "a.json")
    icre(other, "export", "--weights", run, "--out", "exported", "--modality", "visible")
    skipped = ("--without", "cost", "attention", "embedding")
    icre(other, "report", run, "--out", "report.html", *skipped)
    config = str(here / "run/config.yaml")
    said = icre(other, "train", "--resume", "--config-file", config, status=2)
    assert "no module mine" in said


@pytest.mark.slow
def test_an_own_backbone_is_loaded_where_it_is_trusted(demo_root, tmp_path):
    (tmp_path / "mine.py").write_text(BACKBONE + 'build_mine.__module__ = "mine"\n')
    data = ("DATASETS.ROOT", str(demo_root), "MODEL.BACKBONE.NAME", "build_mine", *SMALL)
    icre(tmp_path, "train", "--config-file", ICRE, "--import", "mine", "OUTPUT_DIR", "run", *data)
    wanted = ("export", "--weights", "run", "--out", "exported", "--modality", "visible")
    assert "--trust-imports" in icre(tmp_path, *wanted, status=2)
    icre(tmp_path, *wanted[:1], "--trust-imports", *wanted[1:])
    code = "import icre; print(icre.load('run', 'cpu', trust_imports=True)('{}').shape)"
    image = next((demo_root / "SYSU-MM01/cam1").rglob("*.jpg"))
    done = subprocess.run(
        [sys.executable, "-c", code.format(image)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout.strip() == "(1, 512)", done.stderr
