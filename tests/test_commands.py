"""The commands: launchers in tools/, `icre COMMAND`, and help texts that appear at once."""

import ast
import importlib
import importlib.metadata
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from icre import commands, compat
from icre.commands import completion
from icre.utils import cli

TOOLS = sorted((Path(__file__).parents[1] / "tools").glob("*.py"))
ONLY_ICRE = {"completion", "try_it"}  # of an installed package
MODULES = sorted(module for module, _ in commands.COMMANDS.values())
HEAVY = [
    "torch",
    "fastreid",
    "icre.compat",
    "numpy",
    "scipy",
    "sklearn",
    "matplotlib",
    "h5py",
    "tensorboard",
    "PIL",
]
HELP = """
import argparse, importlib, sys

def texts(parser):
    yield parser.format_help()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                yield from texts(sub)

modules, heavy = (words.split() for words in sys.argv[1:])
for name in modules:
    parser = importlib.import_module(f"icre.commands.{name}").parser()
    assert all(text.startswith("usage: ") for text in texts(parser)), name
print(*[name for name in heavy if name in sys.modules])
"""


def test_help_imports_nothing_heavy():
    """One process for all commands, as each is imported in a fraction of a second."""
    words = [sys.executable, "-c", HELP, " ".join(MODULES), " ".join(HEAVY)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "\n"), done.stderr


def test_every_tool_launches_a_command_and_nearly_every_command_has_one():
    launched = []
    for path in TOOLS:
        body = ast.parse(path.read_text()).body
        imports = [one for one in body if isinstance(one, ast.ImportFrom)]
        assert len(body) == 4 and [one.names[0].name for one in imports] == ["main"], path
        launched.append(imports[0].module.removeprefix("icre.commands."))
    assert sorted(launched) == sorted({*MODULES} - ONLY_ICRE)


@pytest.mark.parametrize("module", MODULES)
def test_help_exits_with_success(module, capsys):
    for words in (["--help"], ["--no-such-option"]):
        with pytest.raises(SystemExit) as caught:
            importlib.import_module(f"icre.commands.{module}").main(words)
        assert caught.value.code == (0 if words == ["--help"] else 2)
    captured = capsys.readouterr()
    assert captured.out.startswith("usage: ") and "usage: " in captured.err


def test_icre_lists_and_runs_commands(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["icre"])
    assert commands.main() == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line[:2] == "  "]
    assert listed == list(commands.COMMANDS)
    assert commands.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("icre ")
    assert commands.main(["trian"]) == 2
    assert "'trian'" in capsys.readouterr().err
    assert commands.main(["score", str(tmp_path / "nowhere.npz")]) == 2
    assert f"{tmp_path}/nowhere.npz" in capsys.readouterr().err


def test_a_reader_that_has_what_it_wanted_ends_a_command_quietly(monkeypatch, capfd):
    read, write = os.pipe()
    os.close(read)
    with open(write, "w") as output:
        monkeypatch.setattr("sys.stdout", output)
        assert cli.run(lambda: print("a line")) == 128 + signal.SIGPIPE
    assert capfd.readouterr().err == ""


def test_a_connection_that_breaks_is_no_reader(capsys):
    def broken() -> None:
        raise BrokenPipeError("of a socket")

    with pytest.raises(BrokenPipeError):
        cli.run(broken)


def test_completion_knows_commands_and_options():
    shtab = pytest.importorskip("shtab")
    parser = completion.whole_parser()
    (below,) = parser._subparsers._group_actions
    assert set(below.choices) == set(commands.COMMANDS)
    assert "--config-file" in below.choices["train"].format_help()
    for shell in completion.SHELLS:
        text = shtab.complete(parser, shell)
        assert "regdb-splits" in text and "rerank" in text


@pytest.mark.parametrize("package", ["fastreid", "faiss"])
def test_a_missing_package_is_one_line_with_what_to_run(package, monkeypatch, capsys):
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    def command() -> None:
        if package == "fastreid":
            compat.check_version()
        else:
            importlib.import_module("faiss")

    monkeypatch.setattr("importlib.metadata.version", missing)
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert cli.run(command) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"{package} is not installed. Run: pip install" in said
