"""The Dockerfile, as far as it can be checked without Docker."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from icre.commands import COMMANDS, search

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
LINES = [line.split(maxsplit=1) for line in TEXT.splitlines() if line and line[0] != "#"]


def values(name: str) -> list[str]:
    return [value for word, value in LINES if word == name]


def test_what_is_copied_exists_and_is_sent():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    sent = {line[1:] for line in ignored if line.startswith("!")}
    copied = [source for value in values("COPY") for source in value.split()[:-1]]
    assert len(copied) >= 6 and "*" in ignored
    for source in copied:
        assert (ROOT / source).exists() and source in sent, source
    assert sent == set(copied)
    # each room is below its own folder, where setup.py looks for it
    for value in values("COPY"):
        *sources, target = value.split()
        assert target == "./" or [target] == sources


def test_its_commands_parse():
    for command in values("RUN"):
        subprocess.run(["sh", "-n", "-c", command], check=True)
    program, *words = json.loads(values("ENTRYPOINT")[0]) + json.loads(values("CMD")[0])
    assert program == "icre" and words[0] == "search" and COMMANDS["search"][0] == "search"
    args = search.parser().parse_args(words[1:])
    assert args.host == "0.0.0.0" and args.weights and str(args.gallery) in values("VOLUME")[0]
    assert values("EXPOSE") == [str(args.port)]
    kind, _, command = values("HEALTHCHECK")[0].partition("CMD ")
    program, option, code = json.loads(command)
    assert (program, option) == ("python", "-c") and f":{args.port}/health" in code
    compile(code, "HEALTHCHECK", "exec")
    assert "--timeout=" in kind and "--start-period=" in kind


def test_it_runs_as_an_ordinary_user_with_what_setup_py_offers():
    words = [word for word, _ in LINES]
    assert values("USER") == ["icre"] and words.index("USER") < words.index("ENTRYPOINT")
    installed = next(command for command in values("RUN") if "pip install" in command)
    extras = re.search(r"\.\[([^]]+)]", installed)[1].split(",")
    setup = (ROOT / "setup.py").read_text()
    default = re.search(r"^ARG FAISS=(\w+)$", TEXT, re.M)[1]
    for extra in (*extras, "gpu"):
        extra = extra.replace("$FAISS", default)
        assert f'        "{extra}": [' in setup
    version = re.search(r'FASTREID = "(.+)"', setup)[1]
    assert f"fastreid=={version}" in shlex.split(installed)
    names = {line.split("==")[0].lower() for line in (ROOT / "requirements.txt").open()}
    assert {"fastapi", "uvicorn", "python-multipart", "prometheus_client"} <= names


@pytest.mark.parametrize("word", ["curl", "wget", "git ", "http://", "https://"])
def test_nothing_comes_from_elsewhere_than_the_package_index(word):
    for command in values("RUN"):
        assert word not in command
