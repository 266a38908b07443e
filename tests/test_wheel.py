"""The wheel alone is the product: packages, configs, pages, commands."""

import shutil
import subprocess
import sys
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

from icre.config import load_config
from icre.config.shipped import SHIPPED, find_config
from icre.listing.examples import example_entries
from icre.utils.errors import UserError

ROOT = Path(__file__).parents[1]
SOURCES = ("setup.py", "pyproject.toml", "LICENSE", "README.md", "configs", "projects")
pytestmark = pytest.mark.slow


def test_a_path_wins_over_a_shipped_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("SYSU/icre_r50.yml", "configs/SYSU/icre_r50.yml"):
        assert find_config(name) == SHIPPED / "SYSU/icre_r50.yml"
    own = tmp_path / "SYSU/icre_r50.yml"
    own.parent.mkdir()
    own.write_text("SEED: 5\n")
    assert find_config("SYSU/icre_r50.yml").samefile(own)
    assert load_config("SYSU/icre_r50.yml").SEED == 5
    for missing in ("SYSU/icre_r51.yml", "SYSU", str(SHIPPED / "none.yml"), "../configs/x.yml"):
        with pytest.raises(UserError, match=r"icre list configs|regular file"):
            load_config(missing)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy, since setuptools writes beside setup.py."""
    place = tmp_path_factory.mktemp("wheel")
    unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in SOURCES:
        source, target = ROOT / name, place / "source" / name
        target.parent.mkdir(exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True, ignore=unwanted)
        else:
            shutil.copy(source, target)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [*command, "-w", str(place), str(place / "source")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (found,) = place.glob("icre-*.whl")
    return found


def test_it_holds_every_file_that_the_packages_use(wheel):
    held = set(zipfile.ZipFile(wheel).namelist())
    for below, package in (("projects/ICRE", "icre"), ("projects/SynthVI", "synthvi")):
        folder = ROOT / below / package
        files = folder.rglob("*")
        wanted = {path for path in files if path.is_file() and path.parent.name != "__pycache__"}
        missing = {str(path.relative_to(ROOT / below)) for path in wanted} - held
        assert not missing
    configs = {f"icre/configs/{path.relative_to(SHIPPED)}" for path in SHIPPED.rglob("*.yml")}
    assert len(configs) > 40 and configs <= held
    examples = {f"icre/examples/{one.name}" for one in example_entries()}
    assert len(examples) > 5 and examples <= held


def test_its_metadata(wheel):
    archive = zipfile.ZipFile(wheel)
    (name,) = (one for one in archive.namelist() if one.endswith(".dist-info/METADATA"))
    metadata = message_from_string(archive.read(name).decode())
    assert "Apache-2.0" in (metadata["License-Expression"], metadata["License"])
    assert metadata["Description-Content-Type"] == "text/markdown" and metadata.get_payload()
    extras = set(metadata.get_all("Provides-Extra"))
    assert {"cpu", "gpu", "serve", "timm", "export", "trackers", "docs", "test"} <= extras
    assert any("licenses/LICENSE" in one for one in archive.namelist())


def test_it_works_alone(wheel, tmp_path):
    """In an empty folder, with the wheel's files in place of the checkout's."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    place = tmp_path / "empty"
    place.mkdir()
    code = (
        "import icre, sys; from icre.commands import main; "
        "assert 'site' in icre.__file__, icre.__file__; sys.exit(main())"
    )

    def run(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code, *words],
            cwd=place,
            env={"PYTHONPATH": str(tmp_path / "site"), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    assert "SYSU/icre_r50.yml" in run("list", "configs", "SYSU")
    assert "MAC" in run("analyze", "--config-file", "Demo/icre_r18.yml")
