"""The examples of docs/extend.md, by the page's own commands, in an empty folder."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from conftest import CONFIGS, SHORT, words
from icre.datasets.sysu import SYSUMM01
from icre.modality import INFRARED
from test_imports import icre
from test_table import rows_of, write

ROOT = CONFIGS.parent
PAGE = (ROOT / "docs/extend.md").read_text()
EXAMPLES = ROOT / "projects/ICRE/examples"
COMMANDS = [
    shlex.split(command.replace("\\\n", " "))[1:]
    for block in re.findall(r"```\n(icre .*?)```", PAGE, re.DOTALL)
    for command in re.split(r"\n(?=icre )", block.strip())
]
TRAININGS = [command for command in COMMANDS if command[0] == "train"]
SMALL = (*SHORT, *words("MODEL.MPFR.DIM 32 SOLVER.MAX_EPOCH 1"))


def doors(tree: Path, root: Path) -> None:
    """The images of a tree in SYSU-MM01's layout, in that of my_dataset.py."""
    data = SYSUMM01(root=tree)
    people = {"train": set(), "test": set()}
    for role, items in (("train", data.train), ("test", data.query + data.gallery)):
        for number, (path, *_) in enumerate(items):
            person = Path(path).parent.name
            light = "night" if data.modality_of(path) == INFRARED else "day"
            target = root / "Doors" / light / person / f"{number:05d}.jpg"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
            people[role].add(int(person))
    for role, pids in people.items():
        (root / "Doors" / f"{role}.txt").write_text(",".join(map(str, sorted(pids))))


@pytest.fixture
def place(tmp_path, demo_root):
    """A folder with the examples, a table and the tree of `my_dataset`."""
    for file in EXAMPLES.glob("my_*.py"):
        shutil.copy(file, tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    return tmp_path


def test_the_page_has_a_command_for_everything():
    modules = {file.stem for file in EXAMPLES.glob("my_*.py")}
    assert {word for command in COMMANDS for word in command if word in modules} == modules
    assert len(TRAININGS) == 7


@pytest.mark.slow
@pytest.mark.parametrize("command", TRAININGS, ids=lambda command: " ".join(command[2:])[-60:])
def test_the_trainings_of_the_page(command, place, demo_root):
    root = demo_root
    if any("timm" in word for word in command):
        pytest.importorskip("timm")
    if "my_dataset" in command:
        root = place / "datasets"
        doors(demo_root, root)
    if "people.csv" in command:
        write(place / "people.csv", rows_of(demo_root))
        icre(place, "check", "table", "people.csv")
    protocols = "('sysu-all-single',)" if not {"my_dataset", "people.csv"} & {*command} else "()"
    options = ("OUTPUT_DIR", "run", "DATASETS.ROOT", str(root), "TEST.PROTOCOLS", protocols)
    said = icre(place, *command, *options, *SMALL)
    assert "Rank-1" in said
    imported = command[command.index("--import") + 1] if "--import" in command else None
    needed = imported in ("my_backbone", "my_architecture")
    trust = ("--trust-imports",) if needed else ()
    icre(place, "export", "--weights", "run", "--out", "exported", "--modality", "visible", *trust)
    code = "doors" if imported == "my_dataset" else "people" if "people.csv" in command else "sysu"
    own = ("--import", imported) if imported == "my_dataset" else ()
    assert code in icre(place, "score", "run", *own)
    if own:
        icre(place, "check", "doors", "datasets", *own)


def test_the_table_of_small_backbones_is_of_its_records():
    found = json.loads((ROOT / "docs/results/small_backbones.json").read_text())
    for row in found["rows"]:
        record, speed = row["record"], row["images_per_second"]
        assert (ROOT / row["config"]).is_file()
        assert (
            f"| {row['backbone']} | {speed['training']} | {speed['features_64']}; "
            f"{speed['features_1']} | {record['Rank-1']['mean']:.1f} ± "
            f"{record['Rank-1']['std']:.1f} | {record['mAP']['mean']:.1f} |\n"
        ) in PAGE
