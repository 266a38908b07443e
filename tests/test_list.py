"""`icre list`, and the generated reference docs/config-keys.md."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from icre.compat import registered

from fastreid.config import get_cfg
from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.modeling.backbones import BACKBONE_REGISTRY
from fastreid.modeling.heads import REID_HEADS_REGISTRY
from fastreid.modeling.meta_arch import META_ARCH_REGISTRY

from icre.commands import list as command
from icre.config import load_config
from icre.config.keys import KEEP, KEYS
from icre.config.shipped import find_config
from icre.data.loader import SAMPLERS
from icre.datasets.protocol import PROTOCOLS
from icre.listing.comments import fastreid_comments
from icre.listing.keys import key_entries
from icre.listing.names import MEANINGS, kinds
from icre.modeling.losses import LOSS_REGISTRY
from test_imports import LOSS

ROOT = Path(__file__).parents[1]
PAGE = runpy.run_path(str(ROOT / "docs" / "config_keys.py"))
KNOWN = {
    "models": lambda: registered(META_ARCH_REGISTRY),
    "losses": lambda: registered(LOSS_REGISTRY),
    "datasets": lambda: registered(DATASET_REGISTRY),
    "backbones": lambda: registered(BACKBONE_REGISTRY),
    "heads": lambda: registered(REID_HEADS_REGISTRY),
    "samplers": lambda: SAMPLERS,
    "protocols": lambda: PROTOCOLS,
}


def listed(capsys, *arguments: str) -> str:
    assert command.main([*arguments]) == 0
    return capsys.readouterr().out


def leaves(node: dict, above: str = "") -> dict:
    """{dotted key: value} of a config."""
    found = {}
    for name, value in node.items():
        inner = isinstance(value, dict)
        found |= leaves(value, f"{above}{name}.") if inner else {f"{above}{name}": value}
    return found


@pytest.mark.parametrize("kind", KNOWN)
def test_every_registered_name_appears_with_meaning_and_origin(kind, capsys):
    lines = listed(capsys, kind).splitlines()
    assert {line.split()[0] for line in lines} == set(KNOWN[kind]())
    rows = json.loads(listed(capsys, kind, "--json"))
    assert [row["name"] for row in rows] == [line.split()[0] for line in lines]
    own = [row for row in rows if row["origin"] in ("icre", "fast-reid")]
    assert own and all(row["meaning"] for row in own)


def test_every_kind_is_known_to_the_command():
    assert {*kinds(), "keys", "configs", "examples"} == set(command.KINDS)
    names = {name for kind in kinds().values() for name in (row.name for row in kind())}
    assert set(MEANINGS) <= names


def test_whose_a_name_is(capsys):
    rows = {row["name"]: row for row in json.loads(listed(capsys, "losses", "--json"))}
    assert rows["ICGLoss"]["origin"] == "icre"
    assert rows["TripletLoss"]["origin"] == "fast-reid"  # ours wraps fast-reid's function
    assert list(rows) == sorted(rows)


@pytest.mark.slow
def test_own_losses_and_keys_appear_with_their_module(tmp_path):
    """In a process of its own: what it registers stays."""
    (tmp_path / "mine.py").write_text(LOSS)
    code = (
        "import sys; from icre.commands.list import main\n"
        "main(['losses', 'my', '--import', 'mine']), main(['keys', 'MODEL.LOSSES.MINE', "
        "'--import', 'mine']), sys.exit(main(['losses', '--import', 'not_there']))"
    )
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["MyLoss", "mine"] and lines[1] == "MODEL.LOSSES.MINE.SCALE  0.5"
    assert lines[2:] == ["    a number; mine"]
    assert done.returncode == 2 and "no module not_there" in done.stderr


def test_an_unknown_kind_names_the_known_ones(capsys):
    with pytest.raises(SystemExit) as caught:
        command.main(["networks"])
    said = capsys.readouterr().err
    assert caught.value.code == 2 and all(kind in said for kind in command.KINDS)


def test_an_unknown_prefix_is_one_line(capsys):
    assert command.main(["keys", "MODEL.NOTHING"]) == 2
    assert capsys.readouterr().err == "error: no name in keys begins with 'MODEL.NOTHING'\n"


def test_shipped_configs_are_named_as_config_file_takes_them(capsys):
    names = [row["name"] for row in json.loads(listed(capsys, "configs", "--json"))]
    assert "SYSU/icre_r50.yml" in names and "ablations/components.yml" in names
    assert all(find_config(name).samefile(ROOT / "configs" / name) for name in names)


def test_configs_of_the_repository(capsys, tmp_path):
    folder = str(ROOT / "configs")
    rows = json.loads(listed(capsys, "configs", "--configs", folder, "--json"))
    assert {row["name"] for row in rows} == {str(path) for path in Path(folder).rglob("*.yml")}
    origins = {Path(row["name"]).name: row["origin"] for row in rows}
    assert origins["Base-VI.yml"] == "_BASE_" and origins["rho1.yml"] == "icre ablate"
    assert all(row["meaning"] for row in rows if row["origin"] == "icre train")
    shown = listed(capsys, "configs", "demo/icre", "--configs", folder)
    assert shown.split()[0] == f"{folder}/Demo/icre_r18.yml" and len(shown.splitlines()) == 1
    assert command.main(["configs", "--configs", str(tmp_path)]) == 2
    assert "--configs" in capsys.readouterr().err


def test_keys_are_all_keys_with_their_defaults_and_meanings(capsys):
    rows = {row["name"]: row for row in json.loads(listed(capsys, "keys", "--json"))}
    defaults = leaves(load_config())
    assert rows.keys() == defaults.keys()
    for name, value in defaults.items():
        shown = rows[name]["default"]
        assert shown == (list(value) if isinstance(value, tuple) else value)
    assert [name for name, row in rows.items() if not (row["meaning"] and row["source"])] == []
    assert rows["DIST_TIMEOUT"]["unit"] == "s"
    assert rows["MODEL.MPFR.STAGES"]["source"].endswith("(its stages 2-4)")
    assert rows["MODEL.DEVICE"]["source"].startswith("fast-reid 1.4.0; icre's default")
    assert rows["INPUT.CROP.SCALE"]["allowed"] == "a list of 2, each more than 0, at most 1"
    assert rows["MODEL.LOSSES.ICG.RHO1"]["allowed"] == "a number or None"


def test_keys_of_a_section(capsys):
    shown = listed(capsys, "keys", "model.mpfr.")
    names = [line.split()[0] for line in shown.splitlines() if not line.startswith(" ")]
    assert names == sorted(key.name for key in KEYS if key.name.startswith("MODEL.MPFR."))
    assert "MODEL.MPFR.DIM  512 [channels]" in shown


def test_fastreids_comments_are_those_of_their_keys():
    found = fastreid_comments()
    assert set(found) <= set(leaves(get_cfg()))
    assert found["MODEL.QUEUE_SIZE"] == "MoCo memory size"
    assert found["INPUT.REA.ENABLED"] == "Random Erasing"
    assert found["MODEL.HEADS.NECK_FEAT"] == "Triplet feature using feature before(after) bnneck"
    assert "MODEL.BACKBONE.DEPTH" not in found and "SOLVER.NESTEROV" not in found


def test_the_reference_is_up_to_date():
    assert PAGE["main"](["--check"]) == 0, "run: python docs/config_keys.py"
    text = PAGE["PAGE"].read_text()
    assert "Generated" in text and all(f"`{row.name}`" in text for row in key_entries())
    changed = [key.name for key in KEYS if key.default is not KEEP]
    assert len(changed) > 50
